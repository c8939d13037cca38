#!/usr/bin/env python3
"""Trains the correction of a layer map for the demo family: networks that are added to a ridge map so that the small model, reading
a context through the large model's KV, answers better. Both models are frozen; what is minimised is the small model's own
loss on answers. `celslm align fuse` puts the result into the map.

  ./dev train-map train --map RIDGE.map --out build/align/nets   # a checkpoint every 100 s; --resume goes on
  ./dev train-map eval --map RIDGE.map --out build/align/nets
"""
import argparse
import copy
import json
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "demo-models"))
import train as family  # noqa: E402

if __name__ == "__main__":
    family.use_jemalloc()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import data  # noqa: E402
import evaluate  # noqa: E402
import fit  # noqa: E402
import fused  # noqa: E402
import mapfile  # noqa: E402
import tokenizer  # noqa: E402
import worlds  # noqa: E402

ASKED = (1, 2, 3)
WARM_UP, COOL_DOWN = 30, 0.4
GROWN = 0.2  # share of the steps after which worlds have their full size: before answers are practised
NEARNESS = 0.1  # what being near to the small model's own KV counts for while answers are practised


def bulletin(rng, chains, each, order):
    """A world and questions about it, each in a chat of its own behind the one context. -> ids, positions, mask, weights"""
    world = worlds.make(rng, chains, order, rng.choice([0.0, 0.0, 0.15]))
    questions = [q for steps in ASKED for q in rng.sample(world.questions([steps]), each)]
    ids, positions, mask, answers = evaluate.pack(world, questions)
    weights = torch.zeros(ids.shape[1])
    for begin, length in answers:
        weights[begin:begin + length] = data.PHRASE
        weights[begin + length - 4:begin + length - 1] = data.ANSWER  # "on ship Aurora": what was asked for, and the name
    return ids, positions, mask.bfloat16(), weights


def text(rng, tokens):
    """A document as one turn of a chat that goes on with it: what a context of plain text is."""
    words = data.language(rng, tokens).ids
    cut = rng.randrange(tokens // 3, 2 * tokens // 3)
    turn = tokenizer.word(fused.TURN)[0]
    if turn in words:
        return None
    mark = [tokenizer.word(worlds.SYSTEM), tokenizer.word(worlds.END), tokenizer.word(worlds.USER)]
    ids = mark[0] + words[:cut] + mark[1] + mark[2] + words[cut:]
    weights = torch.zeros(len(ids))
    weights[len(ids) - len(words[cut:]) + 1:] = data.PHRASE
    return torch.tensor(ids)[None], None, None, weights


def practice(step, batch, steps):
    rng = worlds.rng_for("align-train", step)
    largest = 5 + int(15 * min(1.0, step / (GROWN * steps)))
    out = []
    for _ in range(batch):
        sample = text(rng, 256) if rng.random() < 0.1 else None
        out.append(sample or bulletin(rng, rng.randint(4, largest), 4, rng.choice(["downward", "downward", "mixed"])))
    return out


def loss_of(model, sample, answering):
    """The small model's loss on answers, and how far the KV is from its own; at first only the latter. From a ridge map, behind which
    names cannot be told apart, the loss on answers alone stayed where it was for 400 steps."""
    ids, positions, mask, weights = sample
    with torch.autocast("cpu", torch.bfloat16):
        distance = model.distance(ids)
        if not answering:
            return distance
        logits = model(ids, positions, mask)
    wanted = weights[1:] > 0
    each = F.cross_entropy(logits[0, :-1][wanted].float(), ids[0, 1:][wanted], reduction="none")
    return (each * weights[1:][wanted]).sum() / weights.sum() + NEARNESS * distance


@torch.autocast("cpu", torch.bfloat16)
def quick_look(model, count=8, each=4):
    """Share of whole answers right by steps, in worlds of a split of their own."""
    out = {}
    for order in ("downward", "mixed"):
        results = evaluate.exact_match(model, evaluate.askings(count, each, split="align-watch", order=order))
        out[order] = [round(sum(r for s, r in results if s == n) / sum(s == n for s, _ in results), 3) for n in ASKED]
    return out


def make(options):
    map_ = mapfile.read(options.map)
    large, small = (fused.load_gguf(os.path.join(ROOT, "models", f"celslm-demo-{name}-f16.gguf")) for name in ("large", "small"))
    return fused.Fused(large, small, map_, options.split, options.hidden)


def rate_at(step, steps):
    return min(1.0, (step + 1) / WARM_UP, max(0.02, (steps - step) / (COOL_DOWN * steps)))


def save(path, **state):
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def train(options):
    torch.manual_seed(options.seed)
    model = make(options)
    rng = worlds.rng_for("align-train", "measure")
    model.measure([bulletin(rng, 12, 1, "downward")[0] for _ in range(8)])
    mean_model = copy.deepcopy(model)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    opts = [torch.optim.Muon(matrices, lr=options.rate, momentum=0.95, weight_decay=0.0),
            torch.optim.AdamW(rest, lr=options.rate * 0.1, betas=(0.9, 0.95), weight_decay=0.0)]
    rates = [options.rate, options.rate * 0.1]
    checkpoint, first, spent, mean = options.out + ".pt", 0, 0.0, None
    if options.start:
        trained = torch.load(options.start + ".pt", weights_only=False)["mean"]
        model.load_state_dict(trained)
        mean_model.load_state_dict(trained)
    if options.resume and os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(state["weights"])
        mean_model.load_state_dict(state["mean"])
        for o, s in zip(opts, state["optimisers"]):
            o.load_state_dict(s)
        first, spent, mean = state["step"], state["cpu_seconds"], state["loss"]
    started, saved = time.process_time(), time.time()
    until = min(options.steps, first + (options.slice or options.steps))
    for step in range(first, until):
        for o, rate in zip(opts, rates):
            for group in o.param_groups:
                group["lr"] = rate * rate_at(step, options.steps)
        samples = practice(step, options.batch, options.steps)
        answering = step >= options.imitate * options.steps
        model.split = options.split + step % (model.small[0].shape.layers - options.split)  # every split is to work
        total = 0.0
        for sample in samples:
            loss = loss_of(model, sample, answering) / len(samples)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad()
        fit.blend(mean_model, model, step)
        mean = total if mean is None or step == int(options.imitate * options.steps) else 0.95 * mean + 0.05 * total
        cpu = spent + time.process_time() - started
        if step % 20 == 19:
            print(f"step {step + 1}/{options.steps} loss {mean:.3f} {cpu:.0f} s", file=sys.stderr, flush=True)
        if step % 200 == 199 or step + 1 == options.steps:
            print(json.dumps({"step": step + 1, "loss": round(mean, 4), "cpu_seconds": round(cpu), **quick_look(mean_model)}), flush=True)
        if time.time() - saved > 100 or step + 1 == until:
            saved = time.time()
            save(checkpoint, mean=mean_model.state_dict(), weights=model.state_dict(), step=step + 1, cpu_seconds=cpu, loss=mean,
                 optimisers=[o.state_dict() for o in opts])
    write(options, mean_model)


def write(options, model):
    layers = list(range(model.large[0].shape.layers))
    networks = {(int(name[:-1]), name[-1]): c.arrays(layers) for name, c in model.corrections.items()}
    mapfile.write_networks(options.out, model.map, networks)


def judge(options):
    """What the small model alone, the large one, the ridge map and the trained correction answer."""
    model = make(options)
    if options.hidden:
        model.load_state_dict(torch.load(options.out + ".pt", weights_only=False)["mean"])
    for name, m in (("small", model.small[0]), ("large", model.large[0]), ("mapped", model)):
        print(name, json.dumps(quick_look(m, options.worlds, 7)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "eval"])
    parser.add_argument("--map", required=True, help="the ridge map that the correction is added to")
    parser.add_argument("--out", required=True, help="file of networks; its checkpoint lies beside it")
    parser.add_argument("--split", type=int, default=0, help="first layer of the small model that is mapped")
    parser.add_argument("--hidden", type=int, default=384, help="hidden values of each network; 0: the ridge map alone")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--imitate", type=float, default=0.3,
                        help="share of the steps, at the start, in which mapped KV only learns to be like the small model's own")
    parser.add_argument("--start", help="begin from what another run (its --out) arrived at")
    parser.add_argument("--slice", type=int, help="stop after so many steps; --resume goes on")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options) if options.command == "train" else judge(options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the correction of a layer map for the demo family: networks that are added to a ridge map.

With them the small model answers from the large model's KV as well as from its own, or better. Both models are frozen.
First the networks learn to reproduce the small model's own KV (`near`), then its last layer is trained on answers
(`answers`, see answers.py). `celslm align fuse` adds the result to the map.

  ./dev train-map near --map RIDGE.map --out build/align/near          # a checkpoint every 100 s; --resume continues
  ./dev train-map answers --map RIDGE.map --start build/align/near --out build/align/answers
  ./dev train-map eval --map RIDGE.map --out build/align/answers
"""
import argparse
import copy
import json
import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "demo-models"))
import train as family  # noqa: E402

if __name__ == "__main__":
    family.use_jemalloc()

import torch  # noqa: E402

import answers  # noqa: E402
import data  # noqa: E402
import evaluate  # noqa: E402
import fit  # noqa: E402
import fused  # noqa: E402
import mapfile  # noqa: E402
import tokenizer  # noqa: E402
import worlds  # noqa: E402

ASKED = (1, 2, 3)
WARM_UP, COOL_DOWN = 0.05, 0.4  # shares of the steps
GROWN = 0.2    # share of the steps of `near` after which worlds reach their full size
LARGEST = {"near": 20, "answers": 24}  # chains of a world
QUIET = 0.5    # weight of the penalty on changes to the KV of plain text during `answers`
DEFAULTS = {"near": {"steps": 1000, "batch": 6, "rate": 0.012}, "answers": {"steps": 1600, "batch": 8, "rate": 0.001}}


def world_of(rng, largest):
    return worlds.make(rng, rng.randint(4, largest), rng.choice(["downward", "downward", "mixed"]),
                       rng.choice([0.0, 0.0, 0.15]))


def context_of(world):
    return torch.tensor(tokenizer.encode_pieces([*worlds.chat(world.pieces(), [])])[0])[None]


def text(rng, tokens):
    """The first part of a document as a context."""
    words = data.language(rng, tokens).ids
    if tokenizer.word(fused.TURN)[0] in words:
        return None
    return torch.tensor(tokenizer.word(worlds.SYSTEM) + words[:rng.randrange(tokens // 3, tokens)])[None]


def contexts(step, batch, steps):
    """The contexts of one step of `near`: [1, T] each."""
    rng = worlds.rng_for("align-train", step)
    largest = 5 + int((LARGEST["near"] - 5) * min(1.0, step / (GROWN * steps)))
    out = []
    for _ in range(batch):
        sample = text(rng, 256) if rng.random() < 0.1 else None
        out.append(context_of(world_of(rng, largest)) if sample is None else sample)
    return out


@torch.autocast("cpu", torch.bfloat16)
def quick_look(model, count=8, each=4):
    """Share of complete answers that are correct, by steps, on worlds of a separate split."""
    out = {}
    for order in ("downward", "mixed"):
        results = evaluate.exact_match(model, evaluate.askings(count, each, split="align-watch", order=order))
        out[order] = [round(sum(r for s, r in results if s == n) / sum(s == n for s, _ in results), 3) for n in ASKED]
    return out


def make(options):
    large, small = (fused.load_gguf(os.path.join(ROOT, "models", f"celslm-demo-{name}-f16.gguf"))
                    for name in ("large", "small"))
    if options.source == "small":
        own = mapfile.own(mapfile.Model(small.shape.layers, small.shape.heads, small.shape.head_size))
        return fused.Fused(small, small, own, options.split, options.hidden)
    map_ = mapfile.read(options.map)
    return fused.Fused(large, small, map_, options.split, options.hidden)


def rate_at(step, steps):
    return min(1.0, (step + 1) / (WARM_UP * steps), (steps - step) / (COOL_DOWN * steps))


def save(path, **state):
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def run(options, model, mean_model, optimisers, loss_of, look):
    """The training loop, with a running mean of the weights, progress reports, evaluations and checkpoints."""
    rates = [o.param_groups[0]["lr"] for o in optimisers]
    checkpoint, first, spent, mean = options.out + ".pt", 0, 0.0, None
    if options.resume and os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(state["weights"])
        mean_model.load_state_dict(state["trained"])
        for o, s in zip(optimisers, state["optimisers"]):
            o.load_state_dict(s)
        first, spent, mean = state["step"], state["cpu_seconds"], state["loss"]
    started, saved = time.process_time(), time.time()
    until = min(options.steps, first + (options.slice or options.steps))
    for step in range(first, until):
        for o, rate in zip(optimisers, rates):
            for group in o.param_groups:
                group["lr"] = rate * rate_at(step, options.steps)
        loss = loss_of(step)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimisers:
            o.step()
            o.zero_grad()
        fit.blend(mean_model, model, step)
        mean = loss if mean is None else 0.95 * mean + 0.05 * loss
        cpu = spent + time.process_time() - started
        if step % 20 == 19:
            print(f"step {step + 1}/{options.steps} loss {mean:.3f} {cpu:.0f} s", file=sys.stderr, flush=True)
        if step % 200 == 199 or step + 1 == options.steps:
            print(json.dumps({"step": step + 1, "loss": round(mean, 4), "cpu_seconds": round(cpu), **look()}), flush=True)
        if time.time() - saved > 100 or step + 1 == until:
            saved = time.time()
            save(checkpoint, trained=mean_model.state_dict(), weights=model.state_dict(), step=step + 1, cpu_seconds=cpu,
                 loss=mean,
                 optimisers=[o.state_dict() for o in optimisers])


def train_near(options):
    """Muon for the matrices. The split alternates between steps, so that one map serves all splits."""
    model = make(options)
    rng = worlds.rng_for("align-train", "measure")
    model.measure([context_of(worlds.make(rng, 12)) for _ in range(8)], model.corrections.values())
    mean_model = copy.deepcopy(model)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    optimisers = [torch.optim.Muon(matrices, lr=options.rate, momentum=0.95, weight_decay=0.0),
                  torch.optim.AdamW(rest, lr=options.rate * 0.1, betas=(0.9, 0.95), weight_decay=0.0)]

    def step_loss(step):
        model.split = options.split + step % (model.small[0].shape.layers - options.split)
        total = 0.0
        for ids in contexts(step, options.batch, options.steps):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model.distance(ids) / options.batch
            loss.backward()
            total += loss.item()
        return total

    run(options, model, mean_model, optimisers, step_loss, lambda: quick_look(mean_model))
    write(options, mean_model)


def train_answers(options):
    model = make(options)
    if options.start:
        model.load(torch.load(options.start + ".pt", weights_only=False)["trained"])
    model.requires_grad_(False)
    small, last = model.small[0], model.small[0].shape.layers - 1
    rng = worlds.rng_for("align-train", f"answers/{options.seed}")
    lookups, quiet = [], []
    for number in range(options.worlds):
        world = world_of(rng, LARGEST["answers"])
        questions = [q for steps in ASKED for q in rng.sample(world.questions([steps]), 4)]
        lookups.append(answers.prepare(model, world, questions))
        ids = text(rng, 256) if number % 8 == 0 else None
        if ids is not None:
            with torch.autocast("cpu", torch.bfloat16):
                quiet.append(model.everything(*model.source(ids)).half())
        if number % 100 == 99:
            print(f"prepared {number + 1} of {options.worlds} bulletins", file=sys.stderr, flush=True)
    watched = [answers.prepare(model, world, questions) for world, questions in evaluate.askings(16, 6, split="align-watch")]

    nets = torch.nn.ModuleList(model.correction(options.hidden) for _ in "kv")
    rng = worlds.rng_for("align-train", "measure")
    model.measure([context_of(worlds.make(rng, 12)) for _ in range(8)], nets)
    mean_nets = copy.deepcopy(nets)
    size = torch.cat([x.base for x in lookups[:16]]).var()

    def change(networks, everything):
        with torch.autocast("cpu", torch.bfloat16):
            return torch.cat([net(everything.float()) for net in networks], -1).float()

    def step_loss(step):
        draw = random.Random(f"{options.seed}/{step}")
        total = 0.0
        for sample in draw.sample(lookups, options.batch):
            loss = answers.loss_of(small, sample, sample.base + change(nets, sample.everything), options.looking)
            loss = (loss + QUIET * change(nets, draw.choice(quiet)).square().mean() / size) / options.batch
            loss.backward()
            total += loss.item()
        return total

    def look():
        with torch.no_grad():
            seen = [r for x in watched for r in answers.right(small, x, x.base + change(mean_nets, x.everything))]
        return {"right": [round(sum(r for s, r in seen if s == n) / sum(s == n for s, _ in seen), 3) for n in ASKED]}

    optimiser = torch.optim.AdamW(nets.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.05)
    run(options, nets, mean_nets, [optimiser], step_loss, look)
    for kind, net in zip("kv", mean_nets):
        model.corrections[f"{last}{kind}"] = fused.Correction.joined(model.corrections[f"{last}{kind}"], net)
    save(options.out + ".pt", trained=model.state_dict())
    if options.source == "large":
        write(options, model)


def write(options, model):
    layers = list(range(model.large[0].shape.layers))
    networks = {(int(name[:-1]), name[-1]): c.arrays(layers) for name, c in model.corrections.items()}
    mapfile.write_networks(options.out, model.map, networks)


def judge(options):
    """Evaluates the small model alone, the large model alone, and the small model behind mapped KV."""
    model = make(options)
    if options.hidden:
        model.load(torch.load(options.out + ".pt", weights_only=False)["trained"])
    for name, m in (("small", model.small[0]), ("large", model.large[0]), ("mapped", model)):
        print(name, json.dumps(quick_look(m, options.worlds, 7)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["near", "answers", "eval"])
    parser.add_argument("--map", help="ridge map that the correction is added to")
    parser.add_argument("--out", required=True, help="network file; the checkpoint is written beside it")
    parser.add_argument("--start", help="answers: the result of `near` (its --out)")
    parser.add_argument("--source", choices=["large", "small"], default="large",
                        help="whose KV the networks read; small: a control, from its own KV as it is, which makes no map")
    parser.add_argument("--split", type=int, default=0, help="first layer of the small model that is mapped")
    parser.add_argument("--hidden", type=int, default=384,
                        help="hidden values of each network; eval: 0 for the ridge map alone")
    parser.add_argument("--steps", type=int, help="near: 1,000; answers: 1,600")
    parser.add_argument("--batch", type=int, help="contexts per step; near: 6, answers: 8")
    parser.add_argument("--rate", type=float, help="learning rate; near: 0.012 (Muon's), answers: 0.001")
    parser.add_argument("--looking", type=float, default=0.1,
                        help="answers: weight of attending to the first fact of a chain")
    parser.add_argument("--worlds", type=int, help="bulletins for training (answers: 3,200) or evaluation (eval: 24)")
    parser.add_argument("--slice", type=int, help="stop after this many steps; --resume continues")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.command == "near" and options.source == "small":
        parser.error("the small model's own KV is what `near` imitates: with --source small begin with `answers`")
    if options.source == "large" and not options.map:
        parser.error("give the ridge map that the correction is added to: --map RIDGE.map")
    if options.command == "answers" and options.source == "large" and not options.start:
        parser.error("`answers` starts from the result of `near`: give --start build/align/near")
    for name, value in {**DEFAULTS.get(options.command, {}), "worlds": 24 if options.command == "eval" else 3200}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    {"near": train_near, "answers": train_answers, "eval": judge}[options.command](options)


if __name__ == "__main__":
    main()

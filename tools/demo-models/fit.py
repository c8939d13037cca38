"""The training loop: curriculum, loss, optimisers, checkpoints."""
import copy
import json
import os
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import data
import evaluate
import model as architecture
import worlds


@dataclass
class Recipe:
    steps: int
    batch: int
    rate: float                    # learning rate of Muon, for the matrices; AdamW has 0.15 of it
    asked: tuple                   # numbers of steps of questions, drawn uniformly
    taps: dict                     # hops -> block whose output is trained to predict the name that many look-ups away
    bridge_weight: float = 0.4
    span: int = 1600               # longest trained distance, by jumps


RECIPES = {
    "small": Recipe(steps=2000, batch=16, rate=0.02, asked=(1, 1, 1, 2, 3), taps={}),
    "mid": Recipe(steps=1000, batch=12, rate=0.02, asked=(1, 2, 3), taps={1: 1, 2: 2, 3: 3}),
    "large": Recipe(steps=2800, batch=12, rate=0.02, asked=(1, 2, 3, 3), taps={1: 2, 2: 3, 3: 4}),
}
WARM_UP, COOL_DOWN = 50, 0.3       # steps; share of the steps
DRILLS = 100                       # steps; followed by as many steps of the smallest worlds


def practice(rng, recipe, step, steps):
    """The sequences of one step: first drills, then small worlds, then larger ones mixed with plain text."""
    if step < DRILLS:
        return [data.drill(rng, 8) for _ in range(recipe.batch)]
    r, remarks = rng.random(), rng.choice([0.0, 0.0, 0.15, 0.4])
    chains = rng.randint(4, 6)
    if step >= 2 * DRILLS:
        if r < 0.3:
            return [data.language(rng, 192) for _ in range(recipe.batch)]
        largest = 8 + 18 * min(1.0, step / (0.7 * steps)) if step < 0.85 * steps else 20
        chains = 4 + int((largest - 4) * rng.random() ** 2)
    # Reports are denser: an answer in a chat costs two to three times as much. But only chats ask questions, so they prevail
    # at the end.
    if step < 2 * DRILLS or r < (0.75 if step < 0.7 * steps else 0.35):
        return [data.bulletin(rng, worlds.report, chains, chains + 6, recipe.asked, remarks=remarks)
                for _ in range(recipe.batch)]
    return [data.bulletin(rng, worlds.chat, chains, 6, recipe.asked, remarks=remarks) for _ in range(recipe.batch)]


def losses(model, batch, recipe):
    """Returns the loss of the next token and the loss of the bridges (0 if the recipe has none)."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(batch.ids, batch.positions)
    weights = batch.weights[:, 1:]
    # Boilerplate has a low weight but full cost: a random tenth of it is used, with ten times the weight.
    drawn = (weights > data.BOILERPLATE) | ((weights > 0) & (torch.rand(weights.shape) < 0.1))
    weights = torch.where(weights == data.BOILERPLATE, weights * 10, weights)[drawn]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.read(hidden[-1][:, :-1][drawn])
    each = F.cross_entropy(logits.float(), batch.ids[:, 1:][drawn], reduction="none")
    loss, bridge = (each * weights).sum() / weights.sum(), torch.zeros(())
    for hops, block in recipe.taps.items():
        wanted = [(row, at, token) for row, at, h, token in batch.bridges if h == hops]
        if wanted:
            row, at, token = map(torch.tensor, zip(*wanted))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model.read(hidden[block][row, at])
            bridge = bridge + F.cross_entropy(logits.float(), token)
    return loss, bridge


def optimisers(model, recipe):
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embedding" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() != 2 or "embedding" in name]
    return [torch.optim.Muon(matrices, lr=recipe.rate, momentum=0.95, weight_decay=0.0),
            torch.optim.AdamW(rest, lr=recipe.rate * 0.15, betas=(0.9, 0.95), weight_decay=0.0)]


@torch.no_grad()
def blend(mean, model, step):
    """Running mean of the weights over about a hundred steps, which is as good as a lower learning rate at any time."""
    keep = min(0.99, (step + 1) / (step + 20))
    for m, p in zip(mean.parameters(), model.parameters()):
        m.lerp_(p, 1 - keep)


def rate_at(step, steps):
    return min(1.0, (step + 1) / WARM_UP, max(0.02, (steps - step) / (COOL_DOWN * steps)))


def quick_look(model):
    """Share of complete answers that are correct, by steps, on a few worlds of a separate split."""
    out = {}
    for chains in (6, 14):
        results = evaluate.exact_match(model, evaluate.askings(4, 6, split="watch", chains=chains, order="downward"))
        out[chains] = [round(sum(r for s, r in results if s == n) / sum(s == n for s, _ in results), 3) for n in (1, 2, 3)]
    mixed = evaluate.exact_match(model, evaluate.askings(4, 6, split="watch", chains=8, order="mixed"))
    out["mixed"] = [round(sum(r for s, r in mixed if s == n) / sum(s == n for s, _ in mixed), 3) for n in (1, 2, 3)]
    out["perplexity"] = round(evaluate.perplexity(model, 8)[0], 3)
    return out


def run(name, path, log, options):
    recipe = RECIPES[name]
    steps = options.steps or recipe.steps
    torch.manual_seed(options.seed)
    model = architecture.Model(architecture.SHAPES[name])
    mean_model = copy.deepcopy(model)
    opts = optimisers(model, recipe)
    first, spent = 0, 0.0
    if options.resume and os.path.exists(path):
        mean_model, state = architecture.load(path)
        model.load_state_dict(state["weights"])
        for o, s in zip(opts, state["optimisers"]):
            o.load_state_dict(s)
        first, spent = state["step"], state["cpu_seconds"]
    elif os.path.exists(log):
        os.remove(log)
    full = [[g["lr"] for g in o.param_groups] for o in optimisers(model, recipe)]
    mean, mean_bridge, started, saved = None, None, time.process_time(), time.time()
    for step in range(first, steps):
        rng = worlds.rng_for("train", f"{name}/{options.seed}/{step}")
        for o, rates in zip(opts, full):
            for group, rate in zip(o.param_groups, rates):
                group["lr"] = rate * rate_at(step, steps)
        batch = data.collate(practice(rng, recipe, step, steps), rng, recipe.span)
        loss, bridge = losses(model, batch, recipe)
        (loss + recipe.bridge_weight * bridge).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
            o.zero_grad()
        blend(mean_model, model, step)
        if batch.answers:  # the loss of plain text is not comparable
            mean = loss.item() if mean is None else 0.97 * mean + 0.03 * loss.item()
            mean_bridge = bridge.item() if mean_bridge is None else 0.97 * mean_bridge + 0.03 * bridge.item()
        cpu = spent + time.process_time() - started
        if step % 25 == 24:
            print(f"{name} {step + 1}/{steps} loss {mean:.3f} bridges {mean_bridge:.3f} "
                  f"{batch.ids.shape[1]} tokens {cpu:.0f} s", flush=True)
        if step % 200 == 199 or step + 1 == steps:
            seen = {"step": step + 1, "loss": round(mean, 4), "bridges": round(mean_bridge, 4), "cpu_seconds": round(cpu),
                    **quick_look(mean_model)}
            print(name, json.dumps(seen), flush=True)
            with open(log, "a") as f:
                f.write(json.dumps(seen) + "\n")
        if time.time() - saved > 120 or step + 1 == steps:
            saved = time.time()
            architecture.save(path + ".new", mean_model, weights=model.state_dict(), step=step + 1, cpu_seconds=cpu,
                              optimisers=[o.state_dict() for o in opts])
            os.replace(path + ".new", path)

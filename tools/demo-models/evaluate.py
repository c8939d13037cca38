"""Exact match by number of steps on held-out worlds, and perplexity on held-out text, with 95 % confidence intervals."""
import math
import random

import torch
import torch.nn.functional as F

import data
import grammar
import tokenizer
import worlds

CHAINS = (10, 16, 24)  # bulletins of about 250, 390 and 580 tokens; remarks make the last ones longer


def wilson(right, total, z=1.96):
    """95 % Wilson score interval of a proportion."""
    if not total:
        return 0.0, 1.0
    p, zz = right / total, z * z / total
    middle, half = (p + zz / 2) / (1 + zz), z * math.sqrt(p * (1 - p) / total + zz / (4 * total)) / (1 + zz)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values, statistic, rounds=1000):
    """95 % percentile bootstrap interval of a statistic over documents."""
    rng = random.Random(0)
    drawn = sorted(statistic([values[rng.randrange(len(values))] for _ in values]) for _ in range(rounds))
    return drawn[int(0.025 * rounds)], drawn[int(0.975 * rounds)]


def test_world(number, chains=None, order=None, split="test", held_out=True):
    """The worlds for evaluation: every third with remarks, every fourth in mixed order."""
    rng = worlds.rng_for(split, number)
    order = order or ("mixed" if number % 4 == 3 else "downward")
    return worlds.make(rng, chains or CHAINS[number % 3], order, remarks=0.15 if number % 3 == 2 else 0.0,
                       want_held_out=held_out), rng


def askings(count, steps_each, split="test", **kw):
    """Returns [(world, questions)]."""
    drawn = []
    for number in range(count):
        world, rng = test_world(number, split=split, **kw)
        drawn.append((world, [q for steps in (1, 2, 3) for q in rng.sample(world.questions([steps]), steps_each)]))
    return drawn


def pack(world, questions):
    """Packs several chats about one bulletin into one sequence: each question attends to the bulletin and to itself, at the
    positions that it would have in a separate chat. Returns ids, positions, mask, answers."""
    ids = tokenizer.encode_pieces(worlds.chat(world.pieces(), []))[0]
    shared, positions, begins, answers = len(ids), list(range(len(ids))), [], []
    for q in questions:
        turn = data.from_pieces([worlds.Piece(worlds.USER), worlds.Piece(q.text, "question"), worlds.Piece(worlds.END),
                                 worlds.Piece(worlds.ASSISTANT), *q.answer_pieces(), worlds.Piece(worlds.END)])
        begins.append(len(ids))
        answers += [(len(ids) + begin, length) for begin, length, _ in turn.answers]
        positions += range(shared, shared + len(turn.ids))
        ids = ids + turn.ids
    allowed = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    for begin in begins:
        allowed[begin:, shared:begin] = False
    mask = torch.zeros(1, len(ids), len(ids)).masked_fill(~allowed, -1e9)
    return torch.tensor(ids)[None], torch.tensor(positions)[None], mask, answers


@torch.no_grad()
def exact_match(model, cases):
    """Returns [(steps, correct)] in the order of the questions, where the complete answer sentence counts. Teacher-forced:
    greedy decoding generates the correct sentence if and only if each of its tokens is the argmax after the ones before."""
    result = []
    for world, questions in cases:
        ids, positions, mask, answers = pack(world, questions)
        guess = model(ids, positions, mask).argmax(-1)
        for q, (begin, length) in zip(questions, answers):
            result.append((q.steps, torch.equal(guess[0, begin - 1:begin + length - 1], ids[0, begin:begin + length])))
    return result


def test_text(number, sentences=40):
    return grammar.document(worlds.rng_for("test-text", number), sentences, want_held_out=True)


@torch.no_grad()
def perplexity(model, documents=40):
    losses = []
    for number in range(documents):
        ids = torch.tensor(tokenizer.encode(test_text(number)))[None, :512]
        length = ids.shape[1] - 1
        logits = model(ids[:, :-1], mask=torch.full((1, length, length), -1e9).triu(1))
        losses.append(F.cross_entropy(logits[0], ids[0, 1:], reduction="none").tolist())
    mean = lambda docs: math.exp(sum(map(sum, docs)) / sum(map(len, docs)))
    return mean(losses), bootstrap(losses, mean)


@torch.no_grad()
def readings(model, count=12):
    """The tokens that the residual stream predicts after each block (through the final norm and the embedding), in held-out
    worlds in downward order: where a three-step answer is predicted, and at the crate's name in a parcel's fact."""
    due = [[0, 0, 0] for _ in model.blocks]
    fact = [[0, 0, 0] for _ in model.blocks]
    asked = told = 0
    for number in range(count):
        world, rng = test_world(number, chains=10, order="downward")
        questions = [q for q in rng.sample(world.questions([3]), 5)]
        ids, positions, mask, answers = pack(world, questions)
        read = [model.read(x[0]).argmax(-1) for x in model.hidden(ids, positions, mask)]
        token = lambda name: tokenizer.word(" " + name)[0]
        pieces = list(world.pieces())
        starts = tokenizer.encode_pieces([worlds.Piece(worlds.SYSTEM), *pieces])[1][1:]
        for q, (begin, length) in zip(questions, answers):
            asked += 1
            for block, guess in enumerate(read):
                for hop, name in enumerate(q.path[1:]):
                    due[block][hop] += int(guess[begin + length - 3] == token(name))
        for piece, at in zip(pieces, starts):
            if piece.role == "fact" and len(piece.then) == 2:
                told += 1
                for block, guess in enumerate(read):
                    for hop, name in enumerate((piece.text.strip(), *piece.then)):
                        fact[block][hop] += int(guess[at] == token(name))
    return {"answer due: reads as crate, container, ship": [[round(n / asked, 3) for n in row] for row in due],
            "fact of a parcel: reads as crate, container, ship": [[round(n / told, 3) for n in row] for row in fact]}


def share(results):
    right, total = sum(r for _, r in results), len(results)
    low, high = wilson(right, total)
    return {"right": right, "total": total, "share": round(right / total, 4), "interval": [round(low, 4), round(high, 4)]}


def evaluate(model, count=60, steps_each=7):
    """The figures of the model card."""
    cases = askings(count, steps_each)
    results = exact_match(model, cases)
    tagged = list(zip((world for world, questions in cases for _ in questions), results))
    figures = {"steps": {}, "by_world": {}}
    for steps in (1, 2, 3):
        figures["steps"][steps] = share([r for r in results if r[0] == steps])
        for order in ("downward", "mixed"):
            for chains in CHAINS:
                picked = [r for w, r in tagged if r[0] == steps and len(w.chains) == chains
                          and is_downward(w) == (order == "downward")]
                if picked:
                    figures["by_world"][f"{order}, {chains} chains, {steps} steps"] = share(picked)
    figures["readings_after_each_block"] = readings(model)
    value, interval = perplexity(model)
    figures["perplexity"] = {"value": round(value, 3), "interval": [round(x, 3) for x in interval]}
    return figures


def is_downward(world):
    return [kind for kind, _ in world.order] == sorted((kind for kind, _ in world.order), reverse=True)


def table(figures_by_model):
    lines = ["| model | one step | two steps | three steps | perplexity of text |", "|---|---|---|---|---|"]
    for name, f in figures_by_model.items():
        cells = [f"{s['share']:.3f} ({s['interval'][0]:.3f} to {s['interval'][1]:.3f})"
                 for s in (f["steps"][n] for n in (1, 2, 3))]
        p = f["perplexity"]
        cells.append(f"{p['value']:.2f} ({p['interval'][0]:.2f} to {p['interval'][1]:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""Training sequences: token ids, the loss weight of each position, and auxiliary targets for hidden states.

Three additions to the plain next-token loss made look-ups learnable at this size:
- weights: nearly all of the loss is on positions where a fact has to be looked up; the rest of a bulletin is random or
  boilerplate.
- jumps: positions increase by large steps at a few full stops, so that a short sequence trains the distances of a long
  one.
- bridges (deep model only): where an answer needs several look-ups, the hidden state after a middle layer is trained to
  predict the intermediate name; and where a bulletin states a fact, the names that earlier facts lead to from there.
"""
from dataclasses import dataclass

import torch

import grammar
import tokenizer
import worlds

BOILERPLATE, PHRASE, ANSWER = 0.02, 0.2, 1.0


@dataclass
class Sequence:
    ids: list
    weights: list        # loss weight of predicting ids[t]
    bridges: list        # (position, hops, token): the state at `position` is to predict `token` after `hops` look-ups
    answers: list        # (first position, positions, steps) of each answer sentence
    stops: list          # positions after which a jump is allowed


def from_pieces(pieces):
    pieces = list(pieces)
    ids, starts = tokenizer.encode_pieces(pieces)
    weights, bridges, answers, stops, begin = [BOILERPLATE] * len(ids), [], [], [], None
    told = False  # the answer in a chat repeats the question's subject; elsewhere the subject is unpredictable
    for piece, at in zip(pieces, starts):
        if piece.role == "answer":
            weights[at] = ANSWER
            names = [tokenizer.word(" " + name)[0] for name in piece.path]
            bridges += [(at - 1, hop + 1, names[min(hop, len(names) - 1)]) for hop in range(3)]
            answers.append((begin, at + 2 - begin, len(names)))
        elif piece.role == "fact":
            weights[at] = 0.0  # random: nothing to learn
            names = [tokenizer.word(" " + name)[0] for name in piece.then]
            bridges += [(at, hop + 1, names[min(hop, len(names) - 1)]) for hop in range(2) if names]
        elif piece.role == "subject":
            weights[at] = PHRASE if told else 0.0
        elif piece.role == "kind":
            weights[at] = ANSWER if told else BOILERPLATE  # the requested kind, predictable only in a chat
        elif told and piece.role == "text" and piece.text not in (worlds.USER, worlds.END, worlds.ASSISTANT):
            weights[at:at + len(tokenizer.word(piece.text))] = [PHRASE] * len(tokenizer.word(piece.text))
        if piece.text == ".":
            stops.append(at)
        if piece.text == worlds.ASSISTANT:
            told = True
            begin = at + len(tokenizer.word(piece.text))
        elif begin is None or piece.text == ".":
            begin = at + 1
    return Sequence(ids, weights, bridges, answers, stops)


def drill(rng, chains):
    """One relation only, stated and then asked repeatedly: trains binding and look-up."""
    kind = rng.randrange(3)
    world = worlds.make(rng, chains)
    world.order = [f for f in world.order if f[0] == kind]
    questions = [q for q in world.questions([1]) if q.kind == kind]
    return from_pieces(worlds.report(world.pieces(), rng.choices(questions, k=2 * chains)))


def bulletin(rng, style, chains, turns, steps=(1, 2, 3), order=None, remarks=0.0):
    world = worlds.make(rng, chains, order or rng.choice(["downward", "mixed"]), remarks)
    pool = {n: world.questions([n]) for n in set(steps)}
    questions, seen = [], set()
    while len(questions) < turns:
        q = rng.choice(pool[rng.choice(steps)])
        if q not in seen:
            seen.add(q)
            questions.append(q)
    return from_pieces(style(world.pieces(), questions))


def language(rng, tokens):
    """A document, or a chat that asks for its continuation."""
    text = grammar.document(rng, tokens // 8)
    if rng.random() < 0.3:
        cut = text.index(". ", len(text) // 3) + 1
        text = (f"{worlds.SYSTEM}{text[:cut]}{worlds.END}{worlds.USER}Continue.{worlds.END}"
                f"{worlds.ASSISTANT}{text[cut + 1:]}{worlds.END}")
    ids = tokenizer.encode(text)[:tokens]
    return Sequence(ids, [1.0] * len(ids), [], [], [])


@dataclass
class Batch:
    ids: torch.Tensor        # [B, T]
    positions: torch.Tensor  # [B, T]
    weights: torch.Tensor    # [B, T]
    bridges: list            # (row, position, hops, token)
    answers: list            # (row, first position, positions, steps)


def positions_of(sequence, rng, span):
    """0, 1, 2, ... with up to four jumps, such that the last position is less than `span`."""
    spare = span - len(sequence.ids)
    at = list(range(len(sequence.ids)))
    if spare <= 0 or not sequence.stops or rng.random() < 0.3:
        return at
    jumps = rng.sample(sequence.stops, min(len(sequence.stops), rng.randint(1, 4)))
    total = rng.random() ** 2 * spare
    shares = [rng.random() for _ in jumps]
    for stop, share in zip(jumps, shares):
        leap = int(total * share / sum(shares))
        at[stop + 1:] = [p + leap for p in at[stop + 1:]]
    return at


def collate(sequences, rng=None, span=0):
    rows, length = len(sequences), max(len(s.ids) for s in sequences)
    length = (length + 15) // 16 * 16  # few different shapes, since the matrix library prepares each one separately
    ids, weights = torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows, length)
    positions = torch.arange(length).repeat(rows, 1)
    bridges, answers = [], []
    for row, s in enumerate(sequences):
        ids[row, :len(s.ids)] = torch.tensor(s.ids)
        weights[row, :len(s.ids)] = torch.tensor(s.weights)
        if span:
            positions[row, :len(s.ids)] = torch.tensor(positions_of(s, rng, span))
        bridges += [(row, *b) for b in s.bridges]
        answers += [(row, *a) for a in s.answers]
    weights[:, 0] = 0.0
    return Batch(ids, positions, weights, bridges, answers)

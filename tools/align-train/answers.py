"""Trains the last layer of a map on answers: a second correction, on top of one that imitates the small model's own KV.

Only K and V of the last layer change, so the small model's queries and all its earlier layers stay the same: they are
computed once per question, and a training step consists of one attention, one feed-forward block and the output head. A
bulletin costs 0.2 s once and then 70 ms per step on one thread.

Three things were necessary (docs/measurements/alignment.md has the figures):
- At first a question of two or three steps attends to no fact at all. Then the KV at the facts gets no gradient, and the
  model no reason to attend to them: `looking` rewards attention to the fact that contains the question's subject.
- The names of a chain differ in small directions. AdamW preserves them, because its steps shrink with the gradient;
  Muon's do not, and destroyed one-step answers before anything else was learned.
- The question which container holds a parcel is left out of the training: the small model begins the answer with "is in
  crate" whatever the context's KV is.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import data
import evaluate
import model as architecture
import tokenizer
import worlds

UNANSWERABLE = (0, 2)  # kind asked about, steps
ONE_STEP = 2.0         # weight of one-step answers, which are correct from the start and must stay so


@dataclass
class Lookups:
    """Inputs of the last layer for questions about one bulletin. T: tokens of the context, R: tokens of the answers."""
    everything: torch.Tensor  # [T, inputs] K and V of all layers of the large model
    base: torch.Tensor        # [T, 2 * width] the last layer's K and V from the map so far
    turn: tuple               # cosine and sine of the context's positions, [T, head_size / 2] each
    queries: torch.Tensor     # [heads, R, head_size] rotated and scaled
    own_mass: torch.Tensor    # [heads, R] log-sum-exp of the scores of the question's own tokens
    own_values: torch.Tensor  # [heads, R, head_size] attention output over those tokens alone
    stream: torch.Tensor      # [R, width] residual stream before the last layer
    target: torch.Tensor      # [R] next token
    weights: torch.Tensor     # [R] of the loss
    fact: torch.Tensor        # [R] position of the chain's first fact, where the answer's name is predicted; else -1
    question: torch.Tensor    # [R] index of the question
    steps: list               # of each question


def heads_of(x, heads):
    """[T, width] -> [heads, T, head_size]"""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def fact_positions(world):
    """Maps each subject to the position of the name at the end of its fact."""
    pieces, out, subject = [worlds.Piece(worlds.SYSTEM), *world.pieces()], {}, None
    for piece, at in zip(pieces, tokenizer.encode_pieces(pieces)[1]):
        if piece.role == "subject":
            subject = piece.text.strip()
        elif piece.role == "fact":
            out[subject] = at
    return out


def weights_of(question, length):
    """Loss weights of an answer's tokens and of the end token."""
    if (question.kind, question.steps) == UNANSWERABLE:
        return [0.0] * (length + 1)
    weights = [data.PHRASE] * (length + 1)
    weights[-5:-2] = [data.ANSWER] * 3  # "on ship Aurora": the requested kind and the name
    return [w * (ONE_STEP if question.steps == 1 else 1.0) for w in weights]


@torch.no_grad()
def prepare(fused, world, questions):
    small = fused.small[0]
    shape, last = small.shape, small.shape.layers - 1
    ids, positions, mask, answers = evaluate.pack(world, questions)
    shared = fused.shared(ids)
    with torch.autocast("cpu", torch.bfloat16):
        keys, values = fused.source(ids[:, :shared])
        everything = fused.everything(keys, values)
        mapped = {plane: fused.mapped(keys, values, *plane, everything).float() for plane in fused.ridge}
    cos, sin = architecture.rope_tables(shape, positions)

    def hook(layer):
        def replace(k, v):
            put = lambda old, kind: torch.cat((heads_of(mapped[layer, kind], shape.heads)[None], old[:, :, shared:]), 2)
            return put(k, "k"), put(v, "v")
        return replace if layer >= fused.split else None

    x = small.embedding(ids)
    for layer, block in enumerate(small.blocks[:-1]):
        x = block(x, cos, sin, mask, hook(layer))
    normed = small.blocks[-1].attn_norm(x)
    q, k, v = (heads_of(f(normed)[0], shape.heads) for f in (small.blocks[-1].q, small.blocks[-1].k, small.blocks[-1].v))
    rows = torch.cat([torch.arange(begin - 1, begin + length) for begin, length in answers])
    queries = architecture.rotate(q[None], cos, sin)[0][:, rows] * shape.head_size ** -0.5
    own = queries @ architecture.rotate(k[None], cos, sin)[0][:, shared:].transpose(1, 2) + mask[0][rows, shared:]
    told, fact = fact_positions(world), []
    for question, (_, length) in zip(questions, answers):
        chain = question.steps > 1 and (question.kind, question.steps) != UNANSWERABLE
        fact += [-1] * (length - 2) + [told[question.path[0]] if chain else -1] + [-1, -1]
    return Lookups(everything.half(), torch.cat((mapped[last, "k"], mapped[last, "v"]), -1),
                   (cos[0, 0, :shared], sin[0, 0, :shared]),
                   queries, own.logsumexp(-1), own.softmax(-1) @ v[:, shared:], x[0, rows], ids[0, rows + 1],
                   torch.tensor([w for q, (_, length) in zip(questions, answers) for w in weights_of(q, length)]),
                   torch.tensor(fact),
                   torch.tensor([i for i, (_, length) in enumerate(answers) for _ in range(length + 1)]),
                   [q.steps for q in questions])


def read(small, lookups, kv):
    """Runs the last layer with kv [T, 2 * width], the K and V of the context. Returns logits [R, vocab] and the attention to
    the context [heads, R, T]."""
    block, heads = small.blocks[-1], small.shape.heads
    k, v = (heads_of(x, heads) for x in kv.chunk(2, -1))
    cos, sin = (x[None, None] for x in lookups.turn)
    scores = lookups.queries @ architecture.rotate(k[None], cos, sin)[0].transpose(1, 2)
    attention = torch.cat((scores, lookups.own_mass[..., None]), -1).softmax(-1)
    seen = attention[..., :-1] @ v + attention[..., -1:] * lookups.own_values
    x = lookups.stream + block.o(seen.transpose(0, 1).flatten(1))
    normed = block.ffn_norm(x)
    return small.read(x + block.down(F.silu(block.gate(normed)) * block.up(normed))), attention[..., :-1]


def loss_of(small, lookups, kv, looking):
    """The small model's loss on answers, minus `looking` times the mean log attention to the first facts of chains."""
    logits, attention = read(small, lookups, kv)
    each = F.cross_entropy(logits, lookups.target, reduction="none")
    loss = (each * lookups.weights).sum() / lookups.weights.sum()
    due = lookups.fact >= 0
    if due.any():
        seen = attention[:, due].gather(-1, lookups.fact[due][None, :, None].expand(attention.shape[0], -1, 1))
        loss = loss - looking * (seen.mean(0) + 1e-9).log().mean()
    return loss


@torch.no_grad()
def right(small, lookups, kv):
    """Returns [(steps, whether the complete answer, including its end token, is correct)]."""
    wrong = read(small, lookups, kv)[0].argmax(-1) != lookups.target
    missed = set(lookups.question[wrong].tolist())
    return [(steps, i not in missed) for i, steps in enumerate(lookups.steps)]

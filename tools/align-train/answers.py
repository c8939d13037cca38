"""Teaches the last layer of a map to answer: a second correction, on top of one that is near to the small model's own KV.

Only the last layer's K and V change, so the small model's queries, and all that it does before, stay as they are: they
are computed once for each question, and a step of training is one attention, one feed-forward block and the output
head. A bulletin costs 0.2 s once and then 70 ms a step on one thread.

Three things without which it did not learn (docs/measurements/alignment.md has the figures):
- A question of two or three steps looks at no fact at all at first, so what lies there makes no difference, and where
  nothing lies there is no reason to look: `looking` rewards attention to the fact that the question's subject stands in.
- The names of a chain are told apart by small directions: AdamW, whose steps shrink with the gradient. Muon's, which do
  not, wiped out one-step answers before anything else was learned.
- Which container holds a parcel is not practised: the small model's answer begins "is in crate" whatever its context's
  KV is.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import data
import evaluate
import model as architecture
import tokenizer
import worlds

UNSAYABLE = (0, 2)  # kind asked about, steps
ONE_STEP = 2.0      # what answers of one step, which are right already, count for


@dataclass
class Lookups:
    """Questions about one bulletin, as the last layer meets them. T: tokens of the context, R: those of the answers."""
    everything: torch.Tensor  # [T, inputs] K and V of all layers of the large model
    base: torch.Tensor        # [T, 2 * width] the last layer's K and V as mapped so far
    turn: tuple               # cosine and sine of the context's positions, [T, head_size / 2]
    queries: torch.Tensor     # [heads, R, head_size] rotated and scaled
    own_mass: torch.Tensor    # [heads, R] logarithm of the softmax's sum over the question's own tokens
    own_values: torch.Tensor  # [heads, R, head_size] what attention to those alone gives
    stream: torch.Tensor      # [R, width] the residual stream before the last layer
    target: torch.Tensor      # [R] the token to come
    weights: torch.Tensor     # [R]
    fact: torch.Tensor        # [R] where a chain's first fact stands in the context, if its name is due here; else -1
    question: torch.Tensor    # [R] number of the question
    steps: list               # of each question


def heads_of(x, heads):
    """[T, width] -> [heads, T, head_size]"""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def fact_positions(world):
    """subject -> position of the name that its fact ends with"""
    pieces, out, subject = [worlds.Piece(worlds.SYSTEM), *world.pieces()], {}, None
    for piece, at in zip(pieces, tokenizer.encode_pieces(pieces)[1]):
        if piece.role == "subject":
            subject = piece.text.strip()
        elif piece.role == "fact":
            out[subject] = at
    return out


def weights_of(question, length):
    """Of an answer's tokens, and of the one that ends it."""
    if (question.kind, question.steps) == UNSAYABLE:
        return [0.0] * (length + 1)
    weights = [data.PHRASE] * (length + 1)
    weights[-5:-2] = [data.ANSWER] * 3  # "on ship Aurora": what was asked for, and the name
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
        chain = question.steps > 1 and (question.kind, question.steps) != UNSAYABLE
        fact += [-1] * (length - 2) + [told[question.path[0]] if chain else -1] + [-1, -1]
    return Lookups(everything.half(), torch.cat((mapped[last, "k"], mapped[last, "v"]), -1),
                   (cos[0, 0, :shared], sin[0, 0, :shared]),
                   queries, own.logsumexp(-1), own.softmax(-1) @ v[:, shared:], x[0, rows], ids[0, rows + 1],
                   torch.tensor([w for q, (_, length) in zip(questions, answers) for w in weights_of(q, length)]),
                   torch.tensor(fact),
                   torch.tensor([i for i, (_, length) in enumerate(answers) for _ in range(length + 1)]),
                   [q.steps for q in questions])


def read(small, lookups, kv):
    """kv: [T, 2 * width], the last layer's K and V of the context
    -> logits [R, vocab], attention to the context [heads, R, T]"""
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
    """The small model's loss on answers, plus `looking` times how little it attends to the facts that chains begin with."""
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
    """-> [(steps, whether the whole answer is right, and ends)]"""
    wrong = read(small, lookups, kv)[0].argmax(-1) != lookups.target
    missed = set(lookups.question[wrong].tolist())
    return [(steps, i not in missed) for i, steps in enumerate(lookups.steps)]

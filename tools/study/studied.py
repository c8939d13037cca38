"""A context's KV, trained: as many rows as one likes that stand for all of its tokens (docs/study.md)."""
import dataclasses
import math
import random

import torch

from material import batch_of
from reading import loss_of, predicted


@dataclasses.dataclass
class Rows:
    """A few rows in place of a context's. n of them in each layer; K before RoPE and without the model's bias."""
    k: torch.Tensor          # [layers, n, kv_width]
    v: torch.Tensor          # [layers, n, kv_width]
    positions: torch.Tensor  # [layers, kv_heads, n] of the tokens that they came from
    log_mass: torch.Tensor   # [layers, kv_heads, n]: added to their scores
    tokens: int              # that they stand for; what follows goes on there

    def held(self, model, layer):
        """As LanguageModel.block() reads a context."""
        turns = model.angles(self.positions[layer].flatten())
        angles = tuple(a.unflatten(0, self.positions.shape[1:]) for a in turns)
        return (model.key(layer, self.k[layer], angles), model.by_head(self.v[layer], model.shape.kv_heads),
                self.log_mass[layer][:, None])


@torch.no_grad()
def attended(model, context, batches, change=None):
    """The largest share of attention that any token of the batches gives to each of the context's: [layers, kv_heads,
    tokens]."""
    out = torch.zeros(model.shape.layers, model.shape.kv_heads, context.tokens)
    for batch in batches:
        real = batch.real()

        def watch(layer, weights, real=real):  # [batch, kv_heads, group * n, tokens]
            each = weights.unflatten(2, (-1, real.shape[1])).amax(2)
            each = each.masked_fill(~real[:, None, :, None], 0)
            out[layer] = torch.maximum(out[layer], each.amax((0, 2)))
        predicted(model, context, batch, change, watch)
    return out


def chosen(model, context, weights, n, change=None):
    """The n rows of each layer and KV head that get most attention, in the order of the text. The first four and the last
    stay: attention rests there when it looks for nothing."""
    weights = weights.clone()
    weights[..., :4] = weights[..., -1] = torch.inf
    n = min(n, context.tokens)
    at = weights.topk(n, -1).indices.sort(-1).values
    planes = [[], []]
    for layer, (k, v) in enumerate(context.kv):
        k, v = k.float(), v.float()
        if change:
            k, v = change(layer, k, v)
        for out, plane in zip(planes, (k, v)):
            heads = model.by_head(plane, model.shape.kv_heads)
            rows = heads.gather(1, at[layer][..., None].expand(-1, -1, heads.shape[-1]))
            out.append(rows.transpose(0, 1).flatten(1))
    mass = torch.full(at.shape, math.log(context.tokens / n))
    mass[..., :4] = mass[..., -1] = 0.0
    return Rows(torch.stack(planes[0]), torch.stack(planes[1]), at, mass, context.tokens)


def train(model, context, start, asked, options, log):
    """Trains a context's rows on questions about it. Steps are in units of the channels' standard deviations."""
    rng = random.Random(options.seed)
    scale = [plane.std(1, keepdim=True) + 1e-3 for plane in (start.k, start.v)]
    learned = [torch.zeros_like(x, requires_grad=True) for x in (start.k, start.v, start.log_mass)]
    optimizer = torch.optim.AdamW(learned, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0)
    n_steps = max(1, options.passes * math.ceil(len(asked) / options.per_step))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / max(1, n_steps // 10), 0.5 + 0.5 * math.cos(math.pi * i / n_steps)))

    def now():
        k, v, mass = learned
        return Rows(start.k + k * scale[0], start.v + v * scale[1], start.positions, start.log_mass + mass, start.tokens)

    for number, step in enumerate(steps_of(asked, options.per_step, n_steps, rng)):
        batch = batch_of(step)
        loss, surprise = loss_of(predicted(model, now(), batch), batch, options.gold, options.teacher)
        (loss / len(step)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if number == 0 or number + 1 == n_steps:
            log(f"  step {number + 1} of {n_steps}, -log p {surprise / len(step):.3f} a token")
    with torch.no_grad():
        return now()


def steps_of(asked, per_step, n_steps, rng):
    waiting = []
    for _ in range(n_steps):
        if not waiting:
            waiting = rng.sample(asked, len(asked))
        yield waiting[:per_step]
        waiting = waiting[per_step:]

"""A model's loss on questions behind a context's KV, which may be anything that a function makes of the native one."""
import torch
import torch.nn.functional as F

from language_model import causal


class Context:
    """One context's native KV, ready for questions. kv: as LanguageModel.native()."""

    def __init__(self, model, kv):
        self.kv = kv
        self.tokens = len(kv[0][0])
        self.angles = model.angles(torch.arange(self.tokens))

    def until(self, model, tokens):
        """The context as it is after its first `tokens`."""
        return Context(model, [tuple(plane[:tokens] for plane in planes) for planes in self.kv])

    def held(self, model, layer, change=None):
        """As LanguageModel.block() reads a context. change(layer, k, v): K and V to read instead, before RoPE and without
        the model's bias."""
        k, v = (plane.float() for plane in self.kv[layer])
        if change:
            k, v = change(layer, k, v)
        return model.key(layer, k, self.angles), model.by_head(v, model.shape.kv_heads), None


def predicted(model, context, batch, change=None, watch=None):
    """Logits [answers' tokens, vocabulary] of a batch behind a Context, changed or not, or behind Rows."""
    x = model.embed(batch.ids)
    angles = model.angles(context.tokens + torch.arange(batch.ids.shape[1]))
    mask = causal(batch.ids.shape[1])
    for layer in range(model.shape.layers):
        held = context.held(model, layer, change) if change else context.held(model, layer)
        x = model.block(layer, x, angles, mask, held, watch=watch and (lambda w, layer=layer: watch(layer, w)))
    return model.logits(x.flatten(0, 1)[batch.rows])


def loss_of(logits, batch, gold, teacher):
    """Per question: gold times the cross entropy of the answer, teacher times D(teacher || model) over the teacher's
    likeliest tokens, all others being one; both as a mean over the answer's tokens. Returns the sum over questions, and
    -log p alone."""
    log_q = logits.log_softmax(-1)
    surprise = -log_q.gather(-1, batch.targets[:, None])[:, 0]
    out = gold * (surprise * batch.weight).sum()
    if teacher and batch.top is not None:
        out = out + teacher * (divergence(batch.log_p, log_q.gather(-1, batch.top)) * batch.weight).sum()
    return out, (surprise * batch.weight).sum().item()


def drift_of(model, context, batch, change):
    """D(native || changed) at the tokens that follow a context, over the vocabulary: a mean over tokens."""
    with torch.no_grad():
        native = predicted(model, context, batch).log_softmax(-1)
    return F.kl_div(predicted(model, context, batch, change).log_softmax(-1), native, reduction="batchmean", log_target=True)


def divergence(log_p, log_q):
    """D(p || q) for the given tokens and the rest together: [n, k] each."""
    rest_p = (1 - log_p.exp().sum(-1)).clamp_min(1e-6)
    rest_q = (1 - log_q.exp().sum(-1)).clamp_min(1e-6)
    return (log_p.exp() * (log_p - log_q)).sum(-1) + rest_p * (rest_p.log() - rest_q.log())



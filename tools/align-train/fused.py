"""The small model with a context's KV mapped from the large model: a ridge map plus a residual network for each plane."""
import os
import sys

import gguf
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "demo-models"))
import export  # noqa: E402
import model as architecture  # noqa: E402
import tokenizer  # noqa: E402

TURN = "<|im_start|>"


def load_gguf(path):
    """Loads a GGUF of the demo family as a frozen PyTorch model."""
    reader = gguf.GGUFReader(path)
    number = lambda key: int(reader.fields[f"llama.{key}"].contents())
    shape = architecture.Shape(layers=number("block_count"), width=number("embedding_length"),
                               heads=number("attention.head_count"), head_size=number("attention.key_length"),
                               ffn=number("feed_forward_length"), vocab=number("vocab_size"),
                               rope_base=float(reader.fields["llama.rope.freq_base"].contents()))
    out = architecture.Model(shape)
    tensors = {t.name: torch.tensor(np.array(t.data, dtype=np.float32)) for t in reader.tensors}
    state = {"embedding.weight": tensors["token_embd.weight"], "norm.weight": tensors["output_norm.weight"]}
    for i in range(shape.layers):
        for name in ("attn_norm", "ffn_norm"):
            state[f"blocks.{i}.{name}.weight"] = tensors[f"blk.{i}.{name}.weight"]
        for ours, theirs in export.BLOCK_TENSORS.items():
            state[f"blocks.{i}.{ours}.weight"] = tensors[f"blk.{i}.{theirs}.weight"]
    out.load_state_dict(state)
    return out.eval().requires_grad_(False)


class Correction(nn.Module):
    """gate[head] * (silu(x hidden) out), initially 0. The input is standardised by constants, which are folded into the
    weights when they are written."""
    def __init__(self, inputs, hidden, heads, head_size):
        super().__init__()
        self.heads = heads
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, heads * head_size)
        nn.init.normal_(self.hidden.weight, std=inputs ** -0.5)
        for p in (self.hidden.bias, self.out.weight, self.out.bias):
            nn.init.zeros_(p)
        self.gate = nn.Parameter(torch.ones(heads))

    def forward(self, x):
        y = self.out(F.silu(self.hidden((x - self.mean) / self.deviation)))
        return (y.unflatten(-1, (self.heads, -1)) * self.gate[:, None]).flatten(-2)

    @classmethod
    def joined(cls, first, second):
        """One network whose output is the sum of the two networks' outputs."""
        inputs, outputs = first.hidden.in_features, first.out.out_features
        out = cls(inputs, first.hidden.out_features + second.hidden.out_features, first.heads, outputs // first.heads)
        parts = [(part.hidden.weight / part.deviation, part.gate.repeat_interleave(outputs // part.heads))
                 for part in (first, second)]
        with torch.no_grad():
            out.hidden.weight.copy_(torch.cat([weight for weight, _ in parts]))
            out.hidden.bias.copy_(torch.cat([p.hidden.bias - weight @ p.mean
                                             for p, (weight, _) in zip((first, second), parts)]))
            out.out.weight.copy_(torch.cat([gate[:, None] * p.out.weight
                                            for p, (_, gate) in zip((first, second), parts)], 1))
            out.out.bias.copy_(sum(gate * p.out.bias for p, (_, gate) in zip((first, second), parts)))
        return out

    def arrays(self, inputs):
        weight = self.hidden.weight / self.deviation
        return {"inputs": inputs, "hidden": weight.t().detach().numpy(),
                "hidden_bias": (self.hidden.bias - weight @ self.mean).detach().numpy(),
                "out": self.out.weight.t().detach().numpy(),
                "out_bias": self.out.bias.detach().numpy(), "gate": self.gate.detach().numpy()}


class Fused(nn.Module):
    """Called like the small model. Layers from `split` on use mapped KV of the context, layers below it their own."""
    def __init__(self, large, small, map_, split, hidden):
        super().__init__()
        self.large, self.small, self.map, self.split = [large], [small], map_, split  # in lists: not trained, not saved
        s = small.shape
        self.ridge = {}
        self.corrections = nn.ModuleDict()
        for layer in range(split, s.layers):
            for kind, plane in zip("kv", map_.planes[layer]):
                self.ridge[layer, kind] = (plane.sources, torch.tensor(plane.matrix), torch.tensor(plane.bias))
                if hidden:
                    self.corrections[f"{layer}{kind}"] = self.correction(hidden)

    def correction(self, hidden):
        s = self.small[0].shape
        return Correction(self.large[0].shape.layers * 2 * self.map.source.width, hidden, s.heads, s.head_size)

    def load(self, state):
        """Loads a state dict, whose networks may have any number of hidden values."""
        for name in self.corrections:
            self.corrections[name] = self.correction(state[f"corrections.{name}.hidden.weight"].shape[0])
        self.load_state_dict(state)

    @torch.no_grad()
    def source(self, ids):
        """K and V of every layer of the large model for a context, [layer][T, width] each."""
        keys, values = [], []

        def keep(k, v):
            keys.append(k[0].transpose(0, 1).flatten(1).half().float())  # rounded like the pack's KV: f16
            values.append(v[0].transpose(0, 1).flatten(1).half().float())
            return k, v

        length = ids.shape[1]
        mask = None if torch.is_autocast_enabled("cpu") else torch.full((1, length, length), -1e9).triu(1)
        self.large[0].hidden(ids, mask=mask, hooks=[keep] * self.large[0].shape.layers)
        return keys, values

    def mapped(self, keys, values, layer, kind, everything):
        sources, matrix, bias = self.ridge[layer, kind]
        x = torch.cat([(keys if kind == "k" else values)[source] for source in sources], -1)
        y = x @ matrix + bias
        name = f"{layer}{kind}"
        return y + self.corrections[name](everything) if name in self.corrections else y

    @torch.no_grad()
    def measure(self, contexts, corrections):
        """Sets means and standard deviations of the networks' input."""
        rows = torch.cat([self.everything(*self.source(ids)) for ids in contexts])
        for c in corrections:
            c.mean.copy_(rows.mean(0))
            c.deviation.copy_(rows.std(0) + 1e-3)

    @staticmethod
    def everything(keys, values):
        return torch.cat([x for pair in zip(keys, values) for x in pair], -1)

    @torch.no_grad()
    def native(self, ids):
        """K and V of every layer of the small model for a context, like source()."""
        large, self.large = self.large, self.small
        try:
            return self.source(ids)
        finally:
            self.large = large

    def distance(self, ids):
        """Distance of a context's mapped KV from the small model's own: squared error / variance, mean over planes."""
        keys, values = self.source(ids)
        everything, own, total = self.everything(keys, values), self.native(ids), 0.0
        for layer, kind in self.ridge:
            real = own["kv".index(kind)][layer]
            total = total + (self.mapped(keys, values, layer, kind, everything).float() - real).square().mean() / real.var()
        return total / len(self.ridge)

    @staticmethod
    def shared(ids):
        """Number of tokens of the context, which ends where the user's turn begins."""
        return int((ids[0] == tokenizer.word(TURN)[0]).nonzero()[1])

    def hooks(self, ids, shared):
        keys, values = self.source(ids[:, :shared])
        everything = self.everything(keys, values)

        def hook(layer):
            def replace(k, v):
                def put(old, kind):
                    new = self.mapped(keys, values, layer, kind, everything).to(old.dtype)
                    new = new.unflatten(-1, (old.shape[1], -1)).transpose(0, 1)[None]
                    return torch.cat((new, old[:, :, shared:]), 2)
                return put(k, "k"), put(v, "v")
            return replace if layer >= self.split else None
        return [hook(layer) for layer in range(self.small[0].shape.layers)]

    def forward(self, ids, positions=None, mask=None):
        return self.small[0](ids, positions, mask, self.hooks(ids, self.shared(ids)))

"""A language model from a GGUF in PyTorch, for training what it reads: its weights stay as they are.

Llama and Qwen2 architectures, attention over [a context's KV, which is given; the rows' own KV]. Matrix products with the
weights are in bfloat16; the residual stream, norms and attention in float32, because Qwen2's K holds biases of up to 200.
"""
import dataclasses

import gguf
import numpy as np
import torch
import torch.nn.functional as F

STEP = 512  # tokens of a context that pass a layer together


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    rope_base: float
    interleaved: bool  # which channels RoPE turns into each other: neighbours (llama), or halves (qwen2)

    @property
    def kv_width(self):
        return self.kv_heads * self.head_dim


def shape_of(reader):
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    architecture = fields["general.architecture"]
    if architecture not in ("llama", "qwen2"):
        raise SystemExit(f"{architecture} models can't be trained with yet: llama and qwen2 only")
    get = lambda key, default=None: fields.get(f"{architecture}.{key}", default)
    heads = get("attention.head_count")
    return Shape(layers=get("block_count"), width=get("embedding_length"), heads=heads,
                 kv_heads=get("attention.head_count_kv", heads),
                 head_dim=get("attention.key_length", get("embedding_length") // heads),
                 epsilon=get("attention.layer_norm_rms_epsilon"), rope_base=get("rope.freq_base", 10000.0),
                 interleaved=architecture == "llama")


class LanguageModel:
    """Frozen. All methods take and return tensors without a batch dimension except where they say so."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.shape = shape_of(reader)
        self.name = reader.fields["general.name"].contents() if "general.name" in reader.fields else str(path)
        self.weights = {t.name: self._loaded(t) for t in reader.tensors}
        pairs = torch.arange(self.shape.head_dim // 2, dtype=torch.float64) * 2 / self.shape.head_dim
        self.frequencies = self.shape.rope_base ** -pairs

    @staticmethod
    def _loaded(tensor):
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        out = torch.from_numpy(np.array(values, dtype=np.float32))
        return out.bfloat16() if out.dim() == 2 else out

    def linear(self, x, name):
        out = F.linear(x.bfloat16(), self.weights[name + ".weight"]).float()
        bias = self.weights.get(name + ".bias")
        return out if bias is None or name.endswith("attn_k") else out + bias

    def norm(self, x, name):
        return F.rms_norm(x, (self.shape.width,), self.weights[name + ".weight"], self.shape.epsilon)

    def angles(self, positions):
        """Cosines and sines of positions [n]: [n, head_dim / 2] each."""
        turns = positions.double()[:, None] * self.frequencies
        return turns.cos().float(), turns.sin().float()

    def rotated(self, x, angles):
        """RoPE on [..., n, head_dim]."""
        cos, sin = angles
        if self.shape.interleaved:
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)

    def key(self, layer, k, angles):
        """K as attention meets it, [kv_heads, n, head_dim], from K before RoPE without the model's bias, [n, kv_width]."""
        bias = self.weights.get(f"blk.{layer}.attn_k.bias")
        k = k if bias is None else k + bias
        return self.rotated(self.by_head(k, self.shape.kv_heads), angles)

    @staticmethod
    def by_head(x, heads):
        """[..., n, heads * head_dim] -> [..., heads, n, head_dim]"""
        return x.unflatten(-1, (heads, -1)).transpose(-3, -2)

    def block(self, layer, x, angles, mask, context=None, tap=None, watch=None):
        """One layer over x [batch, n, width]. mask [batch, 1, n, n] is added to the rows' scores among themselves. context:
        (K as key() gives it, V [kv_heads, tokens, head_dim], constants added to the scores [kv_heads, 1, tokens] or None),
        of which every row of the batch sees all. tap(k, v): K before RoPE without bias and V of x, [batch, n, kv_width].
        watch(weights): how much the rows attend to the context, [batch, kv_heads, group * n, tokens]."""
        name, shape = f"blk.{layer}.", self.shape
        batch, n, _ = x.shape
        normed = self.norm(x, name + "attn_norm")
        q = self.rotated(self.by_head(self.linear(normed, name + "attn_q"), shape.heads), angles) * shape.head_dim ** -0.5
        k, v = self.linear(normed, name + "attn_k"), self.linear(normed, name + "attn_v")
        if tap:
            tap(k, v)
        group = shape.heads // shape.kv_heads
        rows = q.unflatten(1, (shape.kv_heads, group)).flatten(2, 3)            # [batch, kv_heads, group * n, head_dim]
        own_k, own_v = self.key(layer, k, angles), self.by_head(v, shape.kv_heads)
        scores = rows @ own_k.transpose(-1, -2) + mask.repeat(1, 1, group, 1)   # [batch, kv_heads, group * n, n]
        if context is None:
            seen = scores.softmax(-1) @ own_v
        else:
            keys, values, mass = context
            of_context = beside(rows) @ keys.transpose(-1, -2)
            of_context = of_context if mass is None else of_context + mass
            weights = torch.cat((apart(of_context, batch), scores), -1).softmax(-1)
            of_context = weights[..., :keys.shape[-2]]
            if watch:
                watch(of_context)
            seen = apart(beside(of_context) @ values, batch) + weights[..., keys.shape[-2]:] @ own_v
        seen = seen.unflatten(2, (group, n)).permute(0, 3, 1, 2, 4).flatten(2)
        x = x + self.linear(seen, name + "attn_output")
        normed = self.norm(x, name + "ffn_norm")
        gated = F.silu(self.linear(normed, name + "ffn_gate")) * self.linear(normed, name + "ffn_up")
        return x + self.linear(gated, name + "ffn_down")

    def embed(self, ids):
        return self.weights["token_embd.weight"][ids].float()

    def logits(self, x):
        output = "output" if "output.weight" in self.weights else "token_embd"
        return self.linear(self.norm(x, "output_norm"), output)

    @torch.no_grad()
    def native(self, ids):
        """The KV of a context: for each layer K before RoPE without the model's bias and V, [n, kv_width], as float16."""
        ids = torch.as_tensor(ids)
        angles = self.angles(torch.arange(len(ids)))
        xs = list(self.embed(ids)[None].split(STEP, 1))
        out = []
        for layer in range(self.shape.layers):
            planes = ([], [])

            def tap(k, v, planes=planes):
                planes[0].append(k[0])
                planes[1].append(v[0])

            held = None
            for i, x in enumerate(xs):
                end = i * STEP + x.shape[1]
                turns = tuple(a[i * STEP:end] for a in angles)
                xs[i] = self.block(layer, x, turns, causal(x.shape[1]), held, tap)
                k, v = (torch.cat(plane) for plane in planes)
                held = (self.key(layer, k, tuple(a[:end] for a in angles)), self.by_head(v, self.shape.kv_heads), None)
            out.append((k.half(), v.half()))
        return out


def beside(x):
    """[batch, kv_heads, n, ...] -> [kv_heads, batch * n, ...]: one product with what all of a batch share."""
    return x.transpose(0, 1).flatten(1, 2)


def apart(x, batch):
    """The opposite of beside()."""
    return x.unflatten(1, (batch, -1)).transpose(0, 1)


def causal(n):
    return torch.full((n, n), -torch.inf).triu(1)[None, None]


def end_of_turn(path):
    """The token that ends a reply, by the model's file."""
    fields = gguf.GGUFReader(path).fields
    for key in ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eos_token_id"):
        if key in fields:
            return int(fields[key].contents())
    raise SystemExit(f"{path}: no end-of-turn token in the file")


def vocabulary(path):
    """The tokens' texts, as the file spells them."""
    return gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()

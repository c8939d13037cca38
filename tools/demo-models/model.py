"""The Llama architecture as llama.cpp implements it: RMS norm, interleaved RoPE, SwiGLU, tied embedding, no biases."""
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Shape:
    layers: int
    width: int
    heads: int
    head_size: int
    ffn: int
    vocab: int = 1536
    rope_base: float = 500000.0
    context: int = 2048
    offsets: tuple = (3, 4)  # tokens that the first heads of the first block look back, at the start of training

    def as_dict(self):
        return asdict(self)


SHAPES = {
    "small": Shape(layers=2, width=128, heads=4, head_size=32, ffn=320),
    "mid": Shape(layers=4, width=160, heads=5, head_size=32, ffn=384),
    "large": Shape(layers=6, width=192, heads=3, head_size=64, ffn=448),
}
EPSILON = 1e-5


def rope_tables(shape, positions):
    """Returns cosine and sine for positions [B, T]: [B, 1, T, head_size / 2] each."""
    frequencies = shape.rope_base ** (-torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size)
    angles = (positions.float()[..., None] * frequencies)[:, None]
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """x [B, heads, T, head_size]; dimensions 2i and 2i + 1 make a pair."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


_masks = {}


def causal_mask(length):
    if length not in _masks:
        _masks.clear()
        _masks[length] = torch.full((1, length, length), -1e9, dtype=torch.bfloat16).triu(1)
    return _masks[length]


def attend(q, k, v, mask):
    """Attention by plain products, which are many times faster than PyTorch's fused operator on this project's CPUs.
    Computed in the mask's type: bfloat16 for training; float32 for evaluation, where rounded scores cost some correct
    answers. mask [1, T, T] is added to the scores."""
    b, h, t, d = q.shape
    with torch.autocast("cpu", enabled=False):
        q, k, v = (x.to(mask.dtype).reshape(b * h, t, d) for x in (q * d ** -0.5, k, v))
        scores = torch.baddbmm(mask, q, k.transpose(1, 2))
        return torch.bmm(torch.softmax(scores, -1), v).view(b, h, t, d)


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, EPSILON)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.shape, inner = s, s.heads * s.head_size
        self.attn_norm, self.ffn_norm = Norm(s.width), Norm(s.width)
        self.q, self.k, self.v = (nn.Linear(s.width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, s.width, bias=False)
        self.gate, self.up = (nn.Linear(s.width, s.ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(s.ffn, s.width, bias=False)

    def forward(self, x, cos, sin, mask, hook=None):
        b, t, _ = x.shape
        s, h = self.shape, self.attn_norm(x)
        q, k, v = (f(h).view(b, t, s.heads, s.head_size).transpose(1, 2) for f in (self.q, self.k, self.v))
        if hook:  # may read or replace K (before RoPE) and V, for layer maps
            k, v = hook(k, v)
        a = attend(rotate(q, cos, sin), rotate(k, cos, sin), v, mask)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def initialise(model, constant=0.1, sharpness=7.0, bound=0.3, matching=1.6, copying=0.5):
    """Initialises the weights randomly, except for a rough sketch of an attention circuit that looks a name up. Without it
    the small model takes thousands of steps before it binds names at all (README.md has the figures).
    - Embeddings share a direction, by which two heads of the first block look back a fixed distance: `subject` to the
      subject of a question, `owner` to the name that a fact's last name belongs to. Each copies what it attends to into a
      separate subspace of the residual stream.
    - In later blocks the first head attends to positions whose owner matches its own subject, the second to positions whose
      owner matches itself; both copy the value (O = V transposed)."""
    s, d = model.shape, model.shape.head_size
    for p in model.parameters():
        if p.dim() == 2:
            nn.init.normal_(p, std=p.shape[1] ** -0.5)
    shared = F.normalize(torch.randn(s.width), dim=0)
    along = s.width ** 0.5 * constant / (constant ** 2 + 0.1 ** 2) ** 0.5  # a normed embedding's share of `shared`
    gain = (sharpness * d ** 0.5) ** 0.5 / along
    parts = torch.linalg.qr(torch.randn(s.width, 2 * d))[0] if 2 * d <= s.width else None
    subject, owner = parts[:, :d], parts[:, d:]
    first, names = model.blocks[0], torch.randn(d, s.width) * s.width ** -0.5
    with torch.no_grad():
        model.embedding.weight.normal_(std=0.1).add_(constant * s.width ** 0.5 * shared)
        for block in model.blocks:
            block.down.weight.normal_(std=(s.ffn * 2 * s.layers) ** -0.5)
        first.o.weight.normal_(std=(s.heads * d * 2 * s.layers) ** -0.5)
        for head, (offset, part) in enumerate(zip(s.offsets, (subject, owner))):
            rows = slice(head * d, (head + 1) * d)
            first.v.weight[rows] = names
            first.o.weight[:, rows] = bound * part
            first.q.weight[rows] *= 0.3
            first.k.weight[rows] *= 0.3
            for pair in range(5):  # the fast pairs distinguish neighbouring positions; q is k rotated back by the offset
                angle = torch.tensor(offset * s.rope_base ** (-2 * pair / d))
                row = head * d + 2 * pair
                first.k.weight[row] += gain * shared
                first.q.weight[row] += gain * torch.cos(angle) * shared
                first.q.weight[row + 1] -= gain * torch.sin(angle) * shared
        for block in model.blocks[1:]:
            block.o.weight.copy_(copying * block.v.weight.t())
            for head, like in enumerate((subject.t(), names)):
                rows = slice(head * d, (head + 1) * d)
                block.q.weight[rows] = matching * like
                block.k.weight[rows] = matching * owner.t()


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        initialise(self)

    def hidden(self, ids, positions=None, mask=None, hooks=None):
        """Returns the residual stream after every block, [B, T, width] each."""
        mask = causal_mask(ids.shape[1]) if mask is None else mask
        if positions is None:
            positions = torch.arange(ids.shape[1])[None]
        cos, sin = rope_tables(self.shape, positions)
        x, out = self.embedding(ids), []
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, mask, hooks[i] if hooks else None)
            out.append(x)
        return out

    def read(self, x):
        """Logits for rows of the residual stream after any block."""
        return F.linear(self.norm(x), self.embedding.weight)

    def forward(self, ids, positions=None, mask=None, hooks=None):
        return self.read(self.hidden(ids, positions, mask, hooks)[-1])


def save(path, mean, **extra):
    """mean: the model with the running mean of the weights, which is the one to use."""
    torch.save({"shape": mean.shape.as_dict(), "mean": mean.state_dict(), **extra}, path)


def load(path):
    """Returns the model with mean weights, and everything else that was saved."""
    state = torch.load(path, weights_only=False)
    model = Model(Shape(**state.pop("shape")))
    model.load_state_dict(state.pop("mean"))
    return model, state

"""Reads layer maps (docs/map-format.md) and writes the network files that `celslm align fuse` adds to them."""
import struct
from dataclasses import dataclass, field

import numpy as np

SAME_HEAD, HAS_NET = 1, 2


@dataclass
class Plane:
    sources: list
    matrix: np.ndarray       # [inputs, target width]: the product, if the file has two factors
    bias: np.ndarray


@dataclass
class Model:
    layers: int
    heads: int
    head_size: int

    @property
    def width(self):
        return self.heads * self.head_size


@dataclass
class Map:
    source: Model
    target: Model
    planes: list = field(default_factory=list)  # (K, V) of each target layer


class Reader:
    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.raw, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def array(self, kind, *shape):
        count = int(np.prod(shape))
        out = np.frombuffer(self.raw, kind, count, self.at).reshape(shape).astype(np.float32)
        self.at += out.size * np.dtype(kind).itemsize
        return out


def read(path):
    """Reads a ridge map in f32 or f16 with all-heads matrices, the base for training a correction."""
    r = Reader(open(path, "rb").read())
    magic, version, precision, _, _ = r.take("8sHBBd")
    if magic != b"CELSLMAP" or version not in (1, 2) or precision not in (0, 1):
        raise SystemExit(f"{path}: expected a layer map of version 1 or 2 in f32 or f16")
    kind = "<f4" if precision == 0 else "<f2"
    models = []
    for _ in range(2):
        r.at += 64
        models.append(Model(*r.take("III")))
    calibration = r.take("I")
    r.at += 32 * calibration
    _, _, _, _, judged = r.take("IIddI")
    r.at += 24 * judged
    out = Map(*models)
    for _ in range(out.target.layers):
        out.planes.append(tuple(plane(r, kind, out, path) for _ in range(2)))
    return out


def own(model):
    """The map that leaves a model's KV as it is."""
    same = lambda layer: Plane([layer], np.eye(model.width, dtype=np.float32), np.zeros(model.width, np.float32))
    return Map(model, model, [(same(layer), same(layer)) for layer in range(model.layers)])


def plane(r, kind, map_, path):
    count = r.take("I")
    sources = [r.take("I") for _ in range(count)]
    flags, _ = r.take("Id")
    if flags:
        raise SystemExit(f"{path}: expected a ridge map from all heads without networks; fit one with --heads all")
    bias = r.array("<f4", map_.target.width)
    rank, inputs, width = r.take("I"), count * map_.source.width, map_.target.width
    matrix = r.array(kind, inputs, rank or width)
    if rank:
        matrix = matrix @ r.array(kind, rank, width)
    return Plane(sources, matrix, bias)


def write_networks(path, map_, networks):
    """Writes networks: {(layer, "k" | "v"): dict of inputs (source layers), hidden [in, h], hidden_bias, out [h, width],
    out_bias, gate [heads]}."""
    with open(path, "wb") as f:
        f.write(struct.pack("<8sHH", b"CELSLNET", 1, 0))
        for layer in range(map_.target.layers):
            for kind in "kv":
                net = networks.get((layer, kind))
                f.write(struct.pack("<I", int(net is not None)))
                if net is None:
                    continue
                f.write(struct.pack(f"<I{len(net['inputs'])}II", len(net["inputs"]), *net["inputs"], net["hidden"].shape[1]))
                for name in ("hidden", "hidden_bias", "out", "out_bias", "gate"):
                    f.write(np.ascontiguousarray(net[name], dtype="<f4").tobytes())

"""Studied contexts for tests: rows taken from a context's own KV, written as a trainer would (docs/studied-format.md)."""
import http.client
import math
import struct
import urllib.parse

import gguf
import numpy

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e import support

IDENTITY = 88  # where it begins in a pack; docs/kv-pack-format.md


class OwnKv:
    """A context's KV as a cloud computes it for its first model: [layers][K, V][tokens][KV heads * head size]."""

    def __init__(self, cloud, handle):
        self.handle = handle
        self.model_id = api.request("GET", f"{cloud.url}/v1/models")["models"][0]["id"]
        pack = complete_pack(f"{cloud.url}/v1/packs/{handle}/{self.model_id}/f16")
        identity_bytes, header_bytes = struct.unpack_from("<IQ", pack, 12)
        identity = pack[IDENTITY:IDENTITY + identity_bytes]
        n_tokens, = struct.unpack_from("<I", identity, 208)
        n_layers, _, _, self.heads, head_dim = struct.unpack_from("<HBBII", identity, 212)
        self.tokens = numpy.frombuffer(identity[-4 * n_tokens:], "<i4")
        # Chunks of a plane are adjacent, and with f16 nothing but their values.
        self.kv = numpy.frombuffer(pack[header_bytes:], "<f2").reshape(n_layers, 2, n_tokens, self.heads * head_dim)

    def write_every(self, step, path):
        """Of all rows every step-th, each of which stands for step tokens."""
        positions = numpy.arange(0, len(self.tokens), step, dtype=numpy.int32)
        writer = gguf.GGUFWriter(path, "celslm-studied")
        writer.add_uint32("celslm.studied.version", 1)
        writer.add_string("celslm.studied.model", self.model_id)
        writer.add_string("celslm.studied.context", self.handle)
        writer.add_string("celslm.studied.recipe", f"every row of {step}")
        writer.add_tensor("tokens", self.tokens.astype(numpy.int32))
        for number, (k, v) in enumerate(self.kv):
            writer.add_tensor(f"layer.{number}.k", numpy.ascontiguousarray(k[positions]))
            writer.add_tensor(f"layer.{number}.v", numpy.ascontiguousarray(v[positions]))
            writer.add_tensor(f"layer.{number}.positions", numpy.tile(positions, (self.heads, 1)))
            writer.add_tensor(f"layer.{number}.log_mass",
                              numpy.full((self.heads, len(positions)), math.log(step), numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def complete_pack(url):
    """Has the pack computed and returns its bytes."""
    get(f"{url}/header")
    wait_until(lambda: get(f"{url}/pack")[0] == 200, f"{url}/pack", support.PATIENCE_S)
    return get(f"{url}/pack")[1]


def get(url):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=support.PATIENCE_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

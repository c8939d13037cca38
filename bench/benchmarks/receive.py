"""receive: CPU time that an edge spends on KV that arrives, per 25 MB of the same values as f16.

A pack in the model's shape comes over HTTP from this machine in one request, as an edge asks for it; each block is checked
against its hash, decoded, rotated and written into a context's memory, and handed to the thread that writes packs to
disk. What is counted is the time of the threads that do this, not of the one that sends. The values are noise summed
along each row, so that neighbours are alike, as those of KV are; a real context's f16z and t4 are a little smaller.

--json keys:
  machine, model, tokens, runs
  codecs[].name
  codecs[].bytes              of the pack's blocks
  codecs[].cpu_ms             all below but the disk, per 25 MB of f16; medians, here and below
  codecs[].receive_ms         HTTP, and cutting the stream into blocks
  codecs[].check_ms           BLAKE3
  codecs[].place_ms           decoding, RoPE, rounding, writing into the context's memory
  codecs[].disk_ms            of the disk's thread: writing the pack (to the page cache) and committing it
"""
import json

from ..benchmark import Benchmark, names, random_model
from ..lab import models
from ..lab.programs import built, output_of
from ..lab.progress import Progress, table

MS = ("cpu_ms", "receive_ms", "check_ms", "place_ms", "disk_ms")


class Receive(Benchmark):
    targets = ("celslm_bench_receive",)
    runs = 9
    on_random_model = True
    smoke = (("--shape", "tiny", "--tokens", "300", "--runs", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="whose shape: a file, or a name of ./dev models (default: random weights in --shape)")
        parser.add_argument("--tokens", type=int, default=2048, help="of the context (default: 2048)")
        parser.add_argument("--codecs", type=names, default=["f16", "f16z", "q8", "t4"], metavar="CODEC,...",
                            help="(default: f16,f16z,q8,t4)")

    def measure(self, options):
        model = options.model or random_model(options)
        with Progress(f"{options.runs} runs of each codec"):
            out = output_of(built("celslm_bench_receive", options.preset, "bench"), "--model", model,
                            "--tokens", options.tokens, "--runs", options.runs, "--codec", *options.codecs)
        return {"model": model.name, "tokens": options.tokens, "runs": options.runs,
                "codecs": [json.loads(line) for line in out.splitlines()]}

    def show(self, result):
        rows = [[c["name"], c["bytes"], *(f"{c[key]:.1f}" for key in MS)] for c in result["codecs"]]
        print(f"{result['machine']}; {result['tokens']} tokens in the shape of {result['model']}; "
              f"CPU ms per 25 MB of f16, medians of {result['runs']}")
        print(table(rows, ["codec", "bytes", "all", "receive", "check", "place", "disk"]))

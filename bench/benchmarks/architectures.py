"""architectures: every model architecture that the engine has graphs for: exact beside libllama, and how fast.

A tiny model of each architecture, f32 and random, is loaded and compared with libllama; a larger one (--quantization, about
120M parameters, all of one size but for what the architecture wants otherwise) is measured in turn with llama-bench. Random
weights: right for speed and for agreement, and of no use for anything else. Rows are in --json as soon as they are measured.

--json keys:
  machine, quantization, prefill, decode, runs
  rows[].architecture   as in a GGUF's general.architecture
  rows[].loads          the engine takes the tiny model
  rows[].nmse           of the logits of 40 tokens decoded behind a context of 90, against libllama's (f32 KV)
  rows[].pack_exact     the context's KV comes out of encoded f16 blocks as the bits that went in
  rows[].by_layer       each layer computed when that layer's KV is there: the same logits as from the KV computed here
  rows[].prefill_ratio  tokens a second of prefill, ours / llama-bench's (medians); null where it was not measured
  rows[].decode_ratio   of decode
"""
import json

from ..benchmark import Benchmark, names, times
from ..lab import models
from ..lab.programs import ProgramFailed, built, output_of
from ..lab.progress import Progress, table
from ..measure import in_turn, speeds
from . import engine

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3", "smollm3", "mistral3", "phi3", "granite", "ernie4_5", "hunyuan-dense",
                 "exaone4", "qwen3moe", "gpt-oss", "lfm2", "qwen35")


class Architectures(Benchmark):
    targets = ("celslm_bench_architectures", "celslm_bench_engine")
    runs = 3
    smoke = (("--only", "gemma3,gpt-oss", "--shapes", "tiny-", "--quantization", "Q8_0", "--threads", "1", "--prefill", "32",
              "--decode", "4", "--runs", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--only", type=names, default=list(ARCHITECTURES), metavar="NAME,...",
                            help="these architectures (default: all)")
        parser.add_argument("--shapes", default="", metavar="PREFIX",
                            help="of the models that are timed: 'tiny-' for tiny ones (default: 120M parameters)")
        parser.add_argument("--quantization", default="Q4_0", help="of the models that are timed (default: Q4_0)")
        parser.add_argument("--threads", type=int, default=2, help="of ours and of the peer (default: 2)")
        parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS", help="(default: 512)")
        parser.add_argument("--decode", type=int, default=64, metavar="TOKENS", help="(default: 64)")

    def measure(self, options):
        result = {"quantization": options.quantization, "prefill": options.prefill, "decode": options.decode,
                  "runs": options.runs, "rows": []}
        for name in options.only:
            result["rows"].append(row(name, options))
            self.keep(options, result)
        return result

    def show(self, result):
        print(f"{result['machine']}; {result['quantization']}, prefill of {result['prefill']} tokens, decode of "
              f"{result['decode']}; medians of {result['runs']}; random weights")
        rows = [[of["architecture"], yes(of["loads"]), "-" if of["nmse"] is None else f"{of['nmse']:.1e}",
                 yes(of["pack_exact"]), yes(of["by_layer"]), times(of["prefill_ratio"]), times(of["decode_ratio"])]
                for of in result["rows"]]
        print(table(rows, ["architecture", "loads", "NMSE", "pack exact", "by layer", "prefill", "decode"]))
        print("  prefill and decode: tokens a second, ours / llama-bench's")


def yes(value):
    return {None: "-", True: "yes", False: "no"}[value]


def row(name, options):
    out = {"architecture": name, "loads": True, "nmse": None, "pack_exact": None, "by_layer": None, "prefill_ratio": None,
           "decode_ratio": None}
    tiny = models.random_model(f"tiny-{name}", "F32")
    try:
        with Progress(f"{name}: beside libllama"):
            out |= json.loads(output_of(built("celslm_bench_architectures", options.preset, "bench"), "--model", tiny,
                                        "--threads", options.threads))
    except ProgramFailed as failed:
        if "is not supported" not in str(failed):
            raise
        return out | {"loads": False}
    return out | ratios(name, options)


def ratios(name, options):
    model = models.random_model(options.shapes + name, options.quantization)
    subjects = {"ours": lambda: engine.ours(model, options), "peer": lambda: engine.peer(model, options)}
    with Progress(f"{name}: {options.runs} runs each, in turn") as progress:
        runs = in_turn(subjects, options.runs, progress=progress)
    return {f"{what}_ratio": speeds(engine.rates(runs, f"{what}_tps"))["ratio"] for what in ("prefill", "decode")}

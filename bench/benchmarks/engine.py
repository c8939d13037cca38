"""engine: prefill and decode speed of our engine against llama-bench on the same GGUF.

Random weights in the shape of Qwen2.5-0.5B: speed only. llama-quantize's Q4_0 (not --pure) makes the matrices of the
layers Q4_0 and the token embedding, which is also the output head, Q8_0. Ours and the peer run in turn, `--runs` times
each; medians.

--json keys (prefill_512: 512 is --prefill; decode_64 likewise; rates in tokens per second):
  machine, model, runs
  prefill_*.ours_tps, prefill_*.peer_tps, decode_*.ours_tps, decode_*.peer_tps            medians
  prefill_*.ours_spread, prefill_*.peer_spread, decode_*.ours_spread, decode_*.peer_spread  [least, most]
  prefill_*.ratio, decode_*.ratio             ours / peer
  prefill_*.self_ratio, decode_*.self_ratio   ours / ours again, in the same rounds: what differs where nothing does
  peak_mb                                     the most memory our process had resident, MiB
  file_mb                                     the GGUF, MiB
"""
import json

from ..benchmark import Benchmark, random_model, times
from ..lab import models
from ..lab.programs import built, output_of
from ..lab.progress import Progress, table
from ..measure import in_turn, speeds


class Engine(Benchmark):
    targets = ("celslm_bench_engine",)
    runs = 5
    against_self = True
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--prefill", "32", "--decode", "4", "--runs", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="measure this model instead: a file, or a name of ./dev models")
        parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS", help="(default: 512)")
        parser.add_argument("--decode", type=int, default=64, metavar="TOKENS", help="(default: 64)")

    def measure(self, options):
        model = options.model or random_model(options)
        subjects = {"ours": lambda: ours(model, options), "peer": lambda: peer(model, options)}
        if options.against_self:
            subjects["self"] = subjects["ours"]
        with Progress(f"{options.runs} runs each, in turn") as progress:
            runs = in_turn(subjects, options.runs, progress=progress)
        return {
            "model": model.name,
            "runs": options.runs,
            f"prefill_{options.prefill}": speeds({name: [r["prefill_tps"] for r in some] for name, some in runs.items()}),
            f"decode_{options.decode}": speeds({name: [r["decode_tps"] for r in some] for name, some in runs.items()}),
            "peak_mb": max(r["peak_mb"] for r in runs["ours"]),
            "file_mb": round(model.stat().st_size / 2**20),
        }

    def show(self, result):
        rows = [[name, of["ours_tps"], of["peer_tps"], times(of["ratio"]), times(of["self_ratio"])]
                for name, of in result.items() if isinstance(of, dict)]
        print(f"{result['machine']}; {result['model']}; tokens per second, medians of {result['runs']}")
        print(table(rows, ["", "ours", "llama-bench", "ratio", "ours / ours"]))
        print(f"peak memory {result['peak_mb']} MiB for a file of {result['file_mb']} MiB")


def ours(model, options):
    out = output_of(built("celslm_bench_engine", options.preset, "bench"), "--model", model, "--threads", options.threads,
                    "--prefill", options.prefill, "--decode", options.decode)
    return json.loads(out.splitlines()[-1])


def peer(model, options):
    """llama-bench's defaults; it warms up before each of the two tests."""
    tests = json.loads(output_of("llama-bench", "-m", model, "-t", options.threads, "-p", options.prefill,
                                 "-n", options.decode, "-r", 1, "-o", "json"))
    return {("prefill" if test["n_prompt"] else "decode") + "_tps": test["avg_ts"] for test in tests}

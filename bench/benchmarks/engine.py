"""engine: prefill and decode speed of our engine against llama-bench on the same GGUF.

Random weights in the shape of Qwen2.5-0.5B: speed only. llama-quantize's Q4_0 (not --pure) makes the matrices of the
layers Q4_0 and the token embedding, which is also the output head, Q8_0. Ours and the peer run in turn, `--runs` times
each; medians.

--beside N: each round runs both programs alone, then again beside N processes that compute without end, each in a session
of its own, so that the scheduler takes it for a stranger. Shares are rates beside them over rates alone.

--json keys (prefill_512: 512 is --prefill; decode_64 likewise; rates in tokens per second):
  machine, model, runs
  prefill_*.ours_tps, prefill_*.peer_tps, decode_*.ours_tps, decode_*.peer_tps            medians
  prefill_*.ours_spread, prefill_*.peer_spread, decode_*.ours_spread, decode_*.peer_spread  [least, most]
  prefill_*.ratio, decode_*.ratio             ours / peer
  prefill_*.self_ratio, decode_*.self_ratio   ours / ours again, in the same rounds: what differs where nothing does
  peak_mb                                     the most memory our process had resident, MiB
  file_mb                                     the GGUF, MiB
  peak_share, bandwidth_share                 of the machine's limits as measured in the same process (medians): integer
                                              products of prefill, bytes of weights in decode
  products_per_token, bytes_per_token         what a token needs of the layers' matrices; of all that decode reads
  peak_products_per_s, memory_bytes_per_s     the limits, of all threads (medians)
  token_p99                                   the 99th percentile of a token's time in decode over its median
  beside                                      busy processes
  decode_share, prefill_share                 ours beside them over ours alone
  peer_decode_share, peer_prefill_share       the peer's
  token_p99_beside                            as token_p99, beside them
"""
import contextlib
import json
import subprocess
import sys

from ..benchmark import Benchmark, random_model, times
from ..lab import models
from ..lab.programs import built, output_of
from ..lab.progress import Progress, table
from ..measure import in_turn, median, ratio, speeds


class Engine(Benchmark):
    targets = ("celslm_bench_engine",)
    runs = 5
    against_self = True
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--prefill", "32", "--decode", "4", "--runs", "1", "--beside", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="measure this model instead: a file, or a name of ./dev models")
        parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS", help="(default: 512)")
        parser.add_argument("--decode", type=int, default=64, metavar="TOKENS", help="(default: 64)")
        parser.add_argument("--beside", type=int, default=0, metavar="N", help="also beside so many busy processes")

    def measure(self, options):
        model = options.model or random_model(options)
        subjects = {"ours": lambda: ours(model, options), "peer": lambda: peer(model, options)}
        if options.against_self:
            subjects["self"] = subjects["ours"]
        if options.beside:
            subjects |= {f"{name} beside": beside(options.beside, subjects[name]) for name in ("ours", "peer")}
        with Progress(f"{options.runs} runs each, in turn") as progress:
            runs = in_turn(subjects, options.runs, progress=progress)
        result = {
            "model": model.name,
            "runs": options.runs,
            f"prefill_{options.prefill}": speeds(rates(runs, "prefill_tps")),
            f"decode_{options.decode}": speeds(rates(runs, "decode_tps")),
            "peak_mb": max(r["peak_mb"] for r in runs["ours"]),
            "file_mb": round(model.stat().st_size / 2**20),
            **{key: median_of(runs["ours"], key) for key in LIMITS},
        }
        if options.beside:
            result |= shares(runs) | {"beside": options.beside}
        return result

    def show(self, result):
        rows = [[name, of["ours_tps"], of["peer_tps"], times(of["ratio"]), times(of["self_ratio"])]
                for name, of in result.items() if isinstance(of, dict)]
        print(f"{result['machine']}; {result['model']}; tokens per second, medians of {result['runs']}")
        print(table(rows, ["", "ours", "llama-bench", "ratio", "ours / ours"]))
        print(f"peak memory {result['peak_mb']} MiB for a file of {result['file_mb']} MiB")
        print(f"prefill: {percent(result['peak_share'])} of {result['peak_products_per_s'] / 1e9:.0f} G products/s; "
              f"decode: {percent(result['bandwidth_share'])} of {result['memory_bytes_per_s'] / 1e9:.1f} GB/s; "
              f"p99 of a token {result['token_p99']:.2f} times its median")
        if "beside" in result:
            rows = [[what, percent(result[f"{what}_share"]), percent(result[f"peer_{what}_share"])]
                    for what in ("decode", "prefill")]
            print(f"beside {result['beside']} busy processes, of the rate alone "
                  f"(p99 of a token {result['token_p99_beside']:.2f} times its median):")
            print(table(rows, ["", "ours", "llama-bench"]))


LIMITS = ("peak_share", "bandwidth_share", "products_per_token", "bytes_per_token", "peak_products_per_s",
          "memory_bytes_per_s", "token_p99")


def median_of(runs, key):
    return median([run[key] for run in runs])


def rates(runs, key):
    return {name: [run[key] for run in some] for name, some in runs.items()}


def shares(runs):
    def share(name, key):
        return ratio(median_of(runs[f"{name} beside"], key), median_of(runs[name], key))

    return {"decode_share": share("ours", "decode_tps"), "prefill_share": share("ours", "prefill_tps"),
            "peer_decode_share": share("peer", "decode_tps"), "peer_prefill_share": share("peer", "prefill_tps"),
            "token_p99_beside": median_of(runs["ours beside"], "token_p99")}


def percent(share):
    return "-" if share is None else f"{100 * share:.0f} %"


def beside(n, subject):
    """The subject while n processes compute without end."""
    def run():
        with contextlib.ExitStack() as stack:
            for _ in range(n):
                busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
                stack.callback(busy.wait)
                stack.callback(busy.kill)
            return subject()
    return run


def ours(model, options):
    out = output_of(built("celslm_bench_engine", options.preset, "bench"), "--model", model, "--threads", options.threads,
                    "--prefill", options.prefill, "--decode", options.decode, "--limits")
    return json.loads(out.splitlines()[-1])


def peer(model, options):
    """llama-bench's defaults; it warms up before each of the two tests."""
    tests = json.loads(output_of("llama-bench", "-m", model, "-t", options.threads, "-p", options.prefill,
                                 "-n", options.decode, "-r", 1, "-o", "json"))
    return {("prefill" if test["n_prompt"] else "decode") + "_tps": test["avg_ts"] for test in tests}

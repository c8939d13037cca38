"""engine: prefill and decode speed of our engine against llama-bench on the same GGUF.

Random weights in the shape of Qwen2.5-0.5B: speed only. llama-quantize's Q4_0 (not --pure) makes the matrices of the layers Q4_0 and
the token embedding, which is also the output head, Q8_0. Ours and the peer run in turn, `--runs` times each; medians.

--json keys: machine, model, runs, prefill_512, decode_64: {ours_tps, peer_tps, ratio}, peak_mb, file_mb
  ..._tps: median tokens per second; ratio: ours / peer; peak_mb: the most memory our process had resident; file_mb: the GGUF.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.lab import models
from bench.lab.programs import ROOT
from bench.lab.progress import Progress, machine, table

PROGRAM = ROOT / "build" / "bench" / "bench" / "celslm_bench_engine"
PREFILL, DECODE = 512, 64


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="a shape that tools/random_gguf.py knows")
    parser.add_argument("--quantization", default="Q4_0", help="a type that llama-quantize knows")
    parser.add_argument("--model", type=pathlib.Path, help="measure this GGUF instead")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def run(argv):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True).stdout


def ours(model, threads):
    out = run([PROGRAM, "--model", model, "--threads", threads, "--prefill", PREFILL, "--decode", DECODE])
    return json.loads(out.splitlines()[-1])


def peer(model, threads):
    """llama-bench's defaults; it warms up before each of the two tests."""
    tests = json.loads(run(["llama-bench", "-m", model, "-t", threads, "-p", PREFILL, "-n", DECODE, "-r", 1, "-o", "json"]))
    speed = {("prefill" if t["n_prompt"] else "decode") + "_tps": t["avg_ts"] for t in tests}
    return speed


def compare(our_runs, peer_runs, key):
    our_median = statistics.median(r[key] for r in our_runs)
    peer_median = statistics.median(r[key] for r in peer_runs)
    return {"ours_tps": round(our_median, 2), "peer_tps": round(peer_median, 2), "ratio": round(our_median / peer_median, 3)}


def measure(options):
    model = options.model or models.random_model(options.shape, options.quantization)
    our_runs, peer_runs = [], []
    with Progress(f"{options.runs} runs each, in turn") as progress:
        for i in range(options.runs):
            progress.update(f"{i + 1}")
            our_runs.append(ours(model, options.threads))
            peer_runs.append(peer(model, options.threads))
    return {
        "machine": machine(),
        "model": model.name,
        "runs": options.runs,
        f"prefill_{PREFILL}": compare(our_runs, peer_runs, "prefill_tps"),
        f"decode_{DECODE}": compare(our_runs, peer_runs, "decode_tps"),
        "peak_mb": max(r["peak_mb"] for r in our_runs),
        "file_mb": round(model.stat().st_size / 2**20),
    }


def main():
    options = arguments()
    result = measure(options)
    rows = [[name, result[name]["ours_tps"], result[name]["peer_tps"], result[name]["ratio"]] for name in (f"prefill_{PREFILL}", f"decode_{DECODE}")]
    print(f"{result['machine']}; {result['model']}; tokens per second, medians of {result['runs']}")
    print(table(rows, ["", "ours", "llama-bench", "ratio"]))
    print(f"peak memory {result['peak_mb']} MiB for a file of {result['file_mb']} MiB")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

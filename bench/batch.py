"""batch: decode speed of many users on one shared context, ours against llama-batched-bench on the same GGUF.

Random weights in the shape of Qwen2.5-0.5B (Q4_0, output head Q8_0): speed only. Every user decodes `--decode` tokens on top of one
context, one batch a step. The peer runs `llama-batched-bench -pps -kvu -fa on`, its way to share a prompt. Ours and the peer run in turn,
`--runs` times each; medians.

--json keys: machine, model, runs, cases: [{users, context_tokens, ours_tps, peer_tps, ratio, no_context_tps}]
  ..._tps: tokens per second of all users together; ratio: ours / peer; no_context_tps: ours with as many users and no context.
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

PROGRAM = ROOT / "build" / "bench" / "bench" / "celslm_bench_batch"
DEFAULT_CASES = "1x2048,8x2048,16x2048,32x2048,64x2048,1x8192,16x8192,32x8192"


def cases(text):
    return [tuple(int(n) for n in case.split("x")) for case in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="a shape that tools/random_gguf.py knows")
    parser.add_argument("--quantization", default="Q4_0", help="a type that llama-quantize knows")
    parser.add_argument("--cases", type=cases, default=cases(DEFAULT_CASES), help=f"USERSxCONTEXT,... (default: {DEFAULT_CASES})")
    parser.add_argument("--kv", default="f16", help="our KV type")
    parser.add_argument("--decode", type=int, default=32, help="tokens per user")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def run(argv):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True).stdout


def ours_tps(model, users, context, options):
    out = run([PROGRAM, "--model", model, "--threads", options.threads, "--users", users, "--context", context, "--decode",
               options.decode, "--kv", options.kv])
    return json.loads(out.splitlines()[-1])["tps"]


def peer_tps(model, users, context, options):
    cells = context + users * (options.decode + 1) + 64
    out = run(["llama-batched-bench", "-m", model, "-c", cells, "-b", 2048, "-ub", 512, "-npp", context, "-ntg", options.decode,
               "-npl", users, "-pps", "-kvu", "-fa", "on", "-t", options.threads, "--output-format", "jsonl"])
    return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])["speed_tg"]


def measure(model, options):
    ours, peer, bare = {}, {}, {}
    with Progress(f"{options.runs} rounds of {len(options.cases)} cases") as progress:
        for round_ in range(options.runs):
            for case in options.cases:
                users, context = case
                progress.update(f"round {round_ + 1}: {users} users, {context} tokens")
                ours.setdefault(case, []).append(ours_tps(model, users, context, options))
                peer.setdefault(case, []).append(peer_tps(model, users, context, options))
                bare.setdefault(users, []).append(ours_tps(model, users, 0, options))
    out = []
    for case in options.cases:
        mine, theirs = statistics.median(ours[case]), statistics.median(peer[case])
        out.append({"users": case[0], "context_tokens": case[1], "ours_tps": mine, "peer_tps": round(theirs, 2),
                    "ratio": round(mine / theirs, 3), "no_context_tps": statistics.median(bare[case[0]])})
    return out


def main():
    options = arguments()
    model = models.random_model(options.shape, options.quantization)
    result = {"machine": machine(), "model": model.name, "runs": options.runs, "cases": measure(model, options)}
    rows = [[c["users"], c["context_tokens"], f"{c['ours_tps']:.1f}", f"{c['peer_tps']:.1f}", f"{c['ratio']:.2f}x",
             f"{c['no_context_tps']:.1f}"] for c in result["cases"]]
    print(f"{result['machine']}; {result['model']}; tokens per second of all users, medians of {result['runs']}")
    print(table(rows, ["users", "context", "ours", "llama-batched-bench", "ratio", "ours, no context"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

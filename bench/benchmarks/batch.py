"""batch: decode speed of many users on one shared context, ours against llama-batched-bench on the same GGUF.

Random weights in the shape of Qwen2.5-0.5B (Q4_0, output head Q8_0), or --model. Every user decodes `--decode` tokens
on top of one context, one batch a step. The peer runs `llama-batched-bench -pps -kvu -fa on`, its way to share a
prompt. Ours and the peer run in turn, `--runs` times each; medians.

--json keys (rates in tokens per second of all users together):
  machine, model, runs
  cases[].users, cases[].context_tokens
  cases[].ours_tps, cases[].peer_tps          medians
  cases[].ours_spread, cases[].peer_spread    [least, most]
  cases[].ratio                               ours / peer
  cases[].self_ratio                          ours / ours again, in the same rounds: what differs where nothing does
  cases[].no_context_tps                      ours with as many users and no context
"""
import json

from ..benchmark import Benchmark, random_model, times
from ..lab import models
from ..lab.programs import ProgramFailed, built, output_of
from ..lab.progress import Progress, table
from ..measure import in_turn, median, speeds

DEFAULT_CASES = "1x2048,8x2048,16x2048,32x2048,64x2048,1x8192,16x8192,32x8192"


def cases(text):
    return [tuple(int(n) for n in case.split("x")) for case in text.split(",")]


class Batch(Benchmark):
    targets = ("celslm_bench_batch",)
    runs = 3
    against_self = True
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--cases", "2x32", "--decode", "2", "--runs", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="measure this model instead: a file, or a name of ./dev models")
        parser.add_argument("--cases", type=cases, default=cases(DEFAULT_CASES),
                            help=f"USERSxCONTEXT,... (default: {DEFAULT_CASES})")
        parser.add_argument("--kv", default="f16", help="our KV type (default: f16)")
        parser.add_argument("--decode", type=int, default=32, help="tokens per user (default: 32)")

    def measure(self, options):
        model = options.model or random_model(options)
        subjects = {}
        for users, context in options.cases:
            subjects["ours", users, context] = lambda u=users, c=context: ours_tps(model, u, c, options)
            subjects["peer", users, context] = lambda u=users, c=context: peer_tps(model, u, c, options)
            if options.against_self:
                subjects["self", users, context] = subjects["ours", users, context]
            subjects["bare", users] = lambda u=users: ours_tps(model, u, 0, options)
        with Progress(f"{options.runs} rounds of {len(options.cases)} cases") as progress:
            runs = in_turn(subjects, options.runs, progress=progress)
        out = []
        for users, context in options.cases:
            of_case = {name: runs.get((name, users, context)) for name in ("ours", "peer", "self")}
            out.append({"users": users, "context_tokens": context, **speeds(of_case),
                        "no_context_tps": median(runs["bare", users])})
        return {"model": model.name, "runs": options.runs, "cases": out}

    def show(self, result):
        rows = [[c["users"], c["context_tokens"], f"{c['ours_tps']:.1f}", f"{c['peer_tps']:.1f}", times(c["ratio"]),
                 times(c["self_ratio"]), f"{c['no_context_tps']:.1f}"] for c in result["cases"]]
        print(f"{result['machine']}; {result['model']}; tokens per second of all users, medians of {result['runs']}")
        print(table(rows, ["users", "context", "ours", "llama-batched-bench", "ratio", "ours / ours", "ours, no context"]))


def ours_tps(model, users, context, options):
    out = output_of(built("celslm_bench_batch", options.preset, "bench"), "--model", model, "--threads", options.threads,
                    "--users", users, "--context", context, "--decode", options.decode, "--kv", options.kv)
    return json.loads(out.splitlines()[-1])["tps"]


def peer_tps(model, users, context, options, attempts=3):
    """On a full machine llama-batched-bench now and then ends without its last line; then it is run again."""
    cells = context + users * (options.decode + 1) + 64
    for _ in range(attempts):
        out = output_of("llama-batched-bench", "-m", model, "-c", cells, "-b", 2048, "-ub", 512, "-npp", context,
                        "-ntg", options.decode, "-npl", users, "-pps", "-kvu", "-fa", "on", "-t", options.threads,
                        "--output-format", "jsonl")
        if lines := [line for line in out.splitlines() if line.startswith("{")]:
            return json.loads(lines[-1])["speed_tg"]
    raise ProgramFailed(f"llama-batched-bench printed no result in {attempts} attempts")

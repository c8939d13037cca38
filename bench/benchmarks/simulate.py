"""simulate: fleets of edges and clouds in virtual time: first tokens, bytes, how many clouds are needed.

`celslm simulate` over fleets of several sizes (kinds of links by turns, as many clouds as are needed for the goal), over
kinds of links, over ways to route under load, and over failures. What things cost is a model with typical figures
(docs/simulator.md), so the results compare fleets; they are no measurement of one. With --trace also over the requests of
a file in Mooncake's format.

--json keys:
  machine, seed, goal_ms      goal_ms: the p95 of the time to the first token for which clouds_needed is found
  cases[].study               sizes, links, routing, failures or trace: what differs among the cases of this name
  cases[].edges, cases[].clouds, cases[].contexts, cases[].links, cases[].routing
  cases[].requests_per_edge   per second; null: those of the trace
  cases[].edge_mtbf_s         mean time between failures of an edge and of a cloud; 0: none
  cases[].clouds_needed       null: not looked for
  cases[].requests, cases[].answered, cases[].refused
  cases[].forwarded           answered by a neighbour of the edge that was asked
  cases[].repeated            sent again after a failure
  cases[].p50_ttft_ms, cases[].p95_ttft_ms, cases[].p99_ttft_ms, cases[].p50_tpot_ms, cases[].p95_tpot_ms
  cases[].bytes_cloud, cases[].bytes_neighbours, cases[].bytes_tier, cases[].bytes_disk
  cases[].loads               of contexts into an edge's memory
  cases[].computed_tokens, cases[].cloud_prefill_tokens    at edges, at clouds
  cases[].edge_busy, cases[].cloud_link_busy               shares of the time, of the links' rate
  cases[].duration_s, cases[].wall_s                       simulated, and what the simulation took
"""
import json
import pathlib

from ..benchmark import Benchmark, Picture, numbers
from ..chart import Chart
from ..lab.programs import celslm, output_of
from ..lab.progress import Progress, table

MIXED = ("lte", "5g", "cable", "fibre")
LINKS = ("lte", "satellite", "cable", "5g", "wifi", "fibre")
ROUTINGS = ("home", "random", "round-robin", "predicted")


class Simulate(Benchmark):
    smoke = (("--edges", "12,24", "--duration", "60", "--loads", "0.1,0.3", "--trace",
              str(pathlib.Path(__file__).parents[2] / "tests" / "bench" / "trace.jsonl")),)

    def add_arguments(self, parser):
        parser.add_argument("--edges", type=numbers, default=[12, 100, 1000, 10_000], metavar="N,...",
                            help="sizes of fleets (default: 12,100,1000,10000)")
        parser.add_argument("--contexts", type=int, default=100, help="registered contexts (default: 100)")
        parser.add_argument("--duration", type=float, default=600, help="seconds for which requests come (default: 600)")
        parser.add_argument("--loads", type=numbers, default=[0.1, 0.2, 0.3, 0.4], metavar="R,...",
                            help="requests per second and edge when ways to route are compared (default: 0.1,0.2,0.3,0.4)")
        parser.add_argument("--goal", type=float, default=8000, metavar="MS",
                            help="p95 of the time to the first token for which clouds are counted (default: 8000)")
        parser.add_argument("--trace", type=pathlib.Path, metavar="FILE", help="requests in Mooncake's format, too")
        parser.add_argument("--seed", type=int, default=1, help="(default: 1)")

    def measure(self, options):
        cases = []

        def run(study, edges, links, *arguments, rate=0.02, routing="predicted", mtbf=0, clouds=4, find=False):
            argv = ["--edges", edges, "--clouds", clouds, "--contexts", options.contexts, "--duration", options.duration,
                    "--routing", routing, "--seed", options.seed, *arguments]
            for link in links:
                argv += ["--link", link]
            if rate is not None:
                argv += ["--requests-per-edge", rate]
            if mtbf:
                argv += ["--edge-mtbf", mtbf, "--cloud-mtbf", mtbf]
            if find:
                argv += ["--find", "clouds", "--p95-ttft-ms", options.goal]
            result = json.loads(output_of(celslm(options.preset), "simulate", "--json", *argv))
            cases.append({"study": study, "links": ", ".join(links), "routing": routing, "requests_per_edge": rate,
                          "edge_mtbf_s": mtbf, "clouds_needed": None, **result})

        smallest = int(options.edges[0])
        with Progress("simulating fleets"):
            for edges in options.edges:
                run("sizes", int(edges), MIXED, find=True, clouds=1)
            for link in LINKS:
                run("links", smallest, (link,), rate=0.05)
            for rate in options.loads:
                for routing in ROUTINGS:
                    run("routing", smallest, ("fibre",), rate=rate, routing=routing)
            for mtbf in (0, 3600, 600):
                run("failures", smallest, MIXED, rate=0.05, mtbf=mtbf)
            if options.trace:
                for routing in ROUTINGS:
                    run("trace", smallest, MIXED, "--trace", options.trace, rate=None, routing=routing)
        return {"seed": options.seed, "goal_ms": options.goal, "cases": cases}

    def show(self, result):
        print(f"{result['machine']}; simulated, seed {result['seed']}")
        for study, differs in (("sizes", ("edges", "clouds_needed")), ("links", ("links",)),
                               ("routing", ("requests_per_edge", "routing")), ("failures", ("edge_mtbf_s", "repeated")),
                               ("trace", ("routing",))):
            cases = [case for case in result["cases"] if case["study"] == study]
            if not cases:
                continue
            rows = [[*(case[key] for key in differs), case["requests"], case["refused"], f"{case['p50_ttft_ms']:.0f}",
                     f"{case['p95_ttft_ms']:.0f}", *(f"{case[key] / 1e9:.2f}" for key in
                                                    ("bytes_cloud", "bytes_neighbours", "bytes_disk")),
                     f"{100 * case['edge_busy']:.0f} %", f"{case['wall_s']:.1f}"] for case in cases]
            print(f"\n{study}")
            print(table(rows, [*differs, "requests", "refused", "p50 ms", "p95 ms", "GB cloud", "GB neighbours", "GB disk",
                               "edges busy", "took s"]))

    def pictures(self):
        return [Picture(("--svg",), "time to first token over load by way to route, and by link", charts)]


def charts(result):
    by_load = Chart("Ways to route", "requests per second and edge", "p95 of the first token, s", log_y=True)
    for routing in ROUTINGS:
        cases = [c for c in result["cases"] if c["study"] == "routing" and c["routing"] == routing]
        by_load.line(routing, [(c["requests_per_edge"], c["p95_ttft_ms"] / 1000) for c in cases])
    by_size = Chart("Sizes of fleets", "edges", "clouds needed", log_x=True, log_y=True)
    sizes = [c for c in result["cases"] if c["study"] == "sizes"]
    by_size.line(f"p95 within {result['goal_ms'] / 1000:g} s", [(c["edges"], c["clouds_needed"]) for c in sizes])
    return [by_load, by_size]

"""paced: six real edges whose engines take recorded times, their simulation, and what routing brings over chance.

A cloud, and edges that are real in all but one thing: a tiny model's engine is held back until an engine of the given
timings would have computed the same (bench/cpp/paced_engine.h), so that two cores carry them. HTTP, queues, batches,
loads over a link of a limited rate, and routing between neighbours are what `celslm edge` does. All contexts' packs are
complete at the cloud; edges begin with nothing. Requests (Poisson; contexts by Zipf's law; exponentially distributed
prompts and answers, which have exactly the given lengths) come at fixed times, whoever is still being answered. Each has
a home edge: all are as popular (even), or the n-th in proportion to n^-0.5 (uneven).

  home         the home edge answers
  random       an edge drawn at random
  round-robin  the edges in turn
  predicted    the home edge is asked, knows the others as neighbours, and routes by predictions (docs/routing.md)

All of them get the same requests, one after the other, in rounds with other requests, and so does the simulation
(`celslm simulate --replay`), which is told nothing of what the real edges did. The rate of requests is the given share of
what the fleet can carry: what it answers a second in the simulation when all is asked at once, by turns.

--json keys:
  machine, model, edges, places, context_tokens, contexts, mbit, load
  prefill_tokens_per_s, decode_base_s, decode_per_user_s   the recorded timings
  requests_per_s, seconds, rounds                          of the fleet; of a round
  cases[].popularity, cases[].routing
  cases[].requests, cases[].failed                         failed: refused, too; they count as slower than any answer
  cases[].p50_ttft_ms, cases[].p95_ttft_ms                 of all rounds together
  cases[].cloud_mb                                         that edges fetched
  cases[].simulated_p50_ttft_ms, cases[].simulated_p95_ttft_ms, cases[].simulated_cloud_mb
                                                           percentiles: means over the rounds
  cases[].p50_ratio, cases[].p95_ratio                     simulated / real, of rounds' means
  cases[].p95_of_round_robin                               p95_ttft_ms / that of round-robin
"""
import dataclasses
import itertools
import json
import math
import random

from ..benchmark import Benchmark, ms, times
from ..lab import models
from ..lab.lab import Lab
from ..lab.paced import Driver, PacedFleet, cloud_with, simulated, words
from ..lab.programs import Programs
from ..lab.progress import Progress, table
from ..measure import percentile, ratio

ROUTINGS = ("home", "random", "round-robin", "predicted")
POPULARITIES = {"even": 0.0, "uneven": 0.5}
ZIPF = 1.0  # of contexts
FAR = 100_000  # requests that wait at an edge when all are asked at once


@dataclasses.dataclass(frozen=True)
class Engine:
    """Of the edges."""
    prefill: float
    decode_base: float
    decode_per_user: float
    layers: int = 24  # of the model "tiny-deep"
    kv_width: int = 32

    def options(self):
        return ("--prefill", self.prefill, "--decode-base", self.decode_base, "--decode-per-user", self.decode_per_user)


@dataclasses.dataclass(frozen=True)
class FleetSize:
    engine: Engine
    edges: int
    places: int
    queue: int
    mbit: float
    round_trip_ms: float
    context_tokens: int
    context_memory: int  # bytes, as disk
    disk: int


class Paced(Benchmark):
    targets = ("celslm", "celslm_bench_paced_edge", "celslm_relay")
    runs = 2
    smoke = (("--seconds", "2", "--runs", "1", "--edges", "2", "--contexts", "2", "--context-tokens", "64", "--prefill",
              "4000", "--decode-base", "0.001", "--decode-per-user", "0.0005", "--load", "0.2", "--prompt", "16",
              "--answer", "8"),)

    def add_arguments(self, parser):
        parser.add_argument("--seconds", type=float, default=120, help="of arrivals, for each case and round (default: 120)")
        parser.add_argument("--edges", type=int, default=6, help="(default: 6)")
        parser.add_argument("--load", type=float, default=0.8, help="share of what the fleet can carry (default: 0.8)")
        parser.add_argument("--contexts", type=int, default=20, help="(default: 20)")
        parser.add_argument("--context-tokens", type=int, default=2048, help="(default: 2048)")
        parser.add_argument("--held", type=int, default=6, metavar="N",
                            help="contexts that fit an edge's memory (default: 6)")
        parser.add_argument("--kept", type=int, default=12, metavar="N", help="that fit its disk (default: 12)")
        parser.add_argument("--prompt", type=int, default=64, help="mean tokens of a request's own (default: 64)")
        parser.add_argument("--answer", type=int, default=64, help="mean tokens of an answer (default: 64)")
        parser.add_argument("--places", type=int, default=8, help="--max-users of each edge (default: 8)")
        parser.add_argument("--mbit", type=float, default=20, help="of each edge's link to the cloud (default: 20)")
        parser.add_argument("--round-trip", type=float, default=20, metavar="MS", help="of it (default: 20)")
        parser.add_argument("--prefill", type=float, default=200, metavar="TOKENS", help="a second (default: 200)")
        parser.add_argument("--decode-base", type=float, default=0.03, metavar="S", help="of a step (default: 0.03)")
        parser.add_argument("--decode-per-user", type=float, default=0.005, metavar="S",
                            help="more for each answer in it (default: 0.005)")
        parser.add_argument("--routings", type=lambda text: text.split(","), default=list(ROUTINGS), metavar="NAME,...",
                            help=f"(default: {','.join(ROUTINGS)})")
        parser.add_argument("--popularities", type=lambda text: text.split(","), default=list(POPULARITIES),
                            metavar="NAME,...", help=f"of homes (default: {','.join(POPULARITIES)})")
        parser.add_argument("--seed", type=int, default=1, help="(default: 1)")

    def measure(self, options):
        engine = Engine(options.prefill, options.decode_base, options.decode_per_user)
        token_bytes = 2 * 2 * engine.layers * engine.kv_width
        size = FleetSize(engine=engine, edges=options.edges, places=options.places, queue=4000, mbit=options.mbit,
                         round_trip_ms=options.round_trip, context_tokens=options.context_tokens,
                         context_memory=int((options.held + 0.5) * options.context_tokens * token_bytes),
                         disk=int((options.kept + 0.5) * options.context_tokens * token_bytes))
        with Programs() as programs:
            lab = Lab(programs, models.random_model("tiny-deep", "Q4_0"), preset=options.preset, threads=1)
            run = Run(lab, size, options)
            cases = run.cases()
        return {"model": "tiny-deep, random weights", "edges": options.edges, "places": options.places,
                "context_tokens": options.context_tokens, "contexts": options.contexts, "mbit": options.mbit,
                "load": options.load, "prefill_tokens_per_s": options.prefill, "decode_base_s": options.decode_base,
                "decode_per_user_s": options.decode_per_user, "requests_per_s": round(run.rate, 3),
                "seconds": options.seconds, "rounds": options.runs, "cases": cases}

    def show(self, result):
        print(f"{result['machine']}; {result['edges']} edges, {result['requests_per_s']:.2f} requests a second, "
              f"{100 * result['load']:.0f} % of what they carry; {result['rounds']} x {result['seconds']:g} s\n")
        rows = [[case["popularity"], case["routing"], case["requests"], case["failed"], ms(case["p50_ttft_ms"]),
                 ms(case["simulated_p50_ttft_ms"]), times(case["p50_ratio"]), ms(case["p95_ttft_ms"]),
                 ms(case["simulated_p95_ttft_ms"]), times(case["p95_ratio"]), f"{case['cloud_mb']:.0f}",
                 f"{case['simulated_cloud_mb']:.0f}", times(case["p95_of_round_robin"])] for case in result["cases"]]
        print(table(rows, ["homes", "routing", "requests", "failed", "p50 ms", "simulated", "", "p95 ms", "simulated", "",
                           "MB from cloud", "simulated", "p95 of round-robin's"]))


class Run:
    def __init__(self, lab, size, options):
        self.lab, self.size, self.options = lab, size, options
        texts = [words(options.context_tokens, random.Random(f"text {i}")) for i in range(options.contexts)]
        self.rate = options.load * self.most_requests_per_s()
        with Progress("the cloud computes packs"):
            self.cloud, self.contexts = cloud_with(lab, texts)

    def most_requests_per_s(self):
        at_once = requests_of(self.options, 1e6, max(200, 400 * self.options.edges), "even", seed=0)
        done = self.simulate(at_once, "round-robin", 0, dataclasses.replace(self.size, queue=FAR))
        return done["answered"] / done["duration_s"]

    def simulate(self, requests, routing, seed, size=None):
        path = self.lab.programs.folder / f"{self.lab.programs.fresh_name('requests')}.jsonl"
        path.write_text("".join(json.dumps(request) + "\n" for request in requests), encoding="utf-8")
        return simulated(self.options.preset, size or self.size, self.options.contexts, path, routing, seed)

    def cases(self):
        done = {}
        for number in range(self.options.runs):
            kinds = list(itertools.product(self.options.popularities, self.options.routings))
            for popularity, routing in kinds[::1 if number % 2 == 0 else -1]:
                with Progress(f"round {number + 1}: {popularity} homes, {routing}") as progress:
                    done.setdefault((popularity, routing), []).append(self.once(popularity, routing, number, progress))
        cases = [case_of(popularity, routing, rounds) for (popularity, routing), rounds in sorted(done.items())]
        by_turns = {case["popularity"]: case["p95_ttft_ms"] for case in cases if case["routing"] == "round-robin"}
        for case in cases:
            case["p95_of_round_robin"] = ratio(case["p95_ttft_ms"], by_turns.get(case["popularity"]))
        return cases

    def once(self, popularity, routing, number, progress):
        """(seconds to the first tokens, bytes from the cloud, what the simulation says)"""
        n = max(1, round(self.rate * self.options.seconds))
        seed = self.options.seed + number
        requests = requests_of(self.options, self.rate, n, popularity, seed)
        simulation = self.simulate(requests, routing, seed)
        with Programs() as programs:
            lab = Lab(programs, self.lab.model, preset=self.options.preset, threads=1)
            fleet = PacedFleet(lab, self.size, self.cloud, self.contexts, routed=routing == "predicted")
            before = fleet.bytes_from_cloud()
            driver = Driver(fleet, requests, chooser(routing, self.options.edges, seed), seed)
            ttft_s = driver.run(progress)
            for problem in driver.problems[:3]:
                progress.update(problem)
            return ttft_s, fleet.bytes_from_cloud() - before, simulation


def chooser(routing, n_edges, seed):
    chance, turns = random.Random(f"edges {seed}"), itertools.count()
    return {"random": lambda _: chance.randrange(n_edges),
            "round-robin": lambda _: next(turns) % n_edges}.get(routing, lambda request: request["edge"])


def requests_of(options, rate, n, popularity, seed):
    chance = random.Random(f"requests {seed}")
    homes = [(i + 1) ** -POPULARITIES[popularity] for i in range(options.edges)]
    contexts = [(i + 1) ** -ZIPF for i in range(options.contexts)]
    at_s, out = 0.0, []
    for _ in range(n):
        at_s += chance.expovariate(rate)
        out.append({"at_s": at_s, "edge": chance.choices(range(options.edges), homes)[0],
                    "context": chance.choices(range(options.contexts), contexts)[0],
                    "prompt_tokens": max(1, round(chance.expovariate(1 / options.prompt))),
                    "answer_tokens": max(1, round(chance.expovariate(1 / options.answer)))})
    return out


def case_of(popularity, routing, rounds):
    everything = [ttft for ttft_s, _, _ in rounds for ttft in ttft_s]

    def mean(values):
        return sum(values) / len(rounds)

    out = {"popularity": popularity, "routing": routing, "requests": len(everything), "failed": everything.count(math.inf),
           "p50_ttft_ms": round(1000 * percentile(everything, 0.5), 1),
           "p95_ttft_ms": round(1000 * percentile(everything, 0.95), 1),
           "cloud_mb": round(sum(fetched for _, fetched, _ in rounds) / 1e6, 1),
           "simulated_cloud_mb": round(sum(simulation["bytes_cloud"] for _, _, simulation in rounds) / 1e6, 1)}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        expected = mean(simulation[f"{name}_ttft_ms"] for _, _, simulation in rounds)
        out[f"simulated_{name}_ttft_ms"] = round(expected, 1)
        out[f"{name}_ratio"] = ratio(expected, mean(1000 * percentile(ttft_s, share) for ttft_s, _, _ in rounds))
    return out

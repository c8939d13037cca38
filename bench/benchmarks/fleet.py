"""fleet: many clouds and edges behind one directory, while they and the directory are killed and paused at random.

The trained demo model. All clouds sign with one key; contexts are registered at one of them, each edge has one of the
clouds, and all know each other through a Valkey server. Users ask edges at random about contexts that partly fit into
the edges' memories and disks. At random moments one process is killed and started again on what it has on disk, or
paused: an edge, a cloud, or Valkey, which comes back empty. A user whose edge dies under its request asks another one.
Every answer is compared with that of an edge that has all contexts in files and was asked alone.

--json keys:
  machine, model, minutes, users, clouds, edges, contexts
  requests, failed, wrong              failed: no edge answered; wrong: another answer than alone
  retried, refused                     retried: asked another edge, since the first one died or hung; refused: 429
  answer_p50_ms, answer_p95_ms         of an answer of up to 12 tokens, without those that were retried
  faults                               {what: how often}
  layers_by_source                     {source: layers of contexts loaded, by edges since they started last}
  packs_computed, packs_fetched        by clouds, likewise; fetched: from another cloud
  resident_mb_start, resident_mb_end   of all edges together: medians of the second and the last tenth of the samples
  samples[].minute, samples[].resident_mb, samples[].known    known: other nodes that the edges know, mean
"""
import collections
import contextlib
import random
import shutil
import time

from ..benchmark import Benchmark, Picture
from ..chart import Chart
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import Programs
from ..lab.trouble import Node, Refused, User, UsersInTrouble, answers_alone, contexts_of, data_of, metric, suffer
from ..lab.valkey import Valkey

TRIES = 5  # edges that a user asks before it gives up
BEAT_MS = 1000


class Fleet(Benchmark):
    targets = ("celslm", "celslm_relay")
    smoke = (("--minutes", "0.15", "--users", "2", "--contexts", "3", "--clouds", "2", "--edges", "2", "--every", "3"),)

    def add_arguments(self, parser):
        parser.add_argument("--minutes", type=float, default=30, help="(default: 30)")
        parser.add_argument("--users", type=int, default=12, help="(default: 12)")
        parser.add_argument("--clouds", type=int, default=3, help="(default: 3)")
        parser.add_argument("--edges", type=int, default=12, help="(default: 12)")
        parser.add_argument("--contexts", type=int, default=20, help="(default: 20)")
        parser.add_argument("--fitting", type=float, default=0.35, metavar="SHARE",
                            help="of all contexts' KV that fits an edge's memory, and its disk (default: 0.35)")
        parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="between faults (default: 10)")
        parser.add_argument("--threads", type=int, default=1, help="of each program (default: 1)")

    def measure(self, options):
        with Programs() as programs:
            lab = Lab(programs, models.demo_model("small"), preset=options.preset, threads=options.threads)
            run = Run(Town(lab, options), options)
            run.go()
            return {"model": lab.model.name, "minutes": options.minutes, "users": options.users,
                    "clouds": options.clouds, "edges": options.edges, "contexts": options.contexts, **run.result()}

    def show(self, result):
        print(f"{result['clouds']} clouds, {result['edges']} edges, {result['minutes']:g} minutes, {result['users']} users, "
              f"{result['contexts']} contexts: {result['requests']} requests, {result['failed']} failed, "
              f"{result['wrong']} wrong, {result['retried']} asked another edge, {result['refused']} refused for a while; "
              f"median {result['answer_p50_ms']:.0f} ms, p95 {result['answer_p95_ms']:.0f} ms")
        print("faults: " + ", ".join(f"{what} {times}" for what, times in sorted(result["faults"].items())))
        print("layers by source: " + ", ".join(f"{what} {n}" for what, n in sorted(result["layers_by_source"].items())) +
              f"; packs computed {result['packs_computed']:.0f}, fetched by clouds {result['packs_fetched']:.0f}")
        print(f"edges' resident memory {result['resident_mb_start']:.0f} MB in the second tenth, "
              f"{result['resident_mb_end']:.0f} MB in the last")

    def pictures(self):
        return [Picture(("--plot",), "the edges' memory over time", memory_charts)]


def memory_charts(result):
    chart = Chart("Memory of all edges", "minutes", "MB")
    chart.line("resident", [(sample["minute"], sample["resident_mb"]) for sample in result["samples"]], marks=False)
    return [chart]


class Town:
    """The programs, and what is right to answer."""

    def __init__(self, lab, options):
        self.lab = lab
        texts = contexts_of(options.contexts)
        contexts = [lab.context(f"context{i}", text) for i, (text, _) in enumerate(texts)]
        self.expected, all_bytes = answers_alone(lab, contexts, texts)
        self.valkey = Valkey(lab.programs)
        self.clouds = [self.cloud(i) for i in range(options.clouds)]
        for context in contexts:
            lab.put(self.clouds[0].program, context)
        share = str(max(1 << 20, int(options.fitting * all_bytes)))
        budgets = ("--context-budget", share, "--pack-budget", share, "--codec", "f16")
        self.edges = [self.node("edge", i, "--cloud", self.clouds[i % len(self.clouds)].url, *budgets)
                      for i in range(options.edges)]
        for edge in self.edges:
            for context in contexts:
                lab.wait_for_context(edge.program, context)

    def node(self, kind, number, *arguments):
        name = f"{kind}{number}"
        return Node(self.lab, kind, name, "--directory", self.valkey.url, "--directory-beat", BEAT_MS, "--node-id", name,
                    *arguments)

    def cloud(self, number):
        """All have the key of the first."""
        if number > 0:
            mine = data_of(self.lab, f"cloud{number}") / "cloud"
            mine.mkdir(parents=True)
            shutil.copy(data_of(self.lab, "cloud0") / "cloud" / "signing.key", mine)
        return self.node("cloud", number)


class Run(UsersInTrouble):
    def __init__(self, town, options):
        super().__init__(town.expected, options)
        self.town = town

    def use(self, number):
        chance = random.Random(number)
        while time.monotonic() < self.end:
            case = chance.choice(self.cases)
            for attempt in range(TRIES):
                if self.ask(chance.choice(self.town.edges), case, attempt):
                    break
            else:
                self.count("requests", "failed")

    def ask(self, edge, case, attempt):
        """Whether there was an answer."""
        start = time.monotonic()
        try:
            with contextlib.closing(User(edge.url)) as user:
                right = user.ask(*case) == self.expected[case]
        except Refused as refused:
            self.count("refused")
            time.sleep(refused.seconds)
            return False
        except api.FAILURES as error:
            self.count("retried", problem=f"{edge.name}: {error!r}")
            time.sleep(0.2)
            return False
        self.count("requests", None if right else "wrong", ms=None if attempt else (time.monotonic() - start) * 1000)
        return True

    def fail(self, chance):
        kind = chance.choice(("valkey", "cloud", "edge"))
        what = {"valkey": [self.town.valkey], "cloud": self.town.clouds, "edge": self.town.edges}[kind]
        fault = chance.choice(("pause", "restart"))
        suffer(chance.choice(what), fault)
        return f"{kind} {fault}"

    def look(self):
        known, resident = [], 0.0
        for edge in self.town.edges:
            with contextlib.suppress(*api.FAILURES, FileNotFoundError):
                resident += edge.program.memory_mb()
                known.append(metric(edge, "celslm_fleet_nodes") or 0)
        return {"resident_mb": resident, "known": sum(known) / len(known) if known else 0}

    def result(self):
        def of_clouds(name):
            return sum(metric(cloud, name) or 0 for cloud in self.town.clouds)

        return {**super().result(), "retried": self.counts["retried"], "layers_by_source": layers_by_source(self.town.edges),
                "packs_computed": of_clouds("celslm_cloud_packs_computed_total"),
                "packs_fetched": of_clouds("celslm_cloud_packs_fetched_total")}


def layers_by_source(edges):
    out = collections.Counter()
    for edge in edges:
        for line in api.request("GET", f"{edge.url}/metrics").splitlines():
            if line.startswith("celslm_edge_layers_total{"):
                labels, value = line.rsplit(" ", 1)
                out[labels.split('source="')[1].split('"')[0]] += int(float(value))
    return dict(out)

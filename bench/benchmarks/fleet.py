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
import signal
import threading
import time
import urllib.parse

from ..benchmark import Benchmark, Picture
from ..chart import Chart
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import Programs, celslm
from ..lab.progress import Progress
from ..lab.valkey import Valkey
from ..measure import median, percentile
from .soak import Refused, User, answers_alone, contexts_of, metric

FAULT_S = 4  # that one lasts
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


class Node:
    """A cloud or an edge on a port of its own, that can be started again on the data it had."""

    def __init__(self, town, kind, name, *arguments):
        self.town, self.kind, self.name, self.arguments = town, kind, name, arguments
        self.port = 0
        self.start()
        self.url = self.program.url  # the same after each start

    @property
    def data(self):
        return self.town.lab.programs.folder / f"{self.name}.data"

    def start(self):
        lab = self.town.lab
        self.program = lab.programs.start(
            [celslm(lab.preset), self.kind, "--model", lab.model, "--port", self.port, "--data", self.data, "--threads",
             lab.threads, "--directory", self.town.valkey.url, "--directory-beat", BEAT_MS, "--node-id", self.name,
             *self.arguments], lab.programs.fresh_name(self.name))
        self.program.wait_listening()
        self.port = urllib.parse.urlsplit(self.program.url).port

    def kill(self):
        self.program.process.kill()
        self.program.process.wait()

    def pause(self):
        self.program.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.program.process.send_signal(signal.SIGCONT)


class Town:
    """The programs, and what is right to answer."""

    def __init__(self, lab, options):
        self.lab = lab
        self.texts = contexts_of(options.contexts)
        contexts = [lab.context(f"context{i}", text) for i, (text, _) in enumerate(self.texts)]
        self.expected, all_bytes = answers_alone(lab, contexts, self.texts)
        self.valkey = Valkey(lab.programs)
        self.clouds = [self.cloud(i) for i in range(options.clouds)]
        for context in contexts:
            lab.put(self.clouds[0].program, context)
        share = str(max(1 << 20, int(options.fitting * all_bytes)))
        budgets = ("--context-budget", share, "--pack-budget", share, "--codec", "f16")
        self.edges = [Node(self, "edge", f"edge{i}", "--cloud", self.clouds[i % len(self.clouds)].url, *budgets)
                      for i in range(options.edges)]
        for edge in self.edges:
            for context in contexts:
                lab.wait_for_context(edge.program, context)

    def cloud(self, number):
        """All have the key of the first."""
        folder = self.lab.programs.folder
        if number > 0:
            mine = folder / f"cloud{number}.data" / "cloud"
            mine.mkdir(parents=True)
            shutil.copy(folder / "cloud0.data" / "cloud" / "signing.key", mine)
        return Node(self, "cloud", f"cloud{number}")

    def suffer(self, what, fault):
        """Until FAULT_S later."""
        if fault == "pause":
            what.pause()
            time.sleep(FAULT_S)
            what.go_on()
        else:
            what.kill()
            time.sleep(FAULT_S / 2)
            what.start()


class Run:
    def __init__(self, town, options):
        self.town, self.options = town, options
        self.lock = threading.Lock()
        self.counts, self.faults = collections.Counter(), collections.Counter()
        self.times_ms, self.samples, self.problems = [], [], []

    def go(self):
        self.began = time.monotonic()
        self.end = self.began + 60 * self.options.minutes
        threads = [threading.Thread(target=self.use, args=(i,)) for i in range(self.options.users)]
        threads.append(threading.Thread(target=self.trouble))
        for thread in threads:
            thread.start()
        with Progress(f"{self.options.minutes:g} minutes") as progress:
            while time.monotonic() < self.end:
                self.sample()
                progress.update(f"minute {self.samples[-1]['minute']:.0f}: {dict(self.counts)} {self.problems[:3]}")
                time.sleep(max(0.5, min(10.0, self.options.minutes)))
        for thread in threads:
            thread.join()
        self.sample()

    def use(self, number):
        chance = random.Random(number)
        cases = sorted(self.town.expected)
        while time.monotonic() < self.end:
            case = chance.choice(cases)
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
                right = user.ask(*case) == self.town.expected[case]
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

    def count(self, *names, ms=None, problem=None):
        with self.lock:
            self.counts.update(name for name in names if name)
            if ms is not None:
                self.times_ms.append(ms)
            if problem:
                self.problems.append(problem)

    def trouble(self):
        chance = random.Random(1)
        while time.monotonic() + self.options.every + FAULT_S < self.end:
            time.sleep(chance.uniform(0.5, 1.5) * self.options.every)
            kind = chance.choice(("valkey", "cloud", "edge"))
            what = {"valkey": [self.town.valkey], "cloud": self.town.clouds, "edge": self.town.edges}[kind]
            fault = chance.choice(("pause", "restart"))
            self.town.suffer(chance.choice(what), fault)
            self.faults[f"{kind} {fault}"] += 1

    def sample(self):
        known, resident = [], 0.0
        for edge in self.town.edges:
            with contextlib.suppress(*api.FAILURES, FileNotFoundError):
                resident += edge.program.memory_mb()
                known.append(metric(edge, "celslm_fleet_nodes") or 0)
        self.samples.append({"minute": (time.monotonic() - self.began) / 60, "resident_mb": resident,
                             "known": sum(known) / len(known) if known else 0})

    def result(self):
        tenth = max(1, len(self.samples) // 10)
        return {**{name: self.counts[name] for name in ("requests", "failed", "wrong", "retried", "refused")},
                "answer_p50_ms": median(self.times_ms), "answer_p95_ms": percentile(self.times_ms, 0.95),
                "faults": dict(self.faults), "layers_by_source": layers_by_source(self.town.edges),
                "packs_computed": sum(metric(c, "celslm_cloud_packs_computed_total") or 0 for c in self.town.clouds),
                "packs_fetched": sum(metric(c, "celslm_cloud_packs_fetched_total") or 0 for c in self.town.clouds),
                "resident_mb_start": median([s["resident_mb"] for s in self.samples[tenth:2 * tenth + 1]]),
                "resident_mb_end": median([s["resident_mb"] for s in self.samples[-tenth:]]), "samples": self.samples}


def layers_by_source(edges):
    out = collections.Counter()
    for edge in edges:
        for line in api.request("GET", f"{edge.url}/metrics").splitlines():
            if line.startswith("celslm_edge_layers_total{"):
                labels, value = line.rsplit(" ", 1)
                out[labels.split('source="')[1].split('"')[0]] += int(float(value))
    return dict(out)

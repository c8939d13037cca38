"""soak: many users, more contexts than fit in memory, faults and restarts, for as long as it should take.

The trained demo model. An edge whose memory holds a part of the contexts answers users of all of them, without a pause;
its cloud and a neighbouring edge are each behind a link that is cut, slowed, garbled or paused at random moments, and
are killed and started again on what they have on disk. Every answer is compared with that of an edge that has all
contexts in files and was asked alone.

--json keys:
  machine, model, minutes, users, contexts
  requests, failed, wrong, refused     refused: 429, asked again after Retry-After; wrong: another answer than alone
  answer_p50_ms, answer_p95_ms         from a request to its complete answer, of up to 12 tokens
  faults                               {what: how often}
  samples[].minute, samples[].resident_mb, samples[].ledger_mb    the edge's, over time; ledger: what it accounts for
  resident_mb_start, resident_mb_end, ledger_mb_end    medians of the second and the last tenth of the samples
  evicted_loads                        loads of contexts that the edge had had before
"""
import collections
import contextlib
import http.client
import json
import random
import re
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
from ..measure import median, percentile

ANSWER_TOKENS = 12
FAULTS = ("cut", "slow", "garble", "pause", "restart")
RATE_MBIT = 200
FAULT_S = 4  # that one lasts


class Soak(Benchmark):
    targets = ("celslm", "celslm_relay")
    smoke = (("--minutes", "0.15", "--users", "2", "--contexts", "3", "--every", "3"),)

    def add_arguments(self, parser):
        parser.add_argument("--minutes", type=float, default=60, help="(default: 60)")
        parser.add_argument("--users", type=int, default=32, help="(default: 32)")
        parser.add_argument("--contexts", type=int, default=20, help="(default: 20)")
        parser.add_argument("--fitting", type=float, default=0.35, metavar="SHARE",
                            help="of all contexts' KV that fits the edge's memory (default: 0.35)")
        parser.add_argument("--every", type=float, default=15, metavar="SECONDS", help="between faults (default: 15)")
        parser.add_argument("--threads", type=int, default=1, help="of each program (default: 1)")

    def measure(self, options):
        with Programs() as programs:
            lab = Lab(programs, models.demo_model("small"), preset=options.preset, threads=options.threads)
            town = Town(lab, options)
            run = Run(town, options)
            run.go()
            return {"model": lab.model.name, "minutes": options.minutes, "users": options.users,
                    "contexts": options.contexts, **run.result()}

    def show(self, result):
        print(f"{result['minutes']:g} minutes, {result['users']} users, {result['contexts']} contexts: "
              f"{result['requests']} requests, {result['failed']} failed, {result['wrong']} wrong, "
              f"{result['refused']} refused for a while; median {result['answer_p50_ms']:.0f} ms, "
              f"p95 {result['answer_p95_ms']:.0f} ms; {result['evicted_loads']:.0f} contexts loaded again")
        print("faults: " + ", ".join(f"{what} {times}" for what, times in sorted(result["faults"].items())))
        print(f"resident {result['resident_mb_start']:.0f} MB in the second tenth, {result['resident_mb_end']:.0f} MB in "
              f"the last; accounted for at the end: {result['ledger_mb_end'] or 0:.0f} MB")

    def pictures(self):
        return [Picture(("--plot",), "the edge's memory over time", memory_charts)]


def memory_charts(result):
    chart = Chart("Memory of the edge", "minutes", "MB")
    for key, name in (("resident_mb", "resident"), ("ledger_mb", "accounted for")):
        chart.line(name, [(sample["minute"], sample[key]) for sample in result["samples"]], marks=False)
    return [chart]


class Supplier:
    """A cloud or a neighbour on a port of its own, behind a link that takes orders; it can be started again."""

    def __init__(self, lab, start):
        self.lab, self.start = lab, start
        self.program = start(0)
        self.port = urllib.parse.urlsplit(self.program.url).port
        self.orders = lab.programs.folder / lab.programs.fresh_name("orders")
        self.url = lab.relay(self.program.url, RATE_MBIT, control=self.orders).url

    def order(self, text):
        with open(self.orders, "w", encoding="utf-8") as pipe:
            pipe.write(text + "\n")

    def suffer(self, fault):
        if fault == "pause":
            self.program.process.send_signal(signal.SIGSTOP)
            time.sleep(FAULT_S)
            self.program.process.send_signal(signal.SIGCONT)
        elif fault == "restart":
            self.program.process.kill()
            self.program.process.wait()
            time.sleep(FAULT_S / 2)
            self.program = self.start(self.port)
        else:
            self.order({"cut": "cut", "slow": "rate 0.001", "garble": "garble 1000000000"}[fault])
            time.sleep(FAULT_S)
            for order in (f"rate {RATE_MBIT}", "garble 0", "resume"):
                self.order(order)


class Town:
    """The programs, and what is right to answer."""

    def __init__(self, lab, options):
        self.texts = contexts_of(options.contexts)
        contexts = [lab.context(f"context{i}", text) for i, (text, _) in enumerate(self.texts)]
        self.expected, all_bytes = answers_alone(lab, contexts, self.texts)
        budget = ("--context-budget", max(1 << 20, int(options.fitting * all_bytes)))

        def cloud(port):
            return restartable(lab, "cloud", port)

        self.cloud = Supplier(lab, cloud)
        for context in contexts:
            lab.put(self.cloud.program, context, codecs=["f16"])

        def neighbour(port):
            return restartable(lab, "edge", port, "--cloud", self.cloud.url, "--codec", "f16")

        self.neighbour = Supplier(lab, neighbour)
        self.edge = lab.edge("edge", "--cloud", self.cloud.url, "--peer", self.neighbour.url, *budget, "--pack-budget",
                             "1MB", knows=contexts)
        self.suppliers = {"cloud": self.cloud, "neighbour": self.neighbour}


def restartable(lab, kind, port, *arguments):
    """On the data it had before, if any."""
    program = lab.programs.start(
        [celslm(lab.preset), kind, "--model", lab.model, "--port", port, "--data", lab.programs.folder / f"{kind}-restarted",
         "--threads", lab.threads, *arguments], lab.programs.fresh_name(kind))
    program.wait_listening()
    return program


def contexts_of(n):
    """(text, questions): the demo worlds, and again under other headings."""
    worlds = models.demo_worlds()
    out = []
    for i in range(n):
        world, copy = worlds[i % len(worlds)], i // len(worlds)
        heading = f"Issue {copy}. " if copy else ""
        out.append((heading + world["context"], [question["question"] for question in world["questions"]]))
    return out


def answers_alone(lab, contexts, texts):
    """{(context, question): answer} of an edge that has the contexts in files, and the bytes of all their KV."""
    files = [part for context in contexts for part in ("--context", context.path)]
    expected = {}
    with lab.passing_edge("alone", *files, "--no-reuse") as edge, Progress("answers without faults") as progress:
        for text, questions in texts:
            with contextlib.closing(User(edge.url)) as user:
                for question in questions:
                    expected[text, question] = user.ask(text, question)
            progress.update(f"{len(expected)} answers")
        return expected, metric(edge, "celslm_edge_context_kv_bytes")


def metric(edge, name):
    """The sum over its labels; None where there is none."""
    text = api.request("GET", f"{edge.url}/metrics")
    values = [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)]
    return sum(values) if values else None


class Refused(Exception):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds


class User:
    """One kept-alive connection."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def close(self):
        self.http.close()

    def ask(self, context, question):
        messages = [{"role": "system", "content": context}, {"role": "user", "content": question}]
        body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": ANSWER_TOKENS})
        self.http.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        text = answer.read().decode()
        if answer.status == 429:
            raise Refused(float(answer.getheader("Retry-After", "1")))
        if answer.status != 200:
            raise api.ApiError(answer.status, text)
        return json.loads(text)["choices"][0]["message"]["content"]


class Run:
    def __init__(self, town, options):
        self.town, self.options = town, options
        self.lock = threading.Lock()
        self.counts, self.faults = collections.Counter(), collections.Counter()
        self.times_ms, self.samples, self.problems = [], [], []
        self.end = None

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
        with contextlib.ExitStack() as stack:
            user = stack.enter_context(contextlib.closing(User(self.town.edge.url)))
            while time.monotonic() < self.end:
                case = chance.choice(cases)
                start = time.monotonic()
                try:
                    right = user.ask(*case) == self.town.expected[case]
                    self.count("requests", None if right else "wrong", ms=(time.monotonic() - start) * 1000)
                except Refused as refused:
                    self.count("refused")
                    time.sleep(refused.seconds)
                except api.FAILURES as error:
                    self.count("requests", "failed", problem=repr(error))
                    user.close()
                    time.sleep(1)

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
            name, fault = chance.choice(sorted(self.town.suppliers)), chance.choice(FAULTS)
            self.town.suppliers[name].suffer(fault)
            self.faults[f"{name} {fault}"] += 1

    def sample(self):
        edge = self.town.edge
        ledger = metric(edge, "celslm_edge_memory_bytes")
        self.samples.append({"minute": (time.monotonic() - self.began) / 60, "resident_mb": edge.memory_mb(),
                             "ledger_mb": None if ledger is None else ledger / 2**20})

    def result(self):
        tenth = max(1, len(self.samples) // 10)
        loads = metric(self.town.edge, "celslm_edge_loads_total") or 0
        return {"requests": self.counts["requests"], "failed": self.counts["failed"], "wrong": self.counts["wrong"],
                "refused": self.counts["refused"], "answer_p50_ms": median(self.times_ms),
                "answer_p95_ms": percentile(self.times_ms, 0.95), "faults": dict(self.faults), "samples": self.samples,
                "resident_mb_start": median([s["resident_mb"] for s in self.samples[tenth:2 * tenth + 1]]),
                "resident_mb_end": median([s["resident_mb"] for s in self.samples[-tenth:]]),
                "ledger_mb_end": self.samples[-1]["ledger_mb"],
                "evicted_loads": max(0, loads - self.options.contexts)}

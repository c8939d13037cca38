"""Users who ask about many contexts while nodes fail: what the benchmarks of that have in common."""
import abc
import collections
import concurrent.futures
import contextlib
import json
import random
import re
import signal
import threading
import time
import typing
import urllib.parse

from ..measure import median, percentile
from . import api, models
from .programs import celslm
from .progress import Progress

ANSWER_TOKENS = 12
FAULT_S = 4  # that one lasts


class Node:
    """A cloud or an edge on a port of its own, that can be started again on the data it had."""

    def __init__(self, lab, kind, name, *arguments, model=None, port=0):
        self.lab, self.kind, self.name, self.arguments = lab, kind, name, arguments
        self.model, self.port = model or lab.model, port
        self.start()
        self.url = self.program.url  # the same after each start

    def start(self):
        programs = self.lab.programs
        self.program = programs.start(
            [celslm(self.lab.preset), self.kind, "--model", self.model, "--port", self.port, "--data",
             data_of(self.lab, self.name), "--threads", self.lab.threads, *self.arguments], programs.fresh_name(self.name))
        self.program.wait_listening()
        self.port = urllib.parse.urlsplit(self.program.url).port

    def kill(self):
        self.program.process.kill()
        self.program.process.wait()

    def pause(self):
        self.program.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.program.process.send_signal(signal.SIGCONT)


def data_of(lab, name):
    """The folder of a node of this name."""
    return lab.programs.folder / f"{name}.data"


def suffer(what, fault):
    """A node (or what has the same methods) is paused, or killed and started again; until FAULT_S later."""
    if fault == "pause":
        what.pause()
        time.sleep(FAULT_S)
        what.go_on()
    else:
        what.kill()
        time.sleep(FAULT_S / 2)
        what.start()


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
                    expected[text, question] = user.ask(text, question).text
            progress.update(f"{len(expected)} answers")
        return expected, metric(edge, "celslm_edge_context_kv_bytes")


def metric(edge, name, caller=api.ANYBODY):
    """The sum over its labels; None where there is none."""
    text = api.request("GET", f"{edge.url}/metrics", caller=caller)
    values = [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)]
    return sum(values) if values else None


class Refused(Exception):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds


class Reply(typing.NamedTuple):
    text: str
    extension: dict
    cached_tokens: int
    first_token_ms: float | None = None  # of a stream


class User:
    """One kept-alive connection."""

    def __init__(self, url, caller=api.ANYBODY):
        self.caller = caller
        self.http = caller.connect(url, timeout_s=120)

    def close(self):
        self.http.close()

    def ask(self, text, question, *, stream=False, **extension):
        """text: the system message, if any. extension: fields of "x_celslm"."""
        system = [{"role": "system", "content": text}] if text else []
        body = {"messages": [*system, {"role": "user", "content": question}], "temperature": 0, "max_tokens": ANSWER_TOKENS,
                "x_celslm": extension, **({"stream": True, "stream_options": {"include_usage": True}} if stream else {})}
        start = time.monotonic()
        self.http.request("POST", "/v1/chat/completions", json.dumps(body),
                          self.caller.headers(**{"Content-Type": "application/json"}))
        answer = self.http.getresponse()
        if answer.status == 429:
            answer.read()
            raise Refused(float(answer.getheader("Retry-After", "1")))
        if answer.status != 200:
            raise api.ApiError(answer.status, answer.read().decode())
        if stream:
            streamed = api.Streamed()
            streamed.read(answer, start)
            if streamed.usage is None:
                raise ConnectionError("the stream ended too early")
            return Reply(streamed.text, streamed.x_celslm, cached_tokens(streamed.usage), streamed.ms)
        whole = json.loads(answer.read())
        return Reply(whole["choices"][0]["message"]["content"], whole["x_celslm"], cached_tokens(whole["usage"]))


def cached_tokens(usage):
    return usage["prompt_tokens_details"]["cached_tokens"]


class UsersInTrouble(abc.ABC):
    """`options.users` threads that ask, and one that lets things fail, for `options.minutes`. Derived classes ask, choose
    what fails, and look at what is of interest over time."""

    def __init__(self, expected, options):
        self.expected, self.options = expected, options
        self.cases = sorted(expected)
        self.lock = threading.Lock()
        self.counts, self.faults = collections.Counter(), collections.Counter()
        self.times_ms, self.samples, self.problems = [], [], []
        self.began = self.end = None

    @abc.abstractmethod
    def use(self, number):
        """Asks until the end, as user `number`; says with count() what came of it."""

    @abc.abstractmethod
    def fail(self, chance):
        """Lets something fail, until it is over. Returns its name."""

    @abc.abstractmethod
    def look(self):
        """What a sample has besides its minute; `resident_mb` among it."""

    def go(self):
        self.began = time.monotonic()
        self.end = self.began + 60 * self.options.minutes
        with concurrent.futures.ThreadPoolExecutor(self.options.users + 1) as pool:
            all_of_them = [*(pool.submit(self.use, i) for i in range(self.options.users)), pool.submit(self.trouble)]
            with Progress(f"{self.options.minutes:g} minutes") as progress:
                while time.monotonic() < self.end:
                    self.sample()
                    progress.update(f"minute {self.samples[-1]['minute']:.0f}: {dict(self.counts)} {self.problems[:3]}")
                    time.sleep(max(0.5, min(10.0, self.options.minutes)))
        for one in all_of_them:
            one.result()  # raises what it raised
        self.sample()

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
            self.faults[self.fail(chance)] += 1

    def sample(self):
        self.samples.append({"minute": (time.monotonic() - self.began) / 60, **self.look()})

    def result(self):
        tenth = max(1, len(self.samples) // 10)
        return {**{name: self.counts[name] for name in ("requests", "failed", "wrong", "refused")},
                "answer_p50_ms": median(self.times_ms), "answer_p95_ms": percentile(self.times_ms, 0.95),
                "faults": dict(self.faults), "samples": self.samples,
                "resident_mb_start": median([s["resident_mb"] for s in self.samples[tenth:2 * tenth + 1]]),
                "resident_mb_end": median([s["resident_mb"] for s in self.samples[-tenth:]])}

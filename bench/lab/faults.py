"""Faults at random moments of a load, for bench/benchmarks/load.py."""
import contextlib
import math
import random
import signal
import statistics
import threading
import time

from ..measure import percentile
from . import api
from .progress import Progress

KINDS = ("paused", "killed", "slowed", "garbled", "cut")
REST_S = 5.5  # longer than an edge backs off from a source that failed alone;
EDGES = 4  # while one rests the next ones meet their faults
FORGETFUL = ("--context-budget", "1", "--pack-budget", "1MB", "--no-reuse")


class Source:
    """A cloud or a neighbour behind a link of one edge's own; the link takes orders through a pipe."""

    def __init__(self, site, kind, program, mbit):
        self.kind, self.program, self.mbit = kind, program, mbit
        self.orders = site.programs.folder / site.programs.fresh_name("orders")
        self.url = site.relay(program.url, mbit, control=self.orders).url

    def order(self, text):
        with open(self.orders, "w", encoding="utf-8") as pipe:
            pipe.write(text + "\n")

    def strike(self, fault):
        if fault == "paused":
            self.program.process.send_signal(signal.SIGSTOP)
        elif fault in ("killed", "cut"):  # to an edge a killed program is a link whose connections are reset and refused
            self.order("cut")
        elif fault == "slowed":
            self.order("rate 0.001")
        else:
            self.order("garble 1000000000")

    def heal(self):
        self.program.process.send_signal(signal.SIGCONT)
        self.order(f"rate {self.mbit}")
        self.order("garble 0")
        self.order("resume")


class Box:
    """An edge that keeps nothing, so that every request loads again, and its sources."""

    def __init__(self, site, mbit):
        programs = [("cloud", site.main_cloud)] + [("peer", neighbour) for neighbour in site.neighbours]
        self.sources = [Source(site, kind, program, mbit) for kind, program in programs]
        self.edge = site.edge("edge", *FORGETFUL, *(part for s in self.sources for part in (f"--{s.kind}", s.url)),
                              knows=site.contexts)
        self.ready_at = 0.0

    def meet(self, site, source, fault, moment_ms):
        """A load with a fault so long after its request: how long it took, and the answer."""
        while True:
            time.sleep(max(0.0, self.ready_at - time.monotonic()))
            displace(self.edge, site)
            timer = threading.Timer(moment_ms / 1000, source.strike, (fault,))
            timer.start()
            try:
                with contextlib.suppress(StillInMemory):
                    return answer(self.edge, site.long)
            finally:
                timer.join()
                source.heal()
                self.ready_at = time.monotonic() + REST_S


class StillInMemory(Exception):
    """The context was in memory: nothing was loaded."""


def answer(edge, context):
    streamed = api.first_token(edge.url, context.text, max_tokens=8)
    if any(layer["source"] == "memory" for layer in streamed.x_celslm.get("layers", [])):
        raise StillInMemory
    return streamed.ms, streamed.text


def displace(edge, site):
    """The short context takes the long one's place."""
    with contextlib.suppress(StillInMemory):
        answer(edge, site.short)
    time.sleep(0.3)  # whoever reads it, or keeps it, lets go of it


def load_again(edge, site):
    while True:
        displace(edge, site)
        with contextlib.suppress(StillInMemory):
            return answer(edge, site.long)


def measure_local(site):
    """How long a local prefill takes, and its answer."""
    with site.passing_edge("local", *site.local_arguments, *FORGETFUL) as edge:
        load_again(edge, site)
        measured = [load_again(edge, site) for _ in range(3)]
    return statistics.median(ms for ms, _ in measured), measured[0][1]


def run_faults(site, runs, mbit):
    """Each request meets one fault of one of its sources, at a random moment of what its load usually takes."""
    local_ms, expected = measure_local(site)
    boxes = [Box(site, mbit) for _ in range(EDGES)]
    for box in boxes:
        load_again(box.edge, site)
    usual_ms = load_again(boxes[0].edge, site)[0]
    chance, failed, wrong, over = random.Random(1), 0, 0, []
    with Progress(f"{runs} faults; local prefill takes {local_ms:.0f} ms, an untroubled load {usual_ms:.0f} ms") as progress:
        for run in range(runs):
            box, fault, moment_ms = boxes[run % EDGES], KINDS[run % len(KINDS)], chance.uniform(0, usual_ms)
            source = chance.choice(box.sources)
            name = f"{source.kind} {fault}"
            try:
                ms, text = box.meet(site, source, fault, moment_ms)
                wrong += text != expected
                over.append((max(0.0, ms - moment_ms) / local_ms, name))
            except api.FAILURES:
                failed += 1
                over.append((math.inf, name))
            worst = max(over)
            progress.update(f"{run + 1} of {runs}: {failed} failed, {wrong} wrong, worst {worst[0]:.2f} ({worst[1]})")
    by_fault = {name: max(ratio for ratio, n in over if n == name) for name in sorted({n for _, n in over})}
    return {"runs": runs, "failed": failed, "wrong": wrong, "ttft_p99_over_local": percentile([ratio for ratio, _ in over],
                                                                                              0.99),
            "local_ms": local_ms, "usual_ms": usual_ms, "worst_by_fault": by_fault}

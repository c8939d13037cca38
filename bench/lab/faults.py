"""Faults at random moments of a load, for bench/load.py."""
import contextlib
import random
import signal
import statistics
import threading
import time

from . import api
from .progress import Progress

KINDS = ("paused", "killed", "slowed", "garbled", "cut")
REST_S = 5.5  # longer than an edge leaves a source that failed alone;
EDGES = 4  # while one rests the next ones meet their faults
FORGETFUL = ("--context-budget", "1", "--pack-budget", "1MB", "--no-reuse")


class Link:
    """A relay that takes orders on its standard input."""

    def __init__(self, lab, url, mbit, name):
        self.mbit = mbit
        self.program = lab.programs.start([lab.relay_binary, "--to", url.split("//")[1], "--rate", mbit, "--control",
                                           lab.programs.folder / f"{name}.orders"], name)
        self.orders = lab.programs.folder / f"{name}.orders"
        self.url = self.program.wait_listening()

    def order(self, text):
        with open(self.orders, "w", encoding="utf-8") as pipe:
            pipe.write(text + "\n")


class Source:
    """A cloud or a neighbour behind a link of one edge's own."""

    def __init__(self, lab, kind, program, mbit, name):
        self.kind, self.program, self.link = kind, program, Link(lab, program.url, mbit, name)

    def strike(self, fault):
        if fault == "paused":
            self.program.process.send_signal(signal.SIGSTOP)
        elif fault in ("killed", "cut"):  # to an edge a killed program is a link whose connections are reset and refused
            self.link.order("cut")
        elif fault == "slowed":
            self.link.order("rate 0.001")
        else:
            self.link.order("garble 1000000000")

    def heal(self):
        self.program.process.send_signal(signal.SIGCONT)
        self.link.order(f"rate {self.link.mbit}")
        self.link.order("garble 0")
        self.link.order("resume")


class Box:
    """An edge that keeps nothing, so that every request loads anew, and its sources."""

    def __init__(self, lab, mbit, number):
        programs = [("cloud", lab.cloud)] + [("peer", neighbour) for neighbour in lab.neighbours]
        self.sources = [Source(lab, kind, program, mbit, f"fault-relay-{number}-{i}") for i, (kind, program) in enumerate(programs)]
        self.edge = lab.edge("edge", *FORGETFUL, *(part for s in self.sources for part in (f"--{s.kind}", s.link.url)))
        self.ready_at = 0.0

    def meet(self, lab, source, fault, moment_ms):
        """A load with a fault so long after its request: how long it took, and the answer."""
        while True:
            time.sleep(max(0.0, self.ready_at - time.monotonic()))
            displace(self.edge, lab)
            timer = threading.Timer(moment_ms / 1000, source.strike, (fault,))
            timer.start()
            try:
                with contextlib.suppress(StillInMemory):
                    return answer(self.edge, lab.contexts["long"])
            finally:
                timer.join()
                source.heal()
                self.ready_at = time.monotonic() + REST_S


class StillInMemory(Exception):
    """The context was in memory: nothing was loaded."""


def answer(edge, context):
    messages = [{"role": "system", "content": context}, {"role": "user", "content": "Go on."}]
    streamed = api.stream_chat(edge.url, messages, temperature=0, max_tokens=8, logprobs=True)
    if any(layer["source"] == "memory" for layer in streamed.x_celslm.get("layers", [])):
        raise StillInMemory
    return streamed.first_event_s * 1000, streamed.text


def displace(edge, lab):
    """The short context takes the long one's place."""
    with contextlib.suppress(StillInMemory):
        answer(edge, lab.contexts["warm"])
    time.sleep(0.3)  # whoever reads it, or keeps it, lets go of it


def load_anew(edge, lab):
    while True:
        displace(edge, lab)
        with contextlib.suppress(StillInMemory):
            return answer(edge, lab.contexts["long"])


def measure_local(lab):
    """What a local prefill takes and says."""
    edge = lab.edge("local", "--context", lab.paths["warm"], "--context", lab.paths["long"], *FORGETFUL)
    load_anew(edge, lab)
    measured = [load_anew(edge, lab) for _ in range(3)]
    edge.stop()
    return statistics.median(ms for ms, _ in measured), measured[0][1]


def run_faults(lab, runs, mbit):
    """Each request meets one fault of one of its sources, at a random moment of what its load usually takes."""
    local_ms, expected = measure_local(lab)
    boxes = [Box(lab, mbit, number) for number in range(EDGES)]
    for box in boxes:
        load_anew(box.edge, lab)
    usual_ms = load_anew(boxes[0].edge, lab)[0]
    chance, failed, wrong, over = random.Random(1), 0, 0, []
    with Progress(f"{runs} faults; local prefill takes {local_ms:.0f} ms, an untroubled load {usual_ms:.0f} ms") as progress:
        for run in range(runs):
            box, fault, moment_ms = boxes[run % EDGES], KINDS[run % len(KINDS)], chance.uniform(0, usual_ms)
            source = chance.choice(box.sources)
            try:
                ms, text = box.meet(lab, source, fault, moment_ms)
                wrong += text != expected
                over.append((max(0.0, ms - moment_ms) / local_ms, f"{source.kind} {fault}"))
            except (OSError, api.ApiError):
                failed += 1
            worst = max(over, default=(0.0, "none"))
            progress.update(f"{run + 1} of {runs}: {failed} failed, {wrong} wrong, worst {worst[0]:.2f} ({worst[1]})")
    over.sort()
    by_fault = {name: max(ratio for ratio, n in over if n == name) for name in sorted({n for _, n in over})}
    return {"runs": runs, "failed": failed, "wrong": wrong, "ttft_p99_over_local": over[min(len(over) - 1, int(len(over) * 0.99))][0],
            "local_ms": local_ms, "usual_ms": usual_ms, "worst_by_fault": by_fault}

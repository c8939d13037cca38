"""Faults at random moments of a load, for bench/load.py."""
import random
import signal
import statistics
import threading
import time

from . import api
from .progress import Progress

KINDS = ("paused", "killed", "slowed", "garbled", "cut")
REST_S = 5.5  # longer than an edge leaves a source that failed alone


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


def strike(kind, link, cloud):
    if kind == "paused":
        cloud.process.send_signal(signal.SIGSTOP)
    elif kind in ("killed", "cut"):  # to an edge a killed cloud is a link whose connections are reset and refused
        link.order("cut")
    elif kind == "slowed":
        link.order("rate 0.001")
    else:
        link.order("garble 1000000000")


def heal(link, cloud):
    cloud.process.send_signal(signal.SIGCONT)
    link.order(f"rate {link.mbit}")
    link.order("garble 0")
    link.order("resume")


def answer(edge, context):
    messages = [{"role": "system", "content": context}, {"role": "user", "content": "Go on."}]
    streamed = api.stream_chat(edge.url, messages, temperature=0, max_tokens=8, logprobs=True)
    if any(layer["source"] == "memory" for layer in streamed.x_celslm.get("layers", [])):
        raise RuntimeError("the context was in memory: nothing was loaded")
    return streamed.first_event_s * 1000, streamed.text


def load_anew(edge, lab):
    """The long context, after the short one has taken its place."""
    answer(edge, lab.contexts["warm"])
    time.sleep(0.2)  # its threads let go of it
    return answer(edge, lab.contexts["long"])


def run_faults(lab, runs, mbit):
    """An edge that keeps nothing, so that every request loads anew; each request meets one fault."""
    link = Link(lab, lab.cloud.url, mbit, "fault-relay")
    forgetful = ("--context-budget", "1", "--pack-budget", "1MB", "--no-reuse")
    local = lab.edge("local", "--context", lab.paths["warm"], "--context", lab.paths["long"], *forgetful)
    load_anew(local, lab)
    measured = [load_anew(local, lab) for _ in range(3)]
    local_ms, expected = statistics.median(ms for ms, _ in measured), measured[0][1]
    local.stop()
    edge = lab.edge("edge", "--cloud", link.url, *forgetful)
    load_anew(edge, lab)
    usual_ms = load_anew(edge, lab)[0]
    chance, failed, wrong, over = random.Random(1), 0, 0, []
    with Progress(f"{runs} faults; local prefill takes {local_ms:.0f} ms, an untroubled load {usual_ms:.0f} ms") as progress:
        for run in range(runs):
            kind, moment_ms = KINDS[run % len(KINDS)], chance.uniform(0, usual_ms)
            answer(edge, lab.contexts["warm"])
            timer = threading.Timer(moment_ms / 1000, strike, (kind, link, lab.cloud))
            timer.start()
            try:
                ms, text = answer(edge, lab.contexts["long"])
                wrong += text != expected
                over.append((max(0.0, ms - moment_ms) / local_ms, kind))
            except (OSError, api.ApiError):
                failed += 1
            timer.join()
            heal(link, lab.cloud)
            progress.update(f"{run + 1} of {runs}: {failed} failed, {wrong} wrong, worst {max(over)[0]:.2f} ({max(over)[1]})")
            time.sleep(REST_S)
    over.sort()
    by_kind = {kind: max((ratio for ratio, k in over if k == kind), default=None) for kind in KINDS}
    return {"runs": runs, "failed": failed, "wrong": wrong, "ttft_p99_over_local": over[min(len(over) - 1, int(len(over) * 0.99))][0],
            "local_ms": local_ms, "usual_ms": usual_ms, "worst_by_kind": by_kind}

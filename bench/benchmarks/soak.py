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
import contextlib
import random
import time

from ..benchmark import Benchmark, Picture
from ..chart import Chart
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import Programs
from ..lab.trouble import FAULT_S, Node, Refused, User, UsersInTrouble, answers_alone, contexts_of, metric, suffer

FAULTS = ("cut", "slow", "garble", "pause", "restart")
RATE_MBIT = 200


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
    """A cloud or a neighbour behind a link that takes orders."""

    def __init__(self, lab, kind, name, *arguments):
        self.node = Node(lab, kind, name, *arguments)
        self.orders = lab.programs.folder / lab.programs.fresh_name("orders")
        self.url = lab.relay(self.node.url, RATE_MBIT, control=self.orders).url

    def order(self, text):
        with open(self.orders, "w", encoding="utf-8") as pipe:
            pipe.write(text + "\n")

    def suffer(self, fault):
        if fault in ("pause", "restart"):
            return suffer(self.node, fault)
        self.order({"cut": "cut", "slow": "rate 0.001", "garble": "garble 1000000000"}[fault])
        time.sleep(FAULT_S)
        for order in (f"rate {RATE_MBIT}", "garble 0", "resume"):
            self.order(order)
        return None


class Town:
    """The programs, and what is right to answer."""

    def __init__(self, lab, options):
        texts = contexts_of(options.contexts)
        contexts = [lab.context(f"context{i}", text) for i, (text, _) in enumerate(texts)]
        self.expected, all_bytes = answers_alone(lab, contexts, texts)
        budget = ("--context-budget", max(1 << 20, int(options.fitting * all_bytes)))
        cloud = Supplier(lab, "cloud", "supplier")
        for context in contexts:
            lab.put(cloud.node.program, context, codecs=["f16"])
        neighbour = Supplier(lab, "edge", "neighbour", "--cloud", cloud.url, "--codec", "f16")
        self.edge = lab.edge("edge", "--cloud", cloud.url, "--peer", neighbour.url, *budget, "--pack-budget", "1MB",
                             knows=contexts)
        self.suppliers = {"cloud": cloud, "neighbour": neighbour}


class Run(UsersInTrouble):
    def __init__(self, town, options):
        super().__init__(town.expected, options)
        self.town = town

    def use(self, number):
        chance = random.Random(number)
        with contextlib.closing(User(self.town.edge.url)) as user:
            while time.monotonic() < self.end:
                case = chance.choice(self.cases)
                start = time.monotonic()
                try:
                    right = user.ask(*case).text == self.expected[case]
                    self.count("requests", None if right else "wrong", ms=(time.monotonic() - start) * 1000)
                except Refused as refused:
                    self.count("refused")
                    time.sleep(refused.seconds)
                except api.FAILURES as error:
                    self.count("requests", "failed", problem=repr(error))
                    user.close()
                    time.sleep(1)

    def fail(self, chance):
        name, fault = chance.choice(sorted(self.town.suppliers)), chance.choice(FAULTS)
        self.town.suppliers[name].suffer(fault)
        return f"{name} {fault}"

    def look(self):
        ledger = metric(self.town.edge, "celslm_edge_memory_bytes")
        return {"resident_mb": self.town.edge.memory_mb(), "ledger_mb": None if ledger is None else ledger / 2**20}

    def result(self):
        loads = metric(self.town.edge, "celslm_edge_loads_total") or 0
        return {**super().result(), "ledger_mb_end": self.samples[-1]["ledger_mb"],
                "evicted_loads": max(0, loads - self.options.contexts)}

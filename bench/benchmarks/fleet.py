"""fleet: many clouds and edges behind one directory, while they and the directory are killed and paused at random.

The trained demo models: the small one at the edges, the large one at an edge of its own. All clouds sign with one key;
contexts are registered at one of them, each edge has one of the clouds, and all know each other through a Valkey server.
Edges serve TLS, know each other by certificates and their users by keys. Each context belongs to one of two tenants. Users
ask edges at random about contexts that partly fit into the edges' memories and disks, under each policy of docs/routing.md:
each edge has two neighbours, and a cascade that hands about a fifth of the answers over. Some requests are streams.

At random moments one process is killed and started again on what it has on disk, or paused: an edge, a cloud, the edge with
the large model, or Valkey, which comes back empty. A user whose edge dies under its request, or whose stream breaks, asks
another edge. Every answer is compared with that of an edge that has all contexts in files, the same model as the one that
answered, and was asked alone.

One request of twenty is somebody's who asks for a context of the other tenant: by its handle, or by its text, with a key
that has not sent this text before. A hit is an answer to the handle, or one to the text that used the context or KV that
somebody's request had left behind.

--json keys:
  machine, model, minutes, users, clouds, edges, contexts
  requests, failed, wrong              failed: no edge answered; wrong: another answer than alone
  intrusions, cross_tenant             requests for the other tenant's contexts that were answered, and hits among them
  retried, refused                     retried: asked another edge, since the first one died; refused: 429, asked again
  requests_by_policy                   {policy: requests}
  answered_by                          {who: requests}: self, neighbour, large
  answer_p50_ms, answer_p95_ms         of an answer of up to 12 tokens, without those that were retried
  p95_ttft_ms                          {policy: ms}: to the first token of streams, without those that were retried
  faults                               {what: how often}
  layers_by_source                     {source: layers of contexts loaded, by edges}
  bytes_by_source                      {source: bytes of contexts that edges received}
  packs_computed, packs_fetched        by clouds; fetched: from another cloud
  resident_mb_start, resident_mb_end   of all edges together: medians of the second and the last tenth of the samples
  samples[].minute, samples[].resident_mb, samples[].known    known: other nodes that the edges know, mean
"""
import argparse
import collections
import contextlib
import itertools
import json
import random
import shutil
import time

from ..benchmark import Benchmark, Picture
from ..chart import Chart
from ..lab import api, models
from ..lab.certificates import Certificates
from ..lab.lab import Lab
from ..lab.programs import Programs, celslm
from ..lab.tally import Tally
from ..lab.tenants import Tenants
from ..lab.trouble import Node, Refused, User, UsersInTrouble, answers_alone, contexts_of, data_of, metric, suffer
from ..lab.valkey import Valkey, free_port
from ..measure import percentile

TRIES = 5  # edges that a user asks before it gives up
BEAT_MS = 1000
INTRUSIONS = 0.05  # of requests
NEIGHBOURS = 2  # of an edge: the next ones
PLACES = ("--max-users", 2, "--max-queue", 2)  # so few that edges are full where another one was paused
CASCADE = {"measure": "least_probability", "threshold": 0.5}


class Fleet(Benchmark):
    targets = ("celslm", "celslm_relay")
    smoke = (("--minutes", "0.15", "--users", "2", "--contexts", "3", "--clouds", "2", "--edges", "2", "--every", "3"),)

    def add_arguments(self, parser):
        parser.add_argument("--minutes", type=float, default=30, help="(default: 30)")
        parser.add_argument("--users", type=int, default=12, help="(default: 12)")
        parser.add_argument("--clouds", type=int, default=3, help="(default: 3)")
        parser.add_argument("--edges", type=int, default=12, help="(default: 12)")
        parser.add_argument("--contexts", type=int, default=20, help="(default: 20)")
        parser.add_argument("--large", action=argparse.BooleanOptionalAction, default=True,
                            help="an edge with the large model, and requests that it may answer")
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
        print(f"asked for the other tenant's contexts: {result['intrusions']}, of which {result['cross_tenant']} hit")
        print(f"requests by policy: {listed(result['requests_by_policy'])}; answered by: {listed(result['answered_by'])}")
        print(f"95th percentile to the first token, ms: {listed(result['p95_ttft_ms'])}")
        print(f"faults: {listed(result['faults'])}")
        print(f"layers by source: {listed(result['layers_by_source'])}; bytes: {listed(result['bytes_by_source'])}; "
              f"packs computed {result['packs_computed']:.0f}, fetched by clouds {result['packs_fetched']:.0f}")
        print(f"edges' resident memory {result['resident_mb_start']:.0f} MB in the second tenth, "
              f"{result['resident_mb_end']:.0f} MB in the last")

    def pictures(self):
        return [Picture(("--plot",), "the edges' memory over time", memory_charts)]


def listed(figures):
    return ", ".join(f"{what} {figure:.0f}" for what, figure in sorted(figures.items()))


def memory_charts(result):
    chart = Chart("Memory of all edges", "minutes", "MB")
    chart.line("resident", [(sample["minute"], sample["resident_mb"]) for sample in result["samples"]], marks=False)
    return [chart]


class Town:
    """The programs, who may ask for what, and what is right to answer."""

    def __init__(self, lab, options):
        self.lab = lab
        folder = lab.programs.folder
        texts = contexts_of(options.contexts)
        self.contexts = {text: lab.context(f"context{i}", text) for i, (text, _) in enumerate(texts)}
        self.expected, all_bytes = answers_alone(lab, self.contexts.values(), texts)
        self.expected_of_large = answers_alone(large_lab(lab), self.contexts.values(), texts)[0] if options.large else {}
        self.certificates = Certificates(celslm(lab.preset), folder / "certificates")
        self.tenants = Tenants(self.contexts, self.certificates.context())
        self.keys = folder / "keys.json"
        self.tenants.write_keys(self.keys)
        (folder / "cascade.json").write_text(json.dumps(CASCADE), encoding="utf-8")
        self.valkey = Valkey(lab.programs)
        self.clouds = [self.cloud(i, options.large) for i in range(options.clouds)]
        for text, context in self.contexts.items():
            lab.put(self.clouds[0].program, context, tenant=self.tenants.of_text[text])
        self.large = []
        if options.large:
            self.large.append(self.edge("large", free_port(), self.clouds[0], model=models.demo_model("large")))
        self.edges = self.small_edges(options, max(1 << 20, int(options.fitting * all_bytes)))
        for edge in self.all_edges():
            for text, context in self.contexts.items():
                lab.wait_for_context(edge.program, context, self.tenants.user[self.tenants.of_text[text]])

    def all_edges(self):
        return [*self.edges, *self.large]

    def small_edges(self, options, budget):
        """In a ring: those that follow an edge are its neighbours."""
        ports = [free_port() for _ in range(options.edges)]
        passing_on = [part for large in self.large
                      for part in ("--large", large.url, "--cascade", self.lab.programs.folder / "cascade.json")]
        out = []
        for i, port in enumerate(ports):
            following = [ports[(i + n) % len(ports)] for n in range(1, min(NEIGHBOURS + 1, len(ports)))]
            neighbours = [part for other in following for part in ("--neighbor", f"https://127.0.0.1:{other}")]
            out.append(self.edge(f"edge{i}", port, self.clouds[i % len(self.clouds)], "--context-budget", budget,
                                 "--pack-budget", budget, *neighbours, *passing_on))
        return out

    def edge(self, name, port, cloud, *arguments, model=None):
        """Its users are known by keys, nodes by certificates."""
        authority = self.certificates.authority
        return self.node("edge", name, "--cloud", cloud.url, "--codec", "f16", "--keys", self.keys,
                         *self.certificates.serving(name), "--client-authority", authority, "--cloud-ca", authority, *PLACES,
                         *arguments, model=model, port=port)

    def cloud(self, number, with_large):
        """All have the key of the first."""
        if number > 0:
            mine = data_of(self.lab, f"cloud{number}") / "cloud"
            mine.mkdir(parents=True)
            shutil.copy(data_of(self.lab, "cloud0") / "cloud" / "signing.key", mine)
        return self.node("cloud", f"cloud{number}", *(("--model", models.demo_model("large")) if with_large else ()))

    def node(self, kind, name, *arguments, **options):
        return Node(self.lab, kind, name, "--directory", self.valkey.url, "--directory-beat", BEAT_MS, "--node-id", name,
                    *arguments, **options)


def large_lab(lab):
    return Lab(lab.programs, models.demo_model("large"), preset=lab.preset, threads=lab.threads)


class Run(UsersInTrouble):
    def __init__(self, town, options):
        super().__init__(town.expected, options)
        self.town = town
        self.policies = ("edge-only", "fleet", "cloud") if options.large else ("edge-only", "fleet")
        self.tally = Tally(town.tenants.operator)
        self.by_policy, self.answered_by = collections.Counter(), collections.Counter()
        self.first_token_ms = collections.defaultdict(list)  # {policy: of streams}

    def use(self, number):
        chance = random.Random(number)
        while time.monotonic() < self.end:
            if chance.random() < INTRUSIONS:
                self.intrude(chance)
                continue
            case, policy = chance.choice(self.cases), chance.choice(self.policies)
            tries = 0
            while not self.ask(chance, case, policy, tries):
                tries += 1
                if tries == TRIES:
                    self.count("requests", "failed")
                    break

    def send(self, edge, caller, *question, **options):
        """The reply; None where the edge died or hung, which has been counted. Comes back later where it is full."""
        while True:
            try:
                with contextlib.closing(User(edge.url, caller)) as user:
                    return user.ask(*question, **options)
            except Refused as refused:
                self.count("refused")
                time.sleep(refused.seconds)
            except api.FAILURES as error:
                self.count("retried", problem=f"{edge.name}: {error!r}")
                time.sleep(0.2)
                return None

    def ask(self, chance, case, policy, tries):
        """Whether there was an answer."""
        start = time.monotonic()
        caller = self.town.tenants.user[self.town.tenants.of_text[case[0]]]
        reply = self.send(chance.choice(self.town.edges), caller, *case, stream=chance.random() < 0.5, policy=policy)
        if reply is None:
            return False
        by = reply.extension["routing"]["answered_by"]
        right = reply.text == (self.town.expected_of_large if by == "large" else self.expected)[case]
        self.count("requests", None if right else "wrong", ms=None if tries else (time.monotonic() - start) * 1000,
                   problem=None if right else f"a wrong answer by {by}")
        with self.lock:
            self.by_policy[policy] += 1
            self.answered_by[by] += 1
            if reply.first_token_ms and not tries:
                self.first_token_ms[policy].append(reply.first_token_ms)
        return True

    def intrude(self, chance):
        edge, policy = chance.choice(self.town.edges), chance.choice(self.policies)
        unread = self.town.tenants.unread() if chance.random() < 0.5 else None
        if unread:
            hit = self.read_text(edge, *unread, policy)
        else:
            hit = self.name_handle(edge, chance.choice(self.cases)[0], policy)
        if hit is not None:
            self.count("intrusions", "cross_tenant" if hit else None,
                       problem=f"{edge.name}: the other tenant's context" if hit else None)

    def read_text(self, edge, caller, text, policy):
        """Whether an answer to the text used what the other tenant has of it; None: there was no answer."""
        reply = self.send(edge, caller, text, "Where?", policy=policy)
        return None if reply is None else reply.extension["context"] is not None or reply.cached_tokens > 0

    def name_handle(self, edge, text, policy):
        """The same of an answer to its handle."""
        tenants = self.town.tenants
        try:
            with contextlib.closing(User(edge.url, tenants.user[tenants.other(text)])) as user:
                user.ask(None, "Where?", policy=policy, context=self.town.contexts[text].handle)
        except api.ApiError as error:
            return False if error.status == 404 else None
        except (Refused, *api.FAILURES):
            return None
        return True

    def fail(self, chance):
        kinds = {"valkey": [self.town.valkey], "cloud": self.town.clouds, "edge": self.town.edges, "large": self.town.large}
        kind = chance.choice([kind for kind, nodes in kinds.items() if nodes])
        what, fault = chance.choice(kinds[kind]), chance.choice(("pause", "restart"))
        if fault == "restart" and kind != "valkey":
            self.tally.read(what)
        suffer(what, fault)
        return f"{kind} {fault}"

    def look(self):
        known, resident = [], 0.0
        for edge in self.town.edges:
            with contextlib.suppress(*api.FAILURES, FileNotFoundError):
                resident += edge.program.memory_mb()
                known.append(metric(edge, "celslm_fleet_nodes", self.town.tenants.operator) or 0)
        return {"resident_mb": resident, "known": sum(known) / len(known) if known else 0}

    def result(self):
        for node in itertools.chain(self.town.all_edges(), self.town.clouds):
            self.tally.read(node)
        return {**super().result(), **{name: self.counts[name] for name in ("retried", "intrusions", "cross_tenant")},
                "requests_by_policy": dict(self.by_policy), "answered_by": dict(self.answered_by),
                "p95_ttft_ms": {policy: percentile(ms, 0.95) for policy, ms in self.first_token_ms.items()},
                "layers_by_source": self.tally.by("source", "celslm_edge_layers_total"),
                "bytes_by_source": self.tally.by("source", "celslm_edge_fetched_bytes_total"),
                "packs_computed": self.tally.total("celslm_cloud_packs_computed_total"),
                "packs_fetched": self.tally.total("celslm_cloud_packs_fetched_total")}

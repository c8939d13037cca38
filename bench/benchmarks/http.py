"""http: many connections to a cloud's server, slow clients, and followers of one pack; /health beside them.

A cloud on random weights, all on loopback. /health is asked 200 times a second, every other time on a connection of its
own; a request that fails counts as infinitely slow. Slow clients of a kind are --slow many: they send a header or a body
byte by byte, or ask for a pack and do not read it. Followers ask for the entries of a pack that waits for its turn behind
another one that is computed, so that all of them wait first. Computing takes all cores: /health beside followers is that of
a busy machine.

--json keys (times in ms, memory in MiB; percentiles of a run's requests):
  machine, model
  quiet.p50, quiet.p99                     /health alone
  idle.connections                         each had an answer and is kept
  idle.memory_mb, idle.added_mb            of the cloud's process with them; what they added
  idle.p50, idle.p99                       /health beside them
  slow.*.clients                           header, body, read
  slow.*.quiet_p99, slow.*.p99, slow.*.ratio   /health before they came, beside them, and the quotient
  followers.clients, followers.complete    how many there were, and how many got the same complete body
  followers.spread_s                       from the first client's end to the last one's
  followers.p50, followers.p99             /health while they wait and read
"""
import http.client
import json
import multiprocessing
import urllib.parse

from ..benchmark import Benchmark, random_model, random_model_name
from ..lab import crowd, models
from ..lab.lab import Lab
from ..lab.programs import Programs, wait_until
from ..lab.progress import Progress, table
from ..measure import percentile, ratio


class Http(Benchmark):
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--connections", "50", "--slow", "10", "--followers", "20",
              "--tokens", "300", "--probes", "50"),)

    def add_arguments(self, parser):
        parser.add_argument("--connections", type=int, default=10_000, metavar="N", help="idle ones (default: 10000)")
        parser.add_argument("--slow", type=int, default=1000, metavar="N", help="slow clients of each kind (default: 1000)")
        parser.add_argument("--followers", type=int, default=2000, metavar="N", help="of one pack (default: 2000)")
        parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="of a context (default: 1024)")
        parser.add_argument("--probes", type=int, default=1000, metavar="N", help="requests to /health (default: 1000)")

    def measure(self, options):
        crowd.raise_file_limit()
        model = random_model(options)
        with Programs() as programs, Progress("connections, slow clients, followers") as progress:
            cloud = Cloud(programs, model, options)
            result = {"model": random_model_name(options), "quiet": cloud.health()}
            progress.update("idle connections")
            result["idle"] = cloud.idle(options.connections)
            result["slow"] = {}
            for kind in crowd.SLOW_KINDS:
                progress.update(f"slow clients: {kind}")
                result["slow"][kind] = cloud.slow(kind, options.slow)
            progress.update("followers of one pack")
            result["followers"] = cloud.followers(options.followers)
        return result

    def show(self, result):
        print(f"{result['machine']}; {result['model']}; /health in ms")
        idle, followers = result["idle"], result["followers"]
        rows = [["alone", ms(result["quiet"]["p50"]), ms(result["quiet"]["p99"]), ""],
                [f"beside {idle['connections']:,} idle connections", ms(idle["p50"]), ms(idle["p99"]),
                 f"{idle['memory_mb']:.0f} MiB, {idle['added_mb']:.0f} of them the connections'"]]
        rows += [[f"beside {of['clients']:,} slow clients: {kind}", "", ms(of["p99"]),
                  f"{ms(of['ratio'])} times {ms(of['quiet_p99'])}"]
                 for kind, of in result["slow"].items()]
        rows.append([f"beside {followers['clients']:,} followers of one pack", ms(followers["p50"]), ms(followers["p99"]),
                     f"{followers['complete']:,} complete within {followers['spread_s']:.2f} s"])
        print(table(rows, ["", "median", "p99", ""]))


class Cloud:
    def __init__(self, programs, model, options):
        self._lab = Lab(programs, model, preset=options.preset, threads=options.threads)
        self._program = self._lab.cloud()
        self.url = self._program.url
        self._probes = options.probes
        self._model = self.ask("GET", "/v1/models")["models"][0]["id"]
        self._packs = [self._pack(seed, options.tokens) for seed in (1, 2, 3)]
        self._compute(self._packs[0])

    def ask(self, method, path, body=None):
        at = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
        connection.request(method, path, body=json.dumps(body) if body else None)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return json.loads(data) if answer.getheader("Content-Type") == "application/json" else answer.getheader(
            "x-celslm-state")

    def health(self):
        times = crowd.probed(self.url, self._probes)
        return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}

    def idle(self, n):
        before = self._program.memory_mb()
        connections = crowd.idle_connections(self.url, n)
        memory = self._program.memory_mb()
        out = {"connections": n, "memory_mb": memory, "added_mb": memory - before, **self.health()}
        for connection in connections:
            connection.close()
        return out

    def slow(self, kind, n):
        quiet = self.health()["p99"]
        with crowd.SlowClients(self.url, kind, n, f"{self._packs[0]}/pack"):
            p99 = self.health()["p99"]
        return {"clients": n, "quiet_p99": quiet, "p99": p99, "ratio": ratio(p99, quiet)}

    def followers(self, n):
        for pack in self._packs[1:]:  # one after the other: the last one waits
            self.ask("GET", f"{pack}/header")
        with multiprocessing.get_context("fork").Pool(1) as pool:
            following = pool.apply_async(crowd.follow, (self.url, f"{self._packs[-1]}/entries?from=0", n, 300))
            health = self.health()
            complete, ends = following.get()
        same = sum(body == complete[0] for body in complete)
        return {"clients": n, "complete": same, "spread_s": max(ends) - min(ends) if ends else float("inf"), **health}

    def _pack(self, seed, tokens):
        text = models.random_text(tokens, seed=seed)
        handle = self.ask("POST", "/v1/contexts", {"text": text, "name": f"text {seed}"})["id"]
        return f"/v1/packs/{handle}/{self._model}/f16"

    def _compute(self, pack):
        wait_until(lambda: self.ask("GET", f"{pack}/header") == "complete", "a pack to be computed", timeout_s=300)


def ms(number):
    return "-" if number is None else f"{number:.2f}"

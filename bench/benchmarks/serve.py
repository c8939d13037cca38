"""serve: an edge under load against llama-server: Poisson arrivals on one shared context, at rising rates.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only. Both servers hold the context before the first arrival
(warm). At each rate the same arrivals (open loop: nobody waits for anybody) and questions go first to ours, then to
llama-server, each for `--seconds`; every request asks a question of its own about the shared context and takes
`--answer` tokens. A server whose 95th percentile of time to first token has passed `--give-up` seconds is not asked for
more.

llama-server runs with `-np SLOTS --cache-reuse 256 --cache-ram 4096` and --peer-arguments (`-no-kvu -fa off`: its best
here). It keeps a context once per slot: asked by a second user while the first is being answered it prefills the
context again, for as long as a slot is left that never held it. So the context is computed in one slot, saved, and
restored into all the others before anything is measured: each arrival finds it.

--json keys (times in milliseconds):
  machine, model
  rates[].context_tokens, rates[].requests_per_s
                        then ours, peer and, with --self, self: ours a second time at each rate, the noise floor
  rates[].*.ttft_p50_ms, rates[].*.ttft_p95_ms   from a request to its first token; null: the request failed
  rates[].*.tpot_p50_ms                          mean time per token after the first, per request
  rates[].*.tokens_per_s
  rates[].*.failed                               requests; each counts as slower than any answer
  carried[].context_tokens
  carried[].ours_requests_per_s, carried[].peer_requests_per_s, carried[].self_requests_per_s
                        where the 95th percentile passes 2 s, between the measured rates by straight lines; a server
                        that never passes it counts with the highest rate
  carried[].ratio       ours / peer
  memory[].context_tokens
  memory[].*.one_user_mb   of ours and of the peer: resident, model included, after the first request
  memory[].*.most_mb       at most
"""
import math
import random
import statistics
import threading
import time

from ..benchmark import Benchmark, Picture, ms, numbers, random_model, random_model_name, times
from ..chart import Chart
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import Programs
from ..lab.progress import Progress, table
from ..measure import percentile, ratio

LIMIT_MS = 2000.0  # of the 95th percentile of time to first token


class Serve(Benchmark):
    on_random_model = True
    against_self = False
    smoke = (("--shape", "tiny", "--threads", "1", "--tokens", "64", "--rates", "4", "--seconds", "1.5", "--answer", "4",
              "--peer-slots", "2", "--self"),)

    def add_arguments(self, parser):
        parser.add_argument("--tokens", type=numbers, default=[2048, 8192],
                            help="lengths of the context (default: 2048,8192)")
        parser.add_argument("--rates", type=numbers, default=[0.25, 0.5, 1, 1.5, 2, 3, 4, 6],
                            help="requests per second (default: 0.25,0.5,1,1.5,2,3,4,6)")
        parser.add_argument("--seconds", type=float, default=40, help="of arrivals at each rate (default: 40)")
        parser.add_argument("--answer", type=int, default=32, metavar="TOKENS", help="(default: 32)")
        parser.add_argument("--give-up", type=float, default=4.0, metavar="SECONDS", help="(default: 4)")
        parser.add_argument("--peer-slots", type=int, default=16, help="(default: 16)")
        parser.add_argument("--peer-arguments", type=str.split, default=["-no-kvu", "-fa", "off"], metavar="'ARGS'",
                            help="of llama-server, instead of -no-kvu -fa off")
        parser.add_argument("--seed", type=int, default=1, help="of the arrivals (default: 1)")

    def measure(self, options):
        result = {"model": random_model_name(options), "rates": [], "carried": [], "memory": []}
        for n_tokens in map(int, options.tokens):
            with Programs() as programs:
                lab = Lab(programs, random_model(options), preset=options.preset, threads=options.threads)
                rates, memory = measure_length(lab, n_tokens, options)
            result["rates"] += rates
            result["memory"].append(memory)
            result["carried"].append({"context_tokens": n_tokens, **all_carried(rates)})
        return result

    def show(self, result):
        rows = [[rate["context_tokens"], f"{rate['requests_per_s']:g}", name, ms(of["ttft_p50_ms"]), ms(of["ttft_p95_ms"]),
                 "-" if of["tpot_p50_ms"] is None else of["tpot_p50_ms"], of["tokens_per_s"], of["failed"]]
                for rate in result["rates"] for name, of in rate.items() if isinstance(of, dict)]
        print(f"{result['model']}; {result['machine']}\n")
        print(table(rows, ["context", "requests/s", "server", "TTFT p50 ms", "p95 ms", "TPOT p50 ms", "tokens/s", "failed"]))
        for c in result["carried"]:
            again = c.get("self_requests_per_s")
            print(f"\nTTFT p95 passes {LIMIT_MS / 1000:g} s with {c['context_tokens']} tokens: ours at "
                  f"{c['ours_requests_per_s']:g} requests/s{f' (again: {again:g})' if again else ''}, llama-server at "
                  f"{c['peer_requests_per_s']:g}: {times(c['ratio'])}")
        for m in result["memory"]:
            print(f"\nMemory with {m['context_tokens']} tokens, after one request and at most: "
                  f"ours {m['ours']['one_user_mb']} and {m['ours']['most_mb']} MB, "
                  f"llama-server {m['peer']['one_user_mb']} and {m['peer']['most_mb']} MB")

    def pictures(self):
        return [Picture(("--plot",), "times and throughput over the rate", charts_of)]


class Arrivals:
    """One rate's requests to one server."""

    def __init__(self, url, context, options):
        self.url, self.context, self.options = url, context, options
        self.answers, self.lock = [], threading.Lock()

    def ask(self, number):
        messages = [{"role": "system", "content": self.context},
                    {"role": "user", "content": f"question {number} about the text"}]
        try:
            answer = api.stream_chat(self.url, messages, temperature=0, max_tokens=self.options.answer)
        except api.FAILURES:
            answer = api.Streamed()
        with self.lock:
            self.answers.append(answer)

    def run(self, rate, questions):
        """questions: a word that makes these requests differ from earlier ones; both servers are asked the same ones."""
        rng = random.Random(f"{self.options.seed}/{rate}")
        threads, began, due = [], time.monotonic(), 0.0
        while (due := due + rng.expovariate(rate)) < self.options.seconds:
            time.sleep(max(0.0, began + due - time.monotonic()))
            threads.append(threading.Thread(target=self.ask, args=(f"{questions}-{len(threads)}",)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return self.figures(time.monotonic() - began)

    def figures(self, seconds):
        ttft = [a.ms for a in self.answers]
        tpot = [(a.times_s[-1] - a.times_s[0]) * 1000 / (len(a.times_s) - 1) for a in self.answers if len(a.times_s) > 1]
        tokens = sum(len(a.times_s) for a in self.answers)
        return {"ttft_p50_ms": rounded(percentile(ttft, 0.5)), "ttft_p95_ms": rounded(percentile(ttft, 0.95)),
                "tpot_p50_ms": rounded(statistics.median(tpot)) if tpot else None,
                "tokens_per_s": round(tokens / seconds, 1), "failed": ttft.count(math.inf)}


def rounded(value):
    return None if value is None else round(value, 1)


def measure_length(lab, n_tokens, options):
    context = lab.context(f"context-{n_tokens}", models.random_text(n_tokens))
    edge = lab.edge("edge", "--context", context.path, "--max-queue", 1000)
    cells = options.peer_slots * (n_tokens + options.answer + 64)
    with lab.llama_server(cells, "--cache-reuse", 256, "--cache-ram", 4096, "--slot-save-path", f"{lab.programs.folder}/",
                          *options.peer_arguments, slots=options.peer_slots) as peer:
        with Progress(f"{n_tokens} tokens: both servers read the context"):
            warm_slots(peer, context.text, options)
            for url in (edge.url, peer.url):
                Arrivals(url, context.text, options).ask("first")
        programs = {"ours": edge, "peer": peer.program}
        memory = {"context_tokens": n_tokens,
                  **{name: {"one_user_mb": round(program.memory_mb())} for name, program in programs.items()}}
        urls = {"ours": edge.url, "peer": peer.url, **({"self": edge.url} if options.against_self else {})}
        rates = measure_rates(urls, context, n_tokens, options)
        for name, program in programs.items():
            memory[name]["most_mb"] = round(program.peak_memory_mb())
    edge.stop()
    return rates, memory


def measure_rates(urls, context, n_tokens, options):
    out, given_up = [], set()
    for rate in options.rates:
        entry = {"context_tokens": n_tokens, "requests_per_s": rate}
        for name in [name for name in urls if name not in given_up]:
            with Progress(f"{n_tokens} tokens, {rate:g} requests/s: {name}"):
                questions = f"{rate:g}-again" if name == "self" else f"{rate:g}"
                entry[name] = Arrivals(urls[name], context.text, options).run(rate, questions)
            if (entry[name]["ttft_p95_ms"] or 0) > options.give_up * 1000:
                given_up.add(name)
        out.append(entry)
        if len(given_up) == len(urls):
            break
    return out


def warm_slots(peer, context, options):
    """Every slot holds the context."""
    messages = [{"role": "system", "content": context}, {"role": "user", "content": "the first question"}]
    api.chat(peer.url, messages, max_tokens=1, id_slot=0)
    peer.save_slot(0, "context.slot")
    for slot in range(1, options.peer_slots):
        peer.restore_slot(slot, "context.slot")


def all_carried(rates):
    out = {f"{name}_requests_per_s": round(carried(rates, name), 3) for name in ("ours", "peer", "self") if name in rates[0]}
    return {**out, "ratio": ratio(out["ours_requests_per_s"], out["peer_requests_per_s"], digits=2)}


def carried(rates, name):
    """Requests per second at which the 95th percentile passes the limit."""
    points = [(r["requests_per_s"], r[name]["ttft_p95_ms"]) for r in rates
              if name in r and r[name]["ttft_p95_ms"] is not None]
    for i, (rate, p95) in enumerate(points):
        if p95 <= LIMIT_MS:
            continue
        if i == 0:
            return rate * LIMIT_MS / p95
        before, low = points[i - 1]
        return before + (rate - before) * (LIMIT_MS - low) / (p95 - low)
    return points[-1][0] if points else 0.0


def charts_of(result):
    out = []
    for key, title, unit in (("ttft_p95_ms", "Time to first token, 95th percentile", "ms"),
                             ("tpot_p50_ms", "Time per token, median", "ms"), ("tokens_per_s", "Throughput", "tokens/s")):
        chart = Chart(title, "requests per second", unit, log_x=True, log_y=key == "ttft_p95_ms")
        for n_tokens in sorted({r["context_tokens"] for r in result["rates"]}):
            for name, server in (("ours", "celslm"), ("peer", "llama-server")):
                chart.line(f"{server} {n_tokens:g}", [(r["requests_per_s"], r[name][key]) for r in result["rates"]
                                                      if r["context_tokens"] == n_tokens and name in r],
                                                      dashed=name == "peer")
        out.append(chart)
    return out

"""serve: an edge under load against llama-server: Poisson arrivals on one shared context, at rising rates.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only. Both servers hold the context before the first arrival (warm). At each rate the same
arrivals (open loop: nobody waits for anybody) and questions go first to ours, then to llama-server, each for `--seconds`; every request asks
a question of its own about the shared context and takes `--answer` tokens. A server whose 95th percentile of time to first token has passed
`--give-up` seconds is not asked for more.

llama-server runs with `-np SLOTS --cache-reuse 256 --cache-ram 4096` and --peer-arguments (`-no-kvu -fa off`: its best here). It keeps a context once per slot:
asked by a second user while the first is being answered it prefills the context again, for as long as a slot is left that never held it. So the
context is computed in one slot, saved, and restored into all the others before anything is measured: each arrival finds it.

--json keys: machine, model, rates: [{context_tokens, requests_per_s, ours: {ttft_p50_ms, ttft_p95_ms, tpot_p50_ms, tokens_per_s, failed}, peer: {…}}],
  carried: [{context_tokens, ours_requests_per_s, peer_requests_per_s, ratio}]
  memory: [{context_tokens, ours: {one_user_mb, most_mb}, peer: {…}}]: resident, model included, after the first request and at most
  ttft: request to first token; tpot: mean time per token after the first, per request; carried: where the 95th percentile of ttft passes
  2 s, between the measured rates by straight lines; a server that never passes it counts with the highest rate.
"""
import argparse
import json
import pathlib
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.lab import api, models, plot
from bench.lab.peer import start_llama_server
from bench.lab.programs import Programs, celslm
from bench.lab.progress import Progress, machine, table

SHAPE, QUANTIZATION = "qwen2.5-0.5b", "Q4_0"
LIMIT_S = 2.0  # of the 95th percentile of time to first token


def numbers(text):
    return [float(x) for x in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--plot", type=pathlib.Path, metavar="SVG")
    parser.add_argument("--tokens", type=numbers, default=[2048, 8192])
    parser.add_argument("--rates", type=numbers, default=[0.25, 0.5, 1, 1.5, 2, 3, 4, 6], help="requests per second")
    parser.add_argument("--seconds", type=float, default=40, help="of arrivals at each rate")
    parser.add_argument("--answer", type=int, default=32, help="tokens")
    parser.add_argument("--give-up", type=float, default=4.0, metavar="SECONDS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-slots", type=int, default=16)
    parser.add_argument("--peer-arguments", type=str.split, default=["-no-kvu", "-fa", "off"], metavar="'ARGS'",
                        help="of llama-server, instead of -no-kvu -fa off")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Load:
    """One rate's requests to one server."""

    def __init__(self, url, context, options):
        self.url, self.context, self.options = url, context, options
        self.answers, self.failed, self.lock = [], 0, threading.Lock()

    def ask(self, number):
        messages = [{"role": "system", "content": self.context}, {"role": "user", "content": f"question {number} about the text"}]
        try:
            answer = api.stream_chat(self.url, messages, temperature=0, max_tokens=self.options.answer)
            with self.lock:
                self.answers.append(answer)
        except (OSError, api.ApiError, ValueError):
            with self.lock:
                self.failed += 1

    def run(self, rate):
        rng = random.Random(f"{self.options.seed}/{rate}")
        threads, began, due = [], time.monotonic(), 0.0
        while (due := due + rng.expovariate(rate)) < self.options.seconds:
            time.sleep(max(0.0, began + due - time.monotonic()))
            # The same questions for both servers; no question twice at one server.
            threads.append(threading.Thread(target=self.ask, args=(f"{rate:g}-{len(threads)}",)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return self.figures(time.monotonic() - began)

    def figures(self, seconds):
        ttft = [a.first_event_s * 1000 for a in self.answers if a.first_event_s is not None]
        tpot = [(a.times_s[-1] - a.times_s[0]) * 1000 / (len(a.times_s) - 1) for a in self.answers if len(a.times_s) > 1]
        tokens = sum(len(a.times_s) for a in self.answers)
        return {"ttft_p50_ms": round(percentile(ttft, 0.5), 1), "ttft_p95_ms": round(percentile(ttft, 0.95), 1),
                "tpot_p50_ms": round(statistics.median(tpot), 1) if tpot else None, "tokens_per_s": round(tokens / seconds, 1),
                "failed": self.failed}


def start_ours(programs, model, context_file, n_tokens, options):
    edge = programs.start([celslm("bench"), "edge", "--model", model, "--threads", options.threads, "--port", 0, "--context", context_file,
                           "--max-queue", 1000, "--data", programs.folder / f"edge-{n_tokens}"], f"edge-{n_tokens}")
    edge.wait_listening()
    return edge, edge.url


def start_peer(programs, model, n_tokens, options):
    cells = options.peer_slots * (n_tokens + options.answer + 64)
    server, url = start_llama_server(model, options.threads, cells, options.peer_slots, programs.folder, "--cache-reuse", 256, "--cache-ram", 4096,
                                     "--slot-save-path", f"{programs.folder}/", *options.peer_arguments)
    programs.callback(server.stop)
    return server, url


def warm_peer(url, context, options):
    """Every slot holds the context."""
    messages = [{"role": "system", "content": context}, {"role": "user", "content": "the first question"}]
    api.chat(url, messages, max_tokens=1, id_slot=0)
    api.request("POST", f"{url}/slots/0?action=save", {"filename": "context.slot"})
    for slot in range(1, options.peer_slots):
        api.request("POST", f"{url}/slots/{slot}?action=restore", {"filename": "context.slot"})


def measure(programs, model, n_tokens, options):
    context = models.random_text(n_tokens)
    context_file = programs.folder / f"context-{n_tokens}.txt"
    context_file.write_text(context, encoding="utf-8")
    edge, ours = start_ours(programs, model, context_file, n_tokens, options)
    peer_program, peer = start_peer(programs, model, n_tokens, options)
    with Progress(f"{n_tokens} tokens: both servers read the context"):
        warm_peer(peer, context, options)
        for url in (ours, peer):
            Load(url, context, options).ask("first")
    servers = {"ours": edge, "peer": peer_program}
    memory = {"context_tokens": n_tokens, **{name: {"one_user_mb": round(server.memory_mb())} for name, server in servers.items()}}
    rates, given_up = [], set()
    for rate in options.rates:
        entry = {"context_tokens": n_tokens, "requests_per_s": rate}
        for name, url in (("ours", ours), ("peer", peer)):
            if name in given_up:
                continue
            with Progress(f"{n_tokens} tokens, {rate:g} requests/s: {name}"):
                entry[name] = Load(url, context, options).run(rate)
            if not entry[name]["ttft_p95_ms"] <= options.give_up * 1000:
                given_up.add(name)
        rates.append(entry)
        if len(given_up) == 2:
            break
    for name, server in servers.items():
        memory[name]["most_mb"] = round(server.peak_memory_mb())
        server.stop()
    return rates, memory


def carried(rates, name):
    """Requests per second at which the 95th percentile passes the limit."""
    points = [(r["requests_per_s"], r[name]["ttft_p95_ms"] / 1000) for r in rates if name in r]
    for i, (rate, p95) in enumerate(points):
        if p95 <= LIMIT_S:
            continue
        if i == 0:
            return rate * LIMIT_S / p95
        before, low = points[i - 1]
        return before + (rate - before) * (LIMIT_S - low) / (p95 - low)
    return points[-1][0]


def draw(path, result):
    charts = []
    for key, title, unit in (("ttft_p95_ms", "Time to first token, 95th percentile", "ms"), ("tpot_p50_ms", "Time per token, median", "ms"),
                             ("tokens_per_s", "Throughput", "tokens/s")):
        chart = plot.Chart(title, "requests per second", unit, log_x=True, log_y=key == "ttft_p95_ms")
        for n_tokens in sorted({r["context_tokens"] for r in result["rates"]}):
            for name in ("ours", "peer"):
                points = [(r["requests_per_s"], r[name][key]) for r in result["rates"]
                          if r["context_tokens"] == n_tokens and name in r and r[name][key] is not None]
                if points:
                    chart.line(f"{'llama-server' if name == 'peer' else 'celslm'} {n_tokens:g}", points, dashed=name == "peer")
        charts.append(chart)
    plot.write(path, charts, f"{result['model']}; {result['machine']}")


def main():
    options = arguments()
    options.tokens = [int(n) for n in options.tokens]
    model = models.random_model(SHAPE, QUANTIZATION)
    result = {"machine": machine(), "model": f"{SHAPE} {QUANTIZATION}, random weights", "rates": [], "carried": [], "memory": []}
    for n_tokens in options.tokens:
        with Programs() as programs:
            rates, memory = measure(programs, model, n_tokens, options)
        result["rates"] += rates
        result["memory"].append(memory)
        ours, peer = carried(rates, "ours"), carried(rates, "peer")
        result["carried"].append({"context_tokens": n_tokens, "ours_requests_per_s": round(ours, 3), "peer_requests_per_s": round(peer, 3),
                                  "ratio": round(ours / peer, 2)})
    rows = []
    for rate in result["rates"]:
        for name in ("ours", "peer"):
            if name in rate:
                rows.append([rate["context_tokens"], f"{rate['requests_per_s']:g}", name, *rate[name].values()])
    print(f"{result['model']}; {result['machine']}\n")
    print(table(rows, ["context", "requests/s", "server", "TTFT p50 ms", "p95 ms", "TPOT p50 ms", "tokens/s", "failed"]))
    for c in result["carried"]:
        print(f"\nTTFT p95 passes {LIMIT_S:g} s with {c['context_tokens']} tokens: ours at {c['ours_requests_per_s']:g} requests/s, "
              f"llama-server at {c['peer_requests_per_s']:g}: {c['ratio']:g}x")
    for m in result["memory"]:
        print(f"\nMemory with {m['context_tokens']} tokens, after one request and at most: " +
              ", ".join(f"{name} {m[key]['one_user_mb']} and {m[key]['most_mb']} MB" for key, name in (("ours", "ours"), ("peer", "llama-server"))))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        draw(options.plot, result)


if __name__ == "__main__":
    main()

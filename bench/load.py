"""load: time to first token when a context is fetched and computed at once, against either alone, the bound, and llama-server.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only. Sources are a cloud and neighbouring edges, each behind a link of its
own (a relay in user space, with a rate and a delay). Every edge has loaded another, short context over the same links before it is
measured, as an edge that runs for more than a moment has. In turn, `--runs` times, medians:
  ours      fetching and computing at once (the default)
  download  computing nothing (--prefer energy)
  local     no cloud
and of each the same request again, with the context in memory: what the user's own tokens and HTTP take.
  bound     min over k of max(compute k layers, fetch the others), plus the time with the context in memory; from the measured local
            and download, each spread evenly over the layers

--json keys: machine, model, runs,
  cases: [{context_tokens, sources, link_mbit, rtt_ms, ttft_ms, bound_ms, local_ms, download_ms, peer_cold_ms, peer_restore_ms, layers}]
  faults: {runs, failed, wrong, ttft_p99_over_local, local_ms, usual_ms, worst_by_fault}: from the moment of the fault, of a local prefill
  peer_cold_ms: llama-server prefills; peer_restore_ms: its saved slot file over the same (cloud's) link, restored, then asked
  something else than was asked when it was saved.
"""
import argparse
import functools
import http.server
import json
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.lab import api, models, plot
from bench.lab.faults import run_faults
from bench.lab.peer import start_llama_server
from bench.lab.programs import ROOT, Programs, celslm, wait_until
from bench.lab.progress import Progress, machine, table
from ttft import PRESET, QUANTIZATION, SHAPE, complete, first_token_ms, numbers

WARM_TOKENS = 512
LAYERS = 24


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="the cases as a picture")
    parser.add_argument("--timeline", type=pathlib.Path, metavar="FILE", help="one request's layers over time, as SVG, and nothing else")
    parser.add_argument("--faults", type=int, default=0, metavar="N", help="N runs with a fault at a random moment")
    parser.add_argument("--tokens", type=numbers, default=[512, 2048, 8192])
    parser.add_argument("--links", type=numbers, default=[5, 20, 50, 100, 200, 1000], help="Mbit/s, of each source")
    parser.add_argument("--rtts", type=numbers, default=[0, 20, 200], help="milliseconds")
    parser.add_argument("--sources", type=numbers, default=[1, 3], help="how many: the cloud first, then neighbours")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default=PRESET, help="which build to measure")
    parser.add_argument("--no-peer", action="store_true", help="without llama-server")
    return parser.parse_args()


class Lab:
    """A cloud that holds the packs of a short and a long context, and neighbours that have read them."""

    def __init__(self, programs, options, n_tokens):
        self.programs, self.options, self.n_tokens = programs, options, n_tokens
        self.model = models.random_model(SHAPE, QUANTIZATION)
        self.contexts = {"warm": models.random_text(WARM_TOKENS, seed=2), "long": models.random_text(n_tokens, seed=3)}
        self.paths, self.handles, self.counter = {}, {}, 0
        self.relay_binary = ROOT / "build" / options.preset / "celslm_relay"
        self.cloud = self.start("cloud", f"cloud-{n_tokens}")
        model_id = api.request("GET", f"{self.cloud.url}/v1/models")["models"][0]["id"]
        for name, text in self.contexts.items():
            self.paths[name] = programs.folder / f"{name}-{n_tokens}.txt"
            self.paths[name].write_text(text, encoding="utf-8")
            put = subprocess.run([celslm(options.preset), "context", "put", self.paths[name], "--cloud", self.cloud.url], check=True, capture_output=True, text=True)
            self.handles[name] = put.stdout.split()[0]
            url = f"{self.cloud.url}/v1/packs/{self.handles[name]}/{model_id}/f16/header"
            wait_until(lambda u=url: complete(u), "the pack", timeout_s=600, poll_s=0.3)
        self.neighbours = [self.neighbour(i) for i in range(max(options.sources) - 1)]

    def start(self, kind, name, *arguments):
        program = self.programs.start([celslm(self.options.preset), kind, "--model", self.model, "--port", 0, "--threads", self.options.threads,
                                       "--data", self.programs.folder / name, *arguments], name)
        program.wait_listening()
        return program

    def edge(self, name, *arguments):
        self.counter += 1
        edge = self.start("edge", f"{name}-{self.n_tokens}-{self.counter}", *arguments)
        wait_until(lambda: len(api.request("GET", f"{edge.url}/v1/contexts")["contexts"]) >= 2, "the contexts")
        return edge

    def neighbour(self, i):
        edge = self.edge(f"neighbour{i}", "--cloud", self.cloud.url, "--prefer", "energy")
        for text in self.contexts.values():
            first_token_ms(edge.url, text)
        return edge

    def relay(self, url, mbit, rtt_ms):
        self.counter += 1
        relay = self.programs.start([self.relay_binary, "--to", url.split("//")[1], "--rate", mbit, "--delay", rtt_ms / 2],
                                    f"relay-{self.counter}")
        return relay.wait_listening()

    def measure(self, *arguments):
        """The request's time and extension object at a fresh edge, and its time with the context in memory."""
        edge = self.edge("edge", *arguments)
        first_token_ms(edge.url, self.contexts["warm"])
        time.sleep(0.2)  # the short context's pack is being kept
        ms, streamed = first_token_ms(edge.url, self.contexts["long"])
        resident_ms = min(first_token_ms(edge.url, self.contexts["long"])[0] for _ in range(2))
        edge.stop()
        return ms, streamed.x_celslm, resident_ms


def bound_ms(local_ms, download_ms, resident_ms):
    compute, fetch = max(0, local_ms - resident_ms), max(0, download_ms - resident_ms)
    return resident_ms + min(max(compute * k, fetch * (LAYERS - k)) / LAYERS for k in range(LAYERS + 1))


class LlamaServer:
    """llama-server with flash attention, f16 KV and its defaults for a single user."""

    def __init__(self, lab):
        self.lab, self.slot = lab, f"slot-{lab.n_tokens}.bin"
        self.cold_ms, self.slot_path = None, lab.programs.folder / self.slot

    def start(self):
        server, self.url = start_llama_server(self.lab.model, self.lab.options.threads, self.lab.n_tokens + 512, 1, self.lab.programs.folder,
                                              "--no-warmup", "--slot-save-path", f"{self.lab.programs.folder}/")
        first_token_ms(self.url, "warm up")
        return server

    def measure_cold(self):
        server = self.start()
        try:
            # Another question than the one asked after restoring: that one's tokens are not to be in the saved slot.
            self.cold_ms = first_token_ms(self.url, self.lab.contexts["long"], "Do it.")[0]
            api.request("POST", f"{self.url}/slots/0?action=save", {"filename": self.slot})
        finally:
            server.stop()

    def restore_ms(self, mbit, rtt_ms):
        """Download over the link, restore, first token."""
        handler = functools.partial(QuietFiles, directory=str(self.lab.programs.folder))
        files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=files.serve_forever, daemon=True).start()
        url = self.lab.relay(f"http://127.0.0.1:{files.server_port}", mbit, rtt_ms)
        server = self.start()
        try:
            begin = time.monotonic()
            with urllib.request.urlopen(f"{url}/{self.slot}") as answer, open(self.slot_path.with_suffix(".got"), "wb") as out:
                while piece := answer.read(1 << 20):
                    out.write(piece)
            api.request("POST", f"{self.url}/slots/0?action=restore", {"filename": self.slot_path.with_suffix(".got").name})
            return (time.monotonic() - begin) * 1000 + first_token_ms(self.url, self.lab.contexts["long"])[0]
        finally:
            server.stop()
            files.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def count_layers(extension):
    out = {}
    for layer in extension["layers"]:
        out[layer["source"]] = out.get(layer["source"], 0) + 1
    return out


def source_arguments(lab, n_sources, mbit, rtt_ms):
    out = ["--cloud", lab.relay(lab.cloud.url, mbit, rtt_ms)]
    for neighbour in lab.neighbours[:n_sources - 1]:
        out += ["--peer", lab.relay(neighbour.url, mbit, rtt_ms)]
    return out


def measure_case(lab, llama, n_sources, mbit, rtt_ms):
    sources = source_arguments(lab, n_sources, mbit, rtt_ms)
    ours, download, local, resident = [], [], [], []
    for _ in range(lab.options.runs):
        ms, extension, resident_ms = lab.measure(*sources)
        ours.append(ms)
        resident.append(resident_ms)
        download.append(lab.measure(*sources, "--prefer", "energy")[0])
        local.append(lab.measure("--context", lab.paths["warm"], "--context", lab.paths["long"])[0])
    case = {"context_tokens": extension["context_tokens"], "sources": n_sources, "link_mbit": mbit, "rtt_ms": rtt_ms,
            "ttft_ms": statistics.median(ours), "local_ms": statistics.median(local), "download_ms": statistics.median(download),
            "resident_ms": statistics.median(resident), "layers": count_layers(extension), "load": extension["load"],
            "peer_cold_ms": None, "peer_restore_ms": None}
    case["bound_ms"] = bound_ms(case["local_ms"], case["download_ms"], case["resident_ms"])
    if llama:
        case["peer_cold_ms"], case["peer_restore_ms"] = llama.cold_ms, llama.restore_ms(mbit, rtt_ms)
    return case


def measure_length(programs, options, n_tokens):
    lab, cases = Lab(programs, options, n_tokens), []
    llama = None if options.no_peer else LlamaServer(lab)
    if llama:
        llama.measure_cold()
    for mbit in options.links:
        for rtt_ms in options.rtts:
            for n_sources in options.sources:
                with Progress(f"{n_tokens} tokens, {n_sources} sources of {mbit:g} Mbit/s, {rtt_ms:g} ms"):
                    cases.append(measure_case(lab, llama, n_sources, mbit, rtt_ms))
    lab.cloud.stop()
    for neighbour in lab.neighbours:
        neighbour.stop()
    return cases


def show(result):
    rows = []
    for c in result["cases"]:
        best = min(c["local_ms"], c["download_ms"])
        layers = ", ".join(f"{n} {source}" for source, n in c["layers"].items())
        peer = [f"{c['peer_cold_ms']:.0f}", f"{c['peer_restore_ms']:.0f}"] if c["peer_cold_ms"] else ["", ""]
        rows.append([c["context_tokens"], c["sources"], f"{c['link_mbit']:g}", f"{c['rtt_ms']:g}", f"{c['ttft_ms']:.0f}", f"{c['local_ms']:.0f}",
                     f"{c['download_ms']:.0f}", f"{c['bound_ms']:.0f}", f"{c['ttft_ms'] / c['bound_ms']:.2f}", f"{c['ttft_ms'] / best:.2f}", *peer, layers])
    print(f"Time to first token, milliseconds, medians of {result['runs']}; {result['model']}; {result['machine']}\n")
    print(table(rows, ["context", "sources", "Mbit/s", "rtt", "ours", "local", "download", "bound", "/bound", "/best", "llama cold", "llama restore", "layers"]))


def draw(path, cases):
    charts = []
    for tokens in sorted({c["context_tokens"] for c in cases}):
        chart = plot.Chart(f"{tokens} tokens, cloud only, shortest round trip", "Mbit/s", "ms to first token", log_x=True, log_y=True)
        mine = [c for c in cases if c["context_tokens"] == tokens and c["sources"] == 1 and c["rtt_ms"] == min(x["rtt_ms"] for x in cases)]
        names = (("both at once", "ttft_ms"), ("local prefill", "local_ms"), ("download", "download_ms"), ("bound", "bound_ms"),
                 ("llama prefill", "peer_cold_ms"), ("llama restore", "peer_restore_ms"))
        for name, key in names:
            if mine and mine[0][key]:
                chart.line(name, [(c["link_mbit"], c[key]) for c in mine], dashed=key == "bound_ms")
        charts.append(chart)
    plot.write(path, charts)


def draw_timeline(programs, options):
    n_tokens, mbit, rtt_ms = options.tokens[0], options.links[0], options.rtts[0]
    lab = Lab(programs, options, n_tokens)
    _, extension, _ = lab.measure(*source_arguments(lab, max(options.sources), mbit, rtt_ms))
    chart = plot.Chart(f"{extension['context_tokens']} tokens, {mbit:g} Mbit/s a source", "milliseconds", "layer")
    for source in ("compute", "peer", "cloud", "disk"):
        points = [(layer["ms"], i) for i, layer in enumerate(extension["layers"]) if layer["source"] == source]
        if points:
            chart.points(source, points)
    passed, steps = 0, []
    for i, layer in enumerate(extension["layers"]):
        passed = max(passed, layer["ms"])
        steps.append((passed, i))
    chart.line("user's tokens", steps, dashed=True, marks=False)
    plot.write(options.timeline, [chart])


def main():
    options = arguments()
    result = {"machine": machine(), "model": f"{SHAPE} {QUANTIZATION}, random weights", "runs": options.runs, "cases": [], "faults": None}
    with Programs() as programs:
        if options.timeline:
            return draw_timeline(programs, options)
        if options.faults:
            result["faults"] = run_faults(Lab(programs, options, options.tokens[0]), options.faults, options.links[0])
        else:
            for n_tokens in options.tokens:
                result["cases"] += measure_length(programs, options, n_tokens)
    if result["cases"]:
        show(result)
        if options.svg:
            draw(options.svg, result["cases"])
    else:
        print(json.dumps(result["faults"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""ttft: time to first token with the cloud's KV, against llama-server prefilling on the same machine.

Random weights in the shape of Qwen2.5-0.5B (Q4_0): speed only. For each context length and link rate: a fresh edge that fetches the
whole pack (ready at the cloud; `./dev bench load` measures fetching and computing at once), the same edge program prefilling locally, and llama-server prefilling, in turn, `--runs` times; medians.

--json keys: machine, model, cases: [{context_tokens, link_mbit, codec, bytes, ours_ms, local_ms, peer_ms, ratio}]
  ours_ms, local_ms, peer_ms: median milliseconds from request to first token, as the client sees it; ratio: peer_ms / ours_ms.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.lab import api, models, network
from bench.lab.peer import start_llama_server
from bench.lab.programs import Programs, celslm, wait_until
from bench.lab.progress import Progress, machine, table

SHAPE, QUANTIZATION = "qwen2.5-0.5b", "Q4_0"
PRESET = "bench"


def numbers(text):
    return [float(x) if "." in text else int(x) for x in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench ttft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--tokens", type=numbers, default=[512, 2048, 8192])
    parser.add_argument("--links", type=numbers, default=[10, 50, 100, 1000], help="Mbit/s")
    parser.add_argument("--codecs", type=lambda t: t.split(","), default=["f16", "q8"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def first_token_ms(url, context, question="Go on."):
    messages = [{"role": "system", "content": context}, {"role": "user", "content": question}]
    # Random weights may begin with bytes that are no text yet; log-probabilities make every token visible.
    streamed = api.stream_chat(url, messages, temperature=0, max_tokens=2, logprobs=True)
    return streamed.first_event_s * 1000, streamed


class Lab:
    """What all measurements share."""

    def __init__(self, programs, options):
        self.programs, self.options = programs, options
        self.model = models.random_model(SHAPE, QUANTIZATION)

    def edge_ms(self, link, name, context, handle=None, extra=()):
        """One request at a fresh edge. Returns milliseconds and the extension object."""
        edge = self.programs.start([celslm(PRESET), "edge", "--model", self.model, "--threads", self.options.threads, "--host",
                                    link.edge_host("edge1"), "--port", 0, "--insecure", "--data", self.programs.folder / name, *extra],
                                   name, prefix=link.edge_prefix("edge1"))
        edge.wait_listening()
        if handle:
            wait_until(lambda: any(c["id"] == handle for c in api.request("GET", f"{edge.url}/v1/contexts")["contexts"]), "the context")
        ms, streamed = first_token_ms(edge.url, context)
        edge.stop()
        subprocess.run(["rm", "-rf", str(self.programs.folder / name)], check=True)
        return ms, streamed.x_celslm

    def peer_ms(self, context, n_tokens):
        """One request at a fresh llama-server: flash attention, f16 KV, all of its defaults for a single user."""
        server, url = start_llama_server(self.model, self.options.threads, n_tokens + 512, 1, self.programs.folder, "--no-warmup")
        try:
            first_token_ms(url, "warm up")
            return first_token_ms(url, context)[0]
        finally:
            server.stop()


def prepare_cloud(lab, link, context, name):
    """A cloud that holds the packs of `context` in all codecs; returns it and the handle."""
    path = lab.programs.folder / f"{name}.txt"
    path.write_text(context, encoding="utf-8")
    cloud = lab.programs.start([celslm(PRESET), "cloud", "--model", lab.model, "--host", link.cloud_host, "--port", 0, "--insecure",
                                "--data", lab.programs.folder / name], name, prefix=link.cloud_prefix)
    cloud.wait_listening()
    put = subprocess.run([celslm(PRESET), "context", "put", path, "--cloud", cloud.url], check=True, capture_output=True, text=True)
    handle = put.stdout.split()[0]
    model_id = api.request("GET", f"{cloud.url}/v1/models")["models"][0]["id"]
    for codec in lab.options.codecs:
        path = f"{cloud.url}/v1/packs/{handle}/{model_id}/{codec}/header"
        wait_until(lambda p=path: complete(p), f"the {codec} pack", timeout_s=600, poll_s=0.3)
    return cloud, handle


def complete(url):
    import http.client
    import urllib.parse
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    answer.read()
    return answer.getheader("x-celslm-state") == "complete"


def measure(lab, n_tokens):
    """All cases of one context length."""
    options, context = lab.options, models.random_text(n_tokens)
    cases, local, peer = [], [], []
    context_file = lab.programs.folder / f"context-{n_tokens}.txt"
    context_file.write_text(context, encoding="utf-8")
    for mbit in options.links:
        with network.open_link(lab.programs, mbit) as link:
            with Progress(f"{n_tokens} tokens, {mbit:g} Mbit/s: packs at the cloud"):
                cloud, handle = prepare_cloud(lab, link, context, f"cloud-{n_tokens}")
            ours = {codec: [] for codec in options.codecs}
            moved = {}
            with Progress(f"{n_tokens} tokens, {mbit:g} Mbit/s: ours, local, llama-server in turn") as progress:
                for run in range(options.runs):
                    progress.update(f"round {run + 1} of {options.runs}")
                    for codec in options.codecs:
                        extra = ["--cloud", link.cloud_url(cloud.url), "--codec", codec, "--prefer", "energy"]
                        ms, extension = lab.edge_ms(link, f"edge-{codec}-{run}", context, handle, extra)
                        ours[codec].append(ms)
                        moved[codec] = extension
                    # Prefill does not know the link: measured in the same rounds, pooled over the links.
                    if len(local) < options.runs or run == 0:
                        local.append(lab.edge_ms(link, f"local-{run}", context, None, ["--context", context_file])[0])
                        peer.append(lab.peer_ms(context, n_tokens))
            cloud.stop()
            for codec in options.codecs:
                cases.append({"context_tokens": moved[codec]["context_tokens"], "link_mbit": mbit, "codec": codec,
                              "bytes": moved[codec]["bytes"], "ours_ms": statistics.median(ours[codec]),
                              "sources": sorted({layer["source"] for layer in moved[codec]["layers"]})})
    for case in cases:
        case["local_ms"], case["peer_ms"] = statistics.median(local), statistics.median(peer)
        case["ratio"] = case["peer_ms"] / case["ours_ms"]
    return cases


def main():
    options = arguments()
    result = {"machine": machine(), "model": f"{SHAPE} {QUANTIZATION}, random weights", "runs": options.runs, "cases": []}
    with Programs() as programs:
        lab = Lab(programs, options)
        for n_tokens in options.tokens:
            result["cases"] += measure(lab, n_tokens)
    rows = [[c["context_tokens"], f"{c['link_mbit']:g}", c["codec"], c["bytes"], f"{c['ours_ms']:.0f}", f"{c['local_ms']:.0f}",
             f"{c['peer_ms']:.0f}", f"{c['ratio']:.2f}x"] for c in result["cases"]]
    print(f"Time to first token, milliseconds, medians of {options.runs}; {result['model']}; {result['machine']}\n")
    print(table(rows, ["context", "Mbit/s", "codec", "bytes", "ours", "ours, local prefill", "llama-server", "llama-server / ours"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

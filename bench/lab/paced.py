"""Fleets of edges whose engines take as long as recorded timings say: many of them run on few cores."""
import concurrent.futures
import contextlib
import http.client
import json
import math
import random
import threading
import time
import urllib.parse

from . import api
from .programs import built, celslm, output_of, wait_until
from .trouble import metric
from .valkey import free_port

WORD_LETTERS = "abcdfg"  # tools/random_gguf.py, tiny-deep: a space and three of these are a token
N_BYTE_TOKENS = 256
N_VOCABULARY = 768


def words(n, chance):
    return "".join(" " + "".join(chance.choice(WORD_LETTERS) for _ in range(3)) for _ in range(n))


def cloud_with(lab, texts):
    """A cloud that has packs of all these texts, and the contexts."""
    cloud = lab.cloud()
    contexts = [lab.context(f"context{i}", text) for i, text in enumerate(texts)]
    for context in contexts:
        lab.put(cloud, context, codecs=["f16"])
    return cloud, contexts


class PacedFleet:
    """Edges that begin with nothing, neighbours of each other if `routed`; each has a link of its own to the cloud."""

    def __init__(self, lab, size, cloud, contexts, *, routed):
        """size: a FleetSize."""
        self.lab, self.contexts = lab, contexts
        ports = [free_port() for _ in range(size.edges)]
        links = [lab.relay(cloud.url, size.mbit, size.round_trip_ms) for _ in ports]
        self.edges = [self._edge(size, port, link, [other for other in ports if other != port] if routed else [])
                      for port, link in zip(ports, links)]
        for edge in self.edges:
            for context in self.contexts:
                lab.wait_for_context(edge, context)
        if routed:
            wait_until(lambda: all(self._in_touch(edge, size.edges) for edge in self.edges), "edges to know each other")

    def _edge(self, size, port, link, neighbours):
        arguments = [argument for other in neighbours for argument in ("--neighbor", f"http://127.0.0.1:{other}")]
        name = self.lab.programs.fresh_name("edge")
        program = self.lab.programs.start(
            [built("celslm_bench_paced_edge", self.lab.preset, "bench"), *size.engine.options(), "edge", "--model",
             self.lab.model, "--host", "127.0.0.1", "--port", port, "--data", self.lab.programs.folder / f"{name}.data",
             "--threads", 1, "--codec", "f16", "--cloud", link.url, "--policy", "fleet" if neighbours else "edge-only",
             "--max-users", size.places, "--max-queue", size.queue, "--context-budget", size.context_memory,
             "--pack-budget", size.disk, *arguments],
            name)
        program.wait_listening()
        return program

    @staticmethod
    def _in_touch(edge, n_edges):
        """A request of one token tells."""
        answer = api.request("POST", f"{edge.url}/v1/completions", {"prompt": [1], "max_tokens": 1})
        return len(answer["x_celslm"]["routing"]["candidates"]) == n_edges

    def bytes_from_cloud(self):
        return sum(metric(edge, "celslm_edge_fetched_bytes_total") or 0 for edge in self.edges)


def ask(url, context, prompt, answer_tokens):
    """Seconds to the first token of an answer of exactly so many tokens."""
    body = {"prompt": prompt, "max_tokens": answer_tokens, "stream": True, "temperature": 0, "logprobs": 0,
            "logit_bias": {str(N_VOCABULARY - 1): -100, str(N_VOCABULARY - 2): -100}}
    if context:
        body["x_celslm"] = {"context": context.handle}
    parts = urllib.parse.urlsplit(url)
    began = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise api.ApiError(answer.status, answer.read().decode(errors="replace"))
        first = None
        last = b""
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            first = first or time.monotonic() - began
            last = line if b"x_celslm" in line else last
    if not last:
        raise ValueError("a stream without an end")
    return first


class Driver:
    """Asks a fleet for requests at their times, whoever is still being answered."""

    def __init__(self, fleet, requests, choose_edge, seed):
        """requests: as of `celslm simulate --requests`. choose_edge(request): whom to ask."""
        self._fleet, self._requests, self._choose = fleet, requests, choose_edge
        self._chance = random.Random(seed)
        self._ttft_s = [math.inf] * len(requests)
        self._problems = []
        self._lock = threading.Lock()

    def run(self, progress=None):
        """Seconds to the first token, by request; infinite where it failed or was refused."""
        prompts = [[self._chance.randrange(N_BYTE_TOKENS) for _ in range(request["prompt_tokens"])]
                   for request in self._requests]
        with concurrent.futures.ThreadPoolExecutor(max_workers=1024) as threads:
            began = time.monotonic()
            for number, request in enumerate(self._requests):
                time.sleep(max(0.0, began + request["at_s"] - time.monotonic()))
                threads.submit(self._ask, number, request, prompts[number])
                if progress:
                    progress.update(f"{number} of {len(self._requests)} requests")
        return self._ttft_s

    def _ask(self, number, request, prompt):
        context = self._fleet.contexts[request["context"]] if request["context"] >= 0 else None
        try:
            edge = self._fleet.edges[self._choose(request)]
            self._ttft_s[number] = ask(edge.url, context, prompt, request["answer_tokens"])
        except api.FAILURES as error:
            with self._lock:
                self._problems.append(repr(error))

    @property
    def problems(self):
        return self._problems


def simulated(preset, size, n_contexts, requests_file, routing, seed):
    """What `celslm simulate` makes of the same fleet and requests."""
    pack_bytes_per_token = 2 * 2 * size.engine.layers * size.engine.kv_width
    argv = ["--edges", size.edges, "--site", size.edges, "--clouds", 1, "--cloud-rate", 1e12, "--cloud-prefill", 1e9,
            "--down", size.mbit * 1e6 / 8, "--round-trip", size.round_trip_ms / 1000, "--lan", 0,
            *size.engine.options(), "--layers", size.engine.layers, "--max-users", size.places, "--max-queue", size.queue,
            "--context-memory", size.context_memory, "--disk", size.disk, "--contexts", n_contexts,
            "--context-tokens", size.context_tokens,
            "--bytes-per-token", pack_bytes_per_token, "--routing", routing, "--seed", seed, "--replay", requests_file]
    return json.loads(output_of(celslm(preset), "simulate", "--json", *argv))

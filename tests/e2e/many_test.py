"""Many short requests from 64 connections: none lost, none mixed up, memory flat at the end.

CELSLM_MANY=10000 sets how many (the default is what a test run has time for), CELSLM_BINARY which build; with ThreadSanitizer's,
CELSLM_THREADS=1 (it does not know OpenMP's barriers) and CELSLM_GROWTH_MB=1000 (it keeps a history of memory)."""
import contextlib
import http.client
import json
import os
import queue
import re
import threading
import urllib.parse

import pytest

from bench.lab import api, models
from bench.lab.programs import wait_until

REQUESTS = int(os.environ.get("CELSLM_MANY", "1000"))
CONNECTIONS = 64
WARM_UP = 200  # requests after which the programs' pools have their size
GROWTH_MB = float(os.environ.get("CELSLM_GROWTH_MB", "16"))


class Connection:
    """One kept-alive connection to an edge."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)

    def close(self):
        self.http.close()

    def ask(self, context, question):
        messages = [{"role": "user", "content": question}]
        if context:
            messages.insert(0, {"role": "system", "content": context})
        body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": 12})
        self.http.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise api.ApiError(answer.status, text)
        return json.loads(text)["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def worlds():
    return models.demo_worlds()[:2]


@pytest.fixture
def many_edge(start, folder, worlds):
    """An edge without a cloud that shares the worlds' contexts."""
    arguments = []
    for number, world in enumerate(worlds):
        path = folder / f"context-{number}.txt"
        path.write_text(world["context"], encoding="utf-8")
        arguments += ["--context", path]
    return start("edge", "--log-level", "warn", "--threads", os.environ.get("CELSLM_THREADS", "0"), *arguments)


def context_tokens(edge, world):
    messages = [{"role": "system", "content": world["context"]}, {"role": "user", "content": world["questions"][0]["question"]}]
    return api.chat(edge.url, messages, max_tokens=1)["x_celslm"]["context_tokens"]


def run_many(edge, asked, expected):
    """Every number of `asked` once; returns what went wrong."""
    work, wrong = queue.SimpleQueue(), []
    for item in asked:
        work.put(item)

    def worker():
        with contextlib.closing(Connection(edge.url)) as connection, contextlib.suppress(queue.Empty):
            while True:
                context, question = work.get_nowait()
                try:
                    got = connection.ask(context, question)
                except (OSError, api.ApiError, http.client.HTTPException, KeyError) as error:
                    wrong.append(f"{question!r}: {error!r}")
                    return
                if got != expected[context, question]:
                    wrong.append(f"{question!r}: {got!r}, alone {expected[context, question]!r}")
    threads = [threading.Thread(target=worker) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work.empty() or wrong, "requests were left"
    return wrong


def test_none_lost_none_mixed_up_memory_flat(many_edge, worlds):
    # Behind the first context, the second, and none at all.
    cases = [(world["context"] if behind else None, q["question"])
             for world in worlds for q in world["questions"] for behind in (True, True, False)]
    cases = list(dict.fromkeys(cases))
    with contextlib.closing(Connection(many_edge.url)) as alone:
        expected = {case: alone.ask(*case) for case in cases}
    assert len(set(expected.values())) > 10

    asked = [cases[i % len(cases)] for i in range(REQUESTS)]
    assert run_many(many_edge, asked[:WARM_UP], expected) == []
    before = many_edge.memory_mb()
    assert run_many(many_edge, asked[WARM_UP:], expected) == []
    assert many_edge.memory_mb() - before < GROWTH_MB

    def metrics():
        return api.request("GET", f"{many_edge.url}/metrics")
    # A client has its last word a moment before the batch loop has counted it.
    wait_until(lambda: "celslm_edge_running_requests 0" in metrics(), "the batch to be empty", timeout_s=20)
    after = metrics()
    assert f'celslm_edge_requests_total{{how="finished"}} {REQUESTS + len(cases)}' in after
    # One copy of each context's KV, however many asked: 2 layers of K and V, 4 heads of 32 values, 2 bytes each.
    tokens = sum(context_tokens(many_edge, world) for world in worlds)
    kept = float(re.search(r"^celslm_edge_context_kv_bytes (\S+)", after, re.M)[1])
    assert kept < 1.2 * tokens * 2 * 2 * 4 * 32 * 2
    assert "celslm_edge_queued_requests 0" in after

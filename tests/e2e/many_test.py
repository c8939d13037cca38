#!/usr/bin/env python3
"""Many short requests from 64 connections: none lost, none mixed up, memory flat at the end.

CELSLM_MANY=10000 sets how many (the default is what a test run has time for), CELSLM_BINARY which build; with ThreadSanitizer's,
CELSLM_THREADS=1 (it does not know OpenMP's barriers) and CELSLM_GROWTH_MB=1000 (it keeps a history of memory)."""
import contextlib
import http.client
import json
import os
import pathlib
import queue
import re
import sys
import threading
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.lab import api, models
from bench.lab.programs import Programs, celslm, wait_until

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


class ManyRequestsTest(unittest.TestCase):
    def setUp(self):
        programs = self.enterContext(Programs())
        self.worlds = models.demo_worlds()[:2]
        arguments = []
        for number, world in enumerate(self.worlds):
            path = programs.folder / f"context-{number}.txt"
            path.write_text(world["context"], encoding="utf-8")
            arguments += ["--context", path]
        binary = os.environ.get("CELSLM_BINARY") or celslm()
        self.edge = programs.start([binary, "edge", "--model", models.demo_model("small"), "--port", 0, "--data", programs.folder / "edge",
                                    "--log-level", "warn",
                                    "--threads", os.environ.get("CELSLM_THREADS", "0"), *arguments], "edge")
        self.edge.wait_listening()

    def metrics(self):
        return api.request("GET", f"{self.edge.url}/metrics")

    def context_tokens(self, world):
        messages = [{"role": "system", "content": world["context"]}, {"role": "user", "content": world["questions"][0]["question"]}]
        return api.chat(self.edge.url, messages, max_tokens=1)["x_celslm"]["context_tokens"]

    def run_many(self, asked, expected):
        """Every number of `asked` once; returns what went wrong."""
        work, wrong = queue.SimpleQueue(), []
        for item in asked:
            work.put(item)

        def worker():
            with contextlib.closing(Connection(self.edge.url)) as connection, contextlib.suppress(queue.Empty):
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
        self.assertTrue(work.empty() or wrong, "requests were left")
        return wrong

    def test_none_lost_none_mixed_up_memory_flat(self):
        # Behind the first context, the second, and none at all.
        cases = [(world["context"] if behind else None, q["question"])
                 for world in self.worlds for q in world["questions"] for behind in (True, True, False)]
        cases = list(dict.fromkeys(cases))
        with contextlib.closing(Connection(self.edge.url)) as alone:
            expected = {case: alone.ask(*case) for case in cases}
        self.assertGreater(len(set(expected.values())), 10)

        asked = [cases[i % len(cases)] for i in range(REQUESTS)]
        self.assertEqual(self.run_many(asked[:WARM_UP], expected), [])
        before = self.edge.memory_mb()
        self.assertEqual(self.run_many(asked[WARM_UP:], expected), [])
        self.assertLess(self.edge.memory_mb() - before, GROWTH_MB)

        # A client has its last word a moment before the batch loop has counted it.
        wait_until(lambda: "celslm_edge_running_requests 0" in self.metrics(), "the batch to be empty", timeout_s=20)
        metrics = self.metrics()
        self.assertIn(f'celslm_edge_requests_total{{how="finished"}} {REQUESTS + len(cases)}', metrics)
        # One copy of each context's KV, however many asked: 2 layers of K and V, 4 heads of 32 values, 2 bytes each.
        tokens = sum(self.context_tokens(world) for world in self.worlds)
        kept = float(re.search(r"^celslm_edge_context_kv_bytes (\S+)", metrics, re.M)[1])
        self.assertLess(kept, 1.2 * tokens * 2 * 2 * 4 * 32 * 2)
        self.assertIn("celslm_edge_queued_requests 0", metrics)


if __name__ == "__main__":
    unittest.main(verbosity=2)

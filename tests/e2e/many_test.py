"""Many short requests from 64 connections: none lost, none mixed up, memory flat at the end.

CELSLM_MANY=10000 sets how many (default: what a test run has time for), CELSLM_BINARY which build; with ThreadSanitizer's,
CELSLM_THREADS=1 (it does not know OpenMP's barriers) and CELSLM_GROWTH_MB=1000 (it keeps a history of memory)."""
import contextlib
import os

import pytest

from bench.lab import api, models
from bench.lab.programs import wait_until
from tests.e2e.crowd import Connection, run_many

REQUESTS = int(os.environ.get("CELSLM_MANY", "1000"))
WARM_UP = 200  # requests after which the programs' pools have their size
GROWTH_MB = float(os.environ.get("CELSLM_GROWTH_MB", "16"))


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
    assert "celslm_edge_queued_requests 0" in after

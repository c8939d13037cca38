"""The ledger of memory against what the system counts, and an edge under a limit."""
import concurrent.futures
import json
import re
import urllib.error
import urllib.request

import pytest

from bench.lab import api
from tests.e2e.support import PATIENCE_S, metric

WORDS = "the house of the old man stands near the river and its garden is green "


def ledger_mb(edge):
    text = api.request("GET", f"{edge.url}/metrics")
    found = re.findall(r'^celslm_edge_memory_bytes\{account="([^"]+)"\} (\S+)', text, re.MULTILINE)
    return {name: float(value) / 2**20 for name, value in found}


def assert_ledger_is_what_is_resident(edge):
    accounts, resident = ledger_mb(edge), edge.memory_mb()
    assert sum(accounts.values()) == pytest.approx(resident, rel=0.1), (accounts, resident)


def status_of(edge, content, **fields):
    """The status of a chat's answer, and its Retry-After lines."""
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1, **fields}
    request = urllib.request.Request(f"{edge.url}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers.get_all("Retry-After")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_all("Retry-After")


def test_the_ledger_is_what_is_resident(start, context_file, ask):
    edge = start("edge", "--context", context_file)
    assert_ledger_is_what_is_resident(edge)
    ask(edge)
    assert_ledger_is_what_is_resident(edge)


def test_the_ledger_is_what_is_resident_with_a_context_of_over_100_mb(start, folder, pretrained):
    path = folder / "long.txt"
    path.write_text(" ".join(f"Line {i}: {WORDS}" for i in range(250)), encoding="utf-8")
    edge = start("edge", "--context", path, model=pretrained("smollm2-135m"))
    body = {"messages": [{"role": "system", "content": path.read_text(encoding="utf-8")},
                         {"role": "user", "content": "Where?"}], "max_tokens": 2}
    api.request("POST", f"{edge.url}/v1/chat/completions", body, PATIENCE_S)
    assert ledger_mb(edge)["contexts"] > 100
    assert_ledger_is_what_is_resident(edge)


def test_messages_of_megabytes_cost_no_memory(start):
    edge = start("edge")
    assert status_of(edge, "Hello")[0] == 200
    before = edge.memory_mb()
    huge = WORDS * (7_500_000 // len(WORDS))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: status_of(edge, huge)[0], range(4)))
    # Where all four are too much for it at once, some may be refused for that.
    assert set(statuses) <= {400, 429} and 400 in statuses
    for _ in range(4):
        assert status_of(edge, huge)[0] == 400
    assert edge.peak_memory_mb() - before < 4 * 100
    assert edge.memory_mb() - before < 40


def test_kept_prefixes_are_bounded_in_number(start):
    edge = start("edge")
    for i in range(300):
        status_of(edge, f"Question {i}: {WORDS * 3}")
    kept = metric(edge, "celslm_edge_kept_kv_bytes")
    for i in range(300, 400):
        status_of(edge, f"Question {i}: {WORDS * 3}")
    assert metric(edge, "celslm_edge_kept_kv_bytes") == pytest.approx(kept, rel=0.05)

"""One copy of a context's KV, however many read it: measured of the process, not asked of it."""
import contextlib
import pathlib

import pytest

from bench.lab import models
from tests.e2e.crowd import Connection, run_many

USERS = 32  # at once; half of the crowd waits
LARGE_KV_BYTES = 6 * 2 * 3 * 64 * 2  # of a token in the larger demo model: layers, K and V, heads, values, bytes each


@pytest.fixture(scope="session")
def model():
    return models.demo_model("large")


@pytest.fixture(scope="session")
def world():
    """The longest context: its KV is what has to show in the memory of the process."""
    return models.demo_worlds()[-1]


@pytest.fixture
def crowded_edge(start, context_file):
    return start("edge", "--max-users", USERS, "--context", context_file)


def reset_peak_memory(program):
    """From now on the kernel's peak (VmHWM) is of what follows."""
    pathlib.Path(f"/proc/{program.process.pid}/clear_refs").write_text("5", encoding="ascii")


def test_a_crowd_behind_one_context_holds_one_copy_of_its_kv(crowded_edge, world, ask):
    context_bytes = ask(crowded_edge).extension["context_tokens"] * LARGE_KV_BYTES
    case = world["context"], world["questions"][0]["question"]
    with contextlib.closing(Connection(crowded_edge.url)) as alone:
        expected = {case: alone.ask(*case)}
    before = crowded_edge.memory_mb()
    reset_peak_memory(crowded_edge)
    assert run_many(crowded_edge, [case] * 4 * USERS, expected) == []
    growth = crowded_edge.peak_memory_mb() - before
    assert growth < USERS * context_bytes / 2**20 / 2, "more than half of what a copy for each of them takes"

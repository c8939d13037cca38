"""A disk on which packs cannot be kept costs the packs, never an answer."""
import shutil

import pytest

from bench.lab import models
from tests.e2e import support


@pytest.fixture
def worlds():
    """Contexts of some 550 tokens, whose packs are larger than the budget below."""
    return models.demo_worlds()[-3:]


@pytest.fixture
def knowing_edge(cloud, celslm, folder, start_edge, worlds):
    """An edge that knows these worlds from a cloud, started with some more arguments."""

    def knowing_edge(*arguments):
        handles = []
        for number, world in enumerate(worlds):
            path = folder / f"world{number}.txt"
            path.write_text(world["context"], encoding="utf-8")
            handles.append(celslm("context", "put", path, "--cloud", cloud.url).stdout.split()[0])
        edge = start_edge(cloud, *arguments)
        for handle in handles:
            support.wait_for_context(edge, handle)
        return edge
    return knowing_edge


def answers_of(edge, worlds):
    return [support.ask(edge, world["context"], world["questions"][0]["question"]) for world in worlds]


def test_a_budget_that_no_pack_fits(knowing_edge, worlds):
    edge = knowing_edge("--pack-budget", "100kb")
    for answer in answers_of(edge, worlds):
        assert "cloud" in answer.suppliers
    assert edge.process.poll() is None
    assert support.metric(edge, "celslm_edge_kept_packs") == 0


@pytest.fixture
def packs(folder):
    """Where the edge keeps packs."""
    return lambda: next((folder / "edge").rglob("celslm-packs")).parent


def test_a_packs_folder_that_is_deleted_meanwhile(knowing_edge, worlds, packs):
    edge = knowing_edge()
    kept = packs()
    shutil.rmtree(kept)
    for answer in answers_of(edge, worlds):
        assert "cloud" in answer.suppliers
    assert edge.process.poll() is None


def test_a_packs_folder_that_is_a_file_meanwhile(knowing_edge, worlds, packs):
    edge = knowing_edge()
    kept = packs()
    shutil.rmtree(kept)
    kept.write_text("not a folder")
    for answer in answers_of(edge, worlds):
        assert "cloud" in answer.suppliers
    assert edge.process.poll() is None

"""--max-bytes-per-hour: what crosses the links stays below it, whoever asks for how much at once; the rest is computed."""
import concurrent.futures
import re

import pytest

from bench.lab import models
from tests.e2e import support

N_CONTEXTS = 4


@pytest.fixture
def worlds():
    return models.demo_worlds()[:N_CONTEXTS]


@pytest.fixture
def handles(celslm, cloud, folder, worlds):
    """All worlds' contexts, registered with the cloud."""
    out = []
    for i, world in enumerate(worlds):
        path = folder / f"context-{i}.txt"
        path.write_text(world["context"], encoding="utf-8")
        put = celslm("context", "put", path, "--cloud", cloud.url)
        assert put.returncode == 0, put.stderr
        out.append(put.stdout.split()[0])
    return out


def ask_all(edge, worlds):
    """An answer about each context, all at once."""
    def ask(world):
        return support.ask(edge, world["context"], world["questions"][0]["question"])
    with concurrent.futures.ThreadPoolExecutor(len(worlds)) as pool:
        return list(pool.map(ask, worlds))


def moved_over(*relays):
    """Bytes that crossed these links, in both directions; ends them."""
    total = 0
    for relay in relays:
        relay.stop()
        up, down = re.search(r"(\d+) bytes up, (\d+) bytes down", relay.log_tail()).groups()
        total += int(up) + int(down)
    return total


def reports(edge):
    return edge.log_path.read_text(encoding="utf-8").count("bytes for this hour are used up")


@pytest.fixture
def expected(start, folder, handles, worlds):
    """What an edge that computes everything answers."""
    arguments = [word for i in range(len(worlds)) for word in ("--context", folder / f"context-{i}.txt")]
    return [answer.choices for answer in ask_all(start("edge", *arguments, name="reference"), worlds)]


def test_four_contexts_at_once_move_no_more_than_the_limit(cloud, link, start_edge, handles, worlds, expected):
    unlimited = link(cloud, name="unlimited")
    edge = start_edge(unlimited, name="free")
    for handle in handles:
        support.wait_for_context(edge, handle)
    ask_all(edge, worlds)
    edge.stop()
    everything = moved_over(unlimited)

    limit = everything // 2
    relay = link(cloud, name="limited")
    edge = start_edge(relay, "--max-bytes-per-hour", limit)
    for handle in handles:
        support.wait_for_context(edge, handle)
    answers = ask_all(edge, worlds)
    assert [answer.choices for answer in answers] == expected
    assert any("compute" in answer.suppliers for answer in answers)
    assert any("cloud" in answer.suppliers for answer in answers)
    edge.stop()
    moved = moved_over(relay)
    assert moved <= limit
    assert moved > limit // 3
    assert reports(edge) == 1


def test_three_sources_share_the_limit(cloud, link, start_edge, handles, worlds, expected):
    neighbours = [start_edge(cloud, name=f"neighbour-{i}") for i in range(2)]
    for neighbour in neighbours:
        for handle in handles:
            support.wait_for_context(neighbour, handle)
        ask_all(neighbour, worlds)
    pack_bytes = sum(support.metric(cloud, name) for name in ("celslm_cloud_pack_store_bytes",))
    limit = int(pack_bytes // 2)
    links = [link(program, name=f"link-{i}") for i, program in enumerate([cloud, *neighbours])]
    edge = start_edge(links[0], "--peer", links[1].url, "--peer", links[2].url, "--max-bytes-per-hour", limit)
    for handle in handles:
        support.wait_for_context(edge, handle)
    assert [answer.choices for answer in ask_all(edge, worlds)] == expected
    edge.stop()
    assert limit // 3 < moved_over(*links) <= limit


def test_a_limit_below_one_context_costs_no_answer(cloud, link, start_edge, handles, worlds, expected):
    relay = link(cloud)
    edge = start_edge(relay, "--max-bytes-per-hour", 30_000)
    for handle in handles:
        support.wait_for_context(edge, handle)
    for _ in range(2):
        answers = ask_all(edge, worlds)
        assert [answer.choices for answer in answers] == expected
    assert any("--max-bytes-per-hour" in answer.note for answer in answers)
    edge.stop()
    assert moved_over(relay) <= 30_000
    assert reports(edge) == 1

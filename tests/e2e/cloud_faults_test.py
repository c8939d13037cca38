"""Clouds that are dead, hang or garble what they send: they cost time, not answers."""
import http.client
import pathlib
import signal

import pytest

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e import support


def test_an_edge_answers_without_its_cloud_and_names_it(cloud, edge, ask, question):
    cloud.kill()
    answer = ask(edge)
    assert answer.suppliers == {"compute"}
    assert cloud.url in answer.note
    assert question["answer"] in answer.text


def is_stopped(program):
    return pathlib.Path(f"/proc/{program.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "T"


def test_an_edge_answers_while_its_cloud_still_hangs(cloud, edge, local_edge, ask):
    cloud.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(cloud), "the cloud to hang")
    answer = ask(edge)  # with a time-out: an edge that waits for its cloud fails here
    assert is_stopped(cloud)
    cloud.process.send_signal(signal.SIGCONT)
    assert answer.suppliers == {"compute"}
    assert answer.choices == ask(local_edge).choices


@pytest.fixture
def edge_behind(start_edge, share):
    """An edge that knows the world's context from a cloud that it reaches through this link."""

    def edge_behind(cloud, link, *arguments, name="edge"):
        handle = share(cloud)
        edge = start_edge(link, *arguments, name=name)
        support.wait_for_context(edge, handle)
        return edge
    return edge_behind


def test_an_edge_answers_while_a_transfer_is_silent_halfway(cloud, edge, edge_behind, local_edge, link, ask):
    ask(edge)  # so that the pack is complete: what a cloud announces while it computes may be silent for a minute
    # After more than one of the pack's four blocks of 56 KB, and before the last. One by one: of several at once none
    # might be complete by then.
    answer = ask(edge_behind(cloud, link(cloud, "--stall-after", 100_000), "--connections", 1, name="behind"))
    assert answer.suppliers == {"cloud", "compute"}
    assert answer.choices == ask(local_edge).choices


def answers_plainly(program):
    try:
        return api.request("GET", f"{program.url}/health", timeout_s=5) == {"status": "ok"}
    except (OSError, http.client.HTTPException, api.ApiError, ValueError):
        return False


def test_an_edge_answers_while_its_cloud_sends_garbage(cloud, edge_behind, local_edge, link, folder, ask):
    orders = folder / "orders"
    relay = link(cloud, "--control", orders)
    edge = edge_behind(cloud, relay)
    assert answers_plainly(relay)
    orders.write_text("garble 1000000000\n", encoding="utf-8")
    wait_until(lambda: not answers_plainly(relay), "the link to garble")
    answer = ask(edge)
    assert answer.suppliers == {"compute"}
    assert relay.url in answer.note
    assert answer.choices == ask(local_edge).choices

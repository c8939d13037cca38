"""The cloud's list of contexts at its edges: changes come at once, and unknown handles stay where they are."""
import time

import pytest

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e import support

AT_ONCE_S = 2


def knows(edge, handle):
    return any(c["id"] == handle for c in api.request("GET", f"{edge.url}/v1/contexts")["contexts"])


def test_changes_reach_every_edge_within_two_seconds(celslm, cloud, start_edge, share, folder):
    edges = [start_edge(cloud, name=f"edge-{i}") for i in range(3)]
    first = share(cloud, *edges)
    another = folder / "another.txt"
    another.write_text("Another text that is shared.", encoding="utf-8")
    handle = celslm("context", "put", another, "--cloud", cloud.url).stdout.split()[0]
    began = time.monotonic()
    for edge in edges:
        wait_until(lambda edge=edge: knows(edge, handle), "the edge to learn of it", poll_s=0.01)
    assert time.monotonic() - began < AT_ONCE_S
    assert celslm("context", "rm", first, "--cloud", cloud.url).returncode == 0
    began = time.monotonic()
    for edge in edges:
        wait_until(lambda edge=edge: not knows(edge, first), "the edge to learn of it", poll_s=0.01)
    assert time.monotonic() - began < AT_ONCE_S


def test_an_edge_follows_a_cloud_that_was_started_again(binary, celslm, programs, folder, start, model, start_edge,
                                                        context_file):
    cloud = start("cloud")
    edge = start_edge(cloud)
    cloud.kill()
    port = cloud.url.rsplit(":", 1)[1]
    restarted = programs.start([binary, "cloud", "--model", model, "--port", port, "--data", folder / "cloud"], "restarted")
    restarted.wait_listening()
    handle = celslm("context", "put", context_file, "--cloud", restarted.url).stdout.split()[0]
    support.wait_for_context(edge, handle)


def test_a_handle_that_the_cloud_does_not_list_leaves_no_edge(cloud, link, start_edge, folder):
    relay = link(cloud, "--record", folder / "sent")
    edge = start_edge(relay)
    secret = "5ec4e7" * 10 + "abcd"
    for _ in range(3):
        with pytest.raises(api.ApiError) as refused:
            support.chat(edge, [{"role": "user", "content": "Hello"}], x_celslm={"context": secret})
        assert refused.value.status == 404
        assert '"unknown_context"' in refused.value.body
    edge.stop()
    relay.stop()
    sent = (folder / "sent").read_bytes()
    assert b"/v1/contexts" in sent
    assert secret.encode() not in sent


def test_the_handle_of_an_edges_own_text_leaves_no_edge(cloud, link, start_edge, share, folder, context_file, ask):
    handle = share(cloud)  # the cloud could give it
    relay = link(cloud, "--record", folder / "sent")
    edge = start_edge(relay, "--context", context_file)
    assert ask(edge).suppliers == {"compute"}
    edge.stop()
    relay.stop()
    sent = (folder / "sent").read_bytes()
    assert b"/v1/contexts" in sent
    assert handle.encode() not in sent

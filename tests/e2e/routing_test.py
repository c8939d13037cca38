"""Requests that a neighbour or the large model answers: what is sent, what comes back, and what a dead node costs."""
import concurrent.futures
import http.client
import json
import os
import signal
import urllib.parse

import pytest

from bench.lab import api, models
from bench.lab.programs import wait_until
from tests.e2e import support

LONG = {"grammar": "root ::= [a-z]{1200}", "max_tokens": 1500}  # keeps an edge busy for seconds


@pytest.fixture
def pair(cloud, start_edge, share):
    """Starts a neighbour, and an edge that knows it and has the options given."""

    def pair(*options, url=None):
        neighbour = start_edge(cloud, name="neighbour")
        edge = start_edge(cloud, "--neighbor", url or neighbour.url, *options, name="edge")
        share(cloud, neighbour, edge)
        return neighbour, edge
    return pair


def candidates(edge, **fields):
    extension = support.chat(edge, [{"role": "user", "content": "Hello"}], max_tokens=1,
                             x_celslm={"policy": "fleet"}, **fields).extension
    return [candidate["node"] for candidate in extension["routing"]["candidates"]]


def wait_for_node(edge, node):
    wait_until(lambda: node.url in candidates(edge), f"{edge.name} to hear of {node.name}", support.PATIENCE_S)


class Busy:
    """A stream that takes an edge's only place."""

    def __init__(self, edge):
        parts = urllib.parse.urlsplit(edge.url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=support.PATIENCE_S)
        body = {"messages": [{"role": "user", "content": "Go on."}], "stream": True, **LONG}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        while b'"content":"' not in self.answer.readline().replace(b'"content":""', b""):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def test_a_full_edge_has_its_neighbour_answer_complete_and_streamed(pair, question, world):
    neighbour, edge = pair("--max-users", 1, "--max-queue", 0, "--policy", "fleet")
    expected = support.ask(neighbour, world["context"], question["question"])
    wait_for_node(edge, neighbour)
    messages = [{"role": "system", "content": world["context"]}, {"role": "user", "content": question["question"]}]
    with Busy(edge):
        answer = support.ask(edge, world["context"], question["question"])
        streamed = api.stream_chat(edge.url, messages, temperature=0, max_tokens=16)
        with pytest.raises(api.ApiError) as refused:
            support.ask(edge, world["context"], question["question"], x_celslm={"policy": "edge-only"})
    assert refused.value.status == 429
    assert answer.text == streamed.text == expected.text
    for extension in (answer.extension, streamed.x_celslm):
        assert extension["routing"]["answered_by"] == "neighbour", extension["routing"]
        assert extension["routing"]["reason"] == "overloaded"
        assert {layer["source"] for layer in extension["layers"]} == {"memory"}


def test_a_neighbour_that_dies_costs_nothing(pair, question, world):
    neighbour, edge = pair("--policy", "fleet")
    wait_for_node(edge, neighbour)
    neighbour.kill()
    answer = support.ask(edge, world["context"], question["question"])
    assert question["answer"] in answer.text
    assert answer.extension["routing"]["answered_by"] == "self"
    wait_until(lambda: neighbour.url not in candidates(edge), "the edge to notice", support.PATIENCE_S)


def test_under_edge_only_a_neighbour_and_the_large_model_get_nothing_of_a_prompt(cloud, start_edge, share, link, folder,
                                                                                world, question):
    neighbour = start_edge(cloud, name="neighbour")
    links = {name: link(neighbour, "--record", folder / name, name=name) for name in ("to-neighbour", "to-large")}
    rule = folder / "rule.json"
    rule.write_text('{"measure": "least_probability", "threshold": 2}', encoding="utf-8")  # hands over everything
    edge = start_edge(cloud, "--neighbor", links["to-neighbour"].url, "--large", links["to-large"].url, "--cascade", rule)
    share(cloud, neighbour, edge)
    for relay in links.values():
        wait_for_node(edge, relay)
    secret = "My secret is XQZJV-90210. " + question["question"]
    for extension in ({}, {"policy": "edge-only"}):
        support.ask(edge, world["context"], secret, x_celslm=extension)
    open_answer = support.ask(edge, world["context"], "Openly: " + question["question"], x_celslm={"policy": "cloud"})
    assert open_answer.extension["cascade"]["answered_by"] == "large"
    for relay in links.values():
        relay.stop()
    sent = {name: (folder / name).read_bytes() for name in links}
    assert b"Openly" in sent["to-large"]  # what is recorded is what is sent
    for name, data in sent.items():
        assert b"/v1/node" in data
        assert b"XQZJV" not in data and b"90210" not in data, name


def test_the_large_model_answers_what_the_small_one_is_uncertain_of(cloud, start, start_edge, share, folder, world):
    two_steps = next(q for q in world["questions"] if q["steps"] == 2)
    # The large model's packs come from a cloud of its own that knows the same text.
    large_cloud = start("cloud", name="large-cloud", model=models.demo_model("large"))
    large = start("edge", "--cloud", large_cloud.url, *support.FETCH_FIRST, name="large", model=models.demo_model("large"))
    share(large_cloud, large)
    rules = {}
    for name, threshold in (("never", 0), ("always", 2)):
        rules[name] = folder / f"{name}.json"
        rules[name].write_text(json.dumps({"measure": "mean_margin", "threshold": threshold}), encoding="utf-8")
    edges = {name: start_edge(cloud, "--large", large.url, "--policy", "cloud", "--cascade", rule, name=f"edge-{name}")
             for name, rule in rules.items()}
    share(cloud, *edges.values())
    expected = support.ask(large, world["context"], two_steps["question"])
    for edge in edges.values():
        wait_for_node(edge, large)
    kept = support.ask(edges["never"], world["context"], two_steps["question"])
    handed_over = support.ask(edges["always"], world["context"], two_steps["question"])
    assert kept.extension["cascade"]["answered_by"] == "small"
    assert kept.extension["cascade"]["value"] == pytest.approx(kept.extension["cascade"]["confidence"]["mean_margin"])
    assert handed_over.extension["cascade"]["answered_by"] == "large"
    assert handed_over.choices == expected.choices
    large.kill()
    alone = support.ask(edges["always"], world["context"], two_steps["question"])
    assert alone.text == kept.text


def test_a_node_that_hangs_is_given_up_when_it_is_not_heard_of(cloud, start_edge, folder):
    rule = folder / "rule.json"
    rule.write_text('{"measure": "least_probability", "threshold": 2}', encoding="utf-8")  # hands over everything
    large = start_edge(cloud, name="large")
    edge = start_edge(cloud, "--large", large.url, "--policy", "cloud", "--cascade", rule)
    wait_for_node(edge, large)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(support.chat, edge, [{"role": "user", "content": "Go on."}], **LONG)
        wait_until(lambda: support.metric(large, "celslm_edge_running_requests") == 1, "the large model to be asked",
                   support.PATIENCE_S)
        os.killpg(large.process.pid, signal.SIGSTOP)
        try:
            answer = asked.result()
        finally:
            os.killpg(large.process.pid, signal.SIGCONT)
    assert len(answer.text) == 1200
    assert answer.extension["cascade"]["answered_by"] == "small"
    assert "is not heard of any more" in answer.extension["cascade"]["forwarding_failed"]


@pytest.mark.parametrize("options, words", [
    (("--policy", "anywhere"), ["--policy", "edge-only"]),
    (("--cascade", "rule.json"), ["--cascade needs --large"]),
])
def test_wrong_options_are_refused(celslm, model, options, words):
    result = celslm("edge", "--model", model, "--port", 0, *options)
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr

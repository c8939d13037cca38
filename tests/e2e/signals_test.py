"""How the programs end when they are told to."""
import contextlib
import http.client
import json
import signal
import urllib.parse

import pytest

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e.support import PATIENCE_S, metric

LONG = 1000  # tokens of an answer that takes about a second, well within the ten that an edge gives its requests
ENDLESS = "root ::= [a-z] root"


class Stream:
    """A streamed chat that is read when the test says so."""

    def __init__(self, url, **fields):
        parts = urllib.parse.urlsplit(url)
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "stream": True,
                "stream_options": {"include_usage": True}}
        self.http.request("POST", "/v1/chat/completions", json.dumps({**body, **fields}))
        answer = self.http.getresponse()
        assert answer.status == 200
        self.events = (line[len(b"data: "):].strip() for line in answer if line.startswith(b"data: "))

    def read_first_token(self):
        for event in self.events:
            if json.loads(event)["choices"][0]["delta"].get("content"):
                return
        raise AssertionError("the stream ended without a token")

    def read_rest(self):
        """Its finish reasons and its number of tokens; fails unless it ends as a stream should."""
        chunks = []
        for event in self.events:
            if event == b"[DONE]":
                reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]
                           if choice["finish_reason"]]
                return reasons, chunks[-1]["usage"]["completion_tokens"]
            chunks.append(json.loads(event))
            assert "error" not in chunks[-1], chunks[-1]
        raise AssertionError("the stream broke off before [DONE]")


@pytest.fixture
def open_stream():
    with contextlib.ExitStack() as streams:
        def open_stream(edge, **fields):
            stream = Stream(edge.url, **fields)
            streams.callback(stream.http.close)
            return stream
        yield open_stream


def refuses_requests(edge):
    """Whether it is shutting down."""
    try:
        api.chat(edge.url, [{"role": "user", "content": "Hello"}], max_tokens=1)
    except api.ApiError as error:
        return error.status == 503
    except OSError as error:
        raise AssertionError("the edge has ended before it refused a request") from error
    return False


def test_sigterm_lets_a_stream_end_and_refuses_new_requests_meanwhile(start, open_stream):
    edge = start("edge")
    stream = open_stream(edge, grammar=ENDLESS, max_tokens=LONG)
    stream.read_first_token()
    edge.process.send_signal(signal.SIGTERM)
    wait_until(lambda: refuses_requests(edge), "the edge to refuse requests")
    # Otherwise nothing was under way any more when the signal came, and the rest would show nothing.
    assert metric(edge, "celslm_edge_running_requests") == 1
    assert stream.read_rest() == (["length"], LONG)
    assert edge.process.wait(PATIENCE_S) == 0


def test_an_idle_edge_and_cloud_stop_at_once(start, cloud):
    edge = start("edge", "--cloud", cloud.url)
    assert edge.stop(grace_s=8) == 0
    assert cloud.stop(grace_s=8) == 0


def test_sigint_ends_a_program_too(start):
    edge = start("edge")
    edge.process.send_signal(signal.SIGINT)
    assert edge.process.wait(10) == 0

"""Grammars and schemas that clients send: kept to, and harmless whatever they are."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import time
import urllib.parse

import pytest

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e.support import PATIENCE_S

QUESTION = [{"role": "user", "content": "Tell me something."}]
ENDLESS = "root ::= [a-z] root"


def nested(levels):
    part = "[a-c]"
    for _ in range(levels):
        part = "(" + " ".join([part + "?"] * 8) + ")"
    return f"root ::= {part}*"


BAD = {
    "a literal before a negated token rule": 'root ::= "a" !<[65]>',
    "reversed bounds": 'root ::= "a"{2,1}',
    "doubling of nothing": "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(24)) + 'r24 ::= ""',
    "500 optional parts": "root ::= " + '"a"? ' * 500,
    "four nested levels": nested(4),
    "six nested levels": nested(6),
    "a huge count": 'root ::= "a"{1000000000}',
    "100,000 brackets": "root ::= " + "(" * 30_000,
    "left recursion": 'root ::= root "a"',
    "no grammar": "hello",
}


def chat(edge, **fields):
    body = {"messages": QUESTION, "max_tokens": 24, **fields}
    return api.request("POST", f"{edge.url}/v1/chat/completions", body, PATIENCE_S)


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def processes_below(pid):
    """Of a program: the host of its grammars, and the host's children."""
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    hosts = [child for child, parent in parents.items() if parent == pid]
    return hosts, [child for child, parent in parents.items() if parent in hosts]


def children_of(edge):
    return processes_below(edge.process.pid)[1]


class OpenStream:
    """A streamed request whose connection the test holds."""

    def __init__(self, edge, **fields):
        parts = urllib.parse.urlsplit(edge.url)
        body = json.dumps({"messages": QUESTION, "stream": True, **fields}).encode()
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
        self.socket.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
                            b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.read = b""

    def read_until(self, words):
        while words not in self.read:
            more = self.socket.recv(65536)
            assert more, self.read
            self.read += more

    def read_rest(self):
        while more := self.socket.recv(65536):
            self.read += more
        return self.read


@pytest.fixture
def edge(start):
    return start("edge")


def test_bad_grammars_end_their_own_requests_and_nobody_elses(edge):
    with concurrent.futures.ThreadPoolExecutor(len(BAD)) as pool:
        asked = {name: pool.submit(chat, edge, grammar=grammar) for name, grammar in BAD.items()}
        while not all(answer.done() for answer in asked.values()):
            assert text_of(chat(edge, max_tokens=4)) is not None
            assert text_of(chat(edge, grammar='root ::= "yes"')) == "yes"
    for name, answer in asked.items():
        if answer.exception() is not None:  # some have answers
            assert isinstance(answer.exception(), api.ApiError) and answer.exception().status == 400, name
            assert "grammar" in str(answer.exception()), name
    for name in ("reversed bounds", "doubling of nothing", "left recursion", "no grammar", "a huge count"):
        assert asked[name].exception() is not None, name
    assert edge.memory_mb("VmHWM") < 1024
    assert edge.process.poll() is None
    wait_until(lambda: not children_of(edge), "the grammars' processes to end", PATIENCE_S)


def test_a_grammar_and_a_schema_are_kept_to(edge):
    assert text_of(chat(edge, grammar='root ::= ("yes" | "no") "!"')) in ("yes!", "no!")
    schema = {"type": "object", "additionalProperties": False, "required": ["reason", "answer", "score"],
              "properties": {"reason": {"type": "string", "maxLength": 12}, "answer": {"enum": ["yes", "no"]},
                             "score": {"type": "integer", "minimum": 1, "maximum": 5}}}
    answer = json.loads(text_of(chat(edge, max_tokens=200, response_format={
        "type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": schema}})))
    assert list(answer) == ["reason", "answer", "score"]
    assert answer["answer"] in ("yes", "no") and 1 <= answer["score"] <= 5 and len(answer["reason"]) <= 12
    with pytest.raises(api.ApiError, match="'not': this keyword is not supported"):
        chat(edge, response_format={"type": "json_object", "schema": {"not": {}}})


def test_a_grammars_process_that_is_killed_costs_its_own_answer(edge):
    stream = OpenStream(edge, grammar=ENDLESS, max_tokens=100_000)
    other = OpenStream(edge, max_tokens=200)
    stream.read_until(b"content")
    [child] = children_of(edge)
    os.kill(child, signal.SIGKILL)
    rest = stream.read_rest()
    assert b'"error"' in rest and b"has ended" in rest and b"[DONE]" in rest
    assert b"[DONE]" in other.read_rest() and b'"error"' not in other.read
    hosts, _ = processes_below(edge.process.pid)
    os.kill(hosts[0], signal.SIGKILL)
    assert text_of(chat(edge, grammar='root ::= "yes"')) == "yes"


def test_a_client_that_leaves_ends_its_grammars_process(edge):
    stream = OpenStream(edge, grammar=ENDLESS, max_tokens=100_000)
    stream.read_until(b"content")
    assert len(children_of(edge)) == 1
    stream.socket.close()
    wait_until(lambda: not children_of(edge), "the grammar's process to end", PATIENCE_S)
    assert text_of(chat(edge, max_tokens=4)) is not None


def test_sigterm_during_bad_grammars_ends_the_edge_promptly(edge):
    chat(edge, grammar='root ::= "yes"')  # the host runs
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(chat, edge, grammar=BAD[name]) for name in ("500 optional parts", "six nested levels")]
        wait_until(lambda: children_of(edge), "a grammar to be compiled", PATIENCE_S)
        began = time.monotonic()
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 30  # ten seconds are for answers under way
        for answer in asked:
            assert answer.exception() is not None or answer.result()


def test_nothing_is_left_when_an_edge_is_killed(edge):
    stream = OpenStream(edge, grammar=ENDLESS, max_tokens=100_000)
    stream.read_until(b"content")
    hosts, children = processes_below(edge.process.pid)
    edge.process.kill()
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}/fd").exists() and list_of_open(pid) for pid in hosts + children),
               "the grammars' processes to end", PATIENCE_S)


def list_of_open(pid):
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/fd")
    return []


def test_a_model_by_its_name_runs_grammars_too(binary, programs, folder, model):
    models = folder / "models"
    models.mkdir()
    (models / "small-one.gguf").symlink_to(model)
    edge = programs.start([binary, "edge", "--model", "small-one", "--port", 0, "--data", folder / "data"], "named",
                          env={"CELSLM_CACHE": str(folder)})
    edge.wait_listening()
    assert text_of(chat(edge, grammar='root ::= "yes"')) == "yes"

"""What a cloud or a neighbour writes is data: it steers no terminal, forges no line of a log, and fills no answer."""
import http.server
import json
import re
import threading

import pytest

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e import support

FORGED = "2026-01-01 00:00:00.000 edge info all is well"
EVIL = f"\x1b[2J\x1b]0;owned\x07\r\n{FORGED}\n\u202e\u2028\x9b31m" + "A" * 900_000
HANDLE_PATTERN = re.compile("[0-9a-f]{64}")


class EvilCloud:
    """Lists one context, under an evil name, and refuses everything else with an evil message."""

    def __init__(self):
        self.listed = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path.startswith("/v1/contexts") and not HANDLE_PATTERN.search(self.path):
                    self.answer(200, {"contexts": outer.listed})
                elif self.path == "/v1/key":
                    self.answer(200, {"public_key": "11" * 32})
                else:
                    self.answer(500, {"error": {"code": "internal", "message": EVIL}})

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(400, {"error": {"code": "invalid_context", "message": EVIL}})

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def evil():
    cloud = EvilCloud()
    yield cloud
    cloud.stop()


def assert_harmless(text, lines=True):
    for bad in ("\x1b", "\x07", "\x9b", "\u202e", "\u2028", "A" * 300):
        assert bad not in text
    if lines:
        assert FORGED not in text.splitlines()
    assert "\\x1b[2J" in text


def test_a_command_shows_a_clouds_message_harmlessly(celslm, evil, context_file):
    put = celslm("context", "put", context_file, "--cloud", evil.url)
    assert put.returncode != 0
    assert_harmless(put.stderr)


def test_a_command_shows_a_contexts_name_harmlessly(celslm, evil):
    evil.listed = [{"id": "ab" * 32, "name": EVIL[:1000], "bytes": 10}]
    listed = celslm("context", "list", "--cloud", evil.url)
    assert listed.returncode == 0, listed.stderr
    assert_harmless(listed.stdout)


def test_an_edge_repeats_a_clouds_message_harmlessly(celslm, start, start_edge, evil, world, context_file, ask):
    stranger = start("cloud", name="stranger")
    handle = celslm("context", "put", context_file, "--cloud", stranger.url).stdout.split()[0]
    evil.listed = [{"id": handle, "name": EVIL[:1000], "bytes": len(world["context"].encode())}]
    edge = start_edge(evil, "--log-level", "debug")
    support.wait_for_context(edge, handle)
    answer = ask(edge)
    assert answer.suppliers == {"compute"}
    assert_harmless(answer.note)
    status = api.request("GET", f"{edge.url}/v1/status")
    assert_harmless(json.dumps(status, ensure_ascii=False), lines=False)
    with pytest.raises(api.ApiError) as refused:
        api.request("POST", f"{edge.url}/v1/contexts", {"text": "a text"})
    assert_harmless(json.loads(refused.value.body)["error"]["message"])
    edge.stop()
    log = edge.log_path.read_text(encoding="utf-8")
    for bad in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "A" * 300):
        assert bad not in log
    assert FORGED not in log.splitlines()


def test_a_list_that_cannot_be_read_is_reported_once_and_harmlessly(start_edge, evil):
    evil.listed = [{"id": "no handle", "name": EVIL[:1000], "bytes": 1}]
    edge = start_edge(evil)
    wait_until(lambda: "list of contexts" in edge.log_path.read_text(encoding="utf-8"), "the log to report it")
    trouble = api.request("GET", f"{edge.url}/v1/status")["cloud_trouble"]
    assert "id" in trouble and "\x1b" not in trouble
    assert edge.log_path.read_text(encoding="utf-8").count("list of contexts cannot be read") == 1

"""Wrong models, options, folders and requests: each is refused with words that name it."""
import http.client
import json
import socket

import pytest

from bench.lab import api
from tests.e2e.support import refused


def test_a_model_that_is_not_a_gguf(celslm, folder):
    path = folder / "notes.gguf"
    path.write_text("these are notes")
    refused(celslm("edge", "--model", path, "--data", folder), str(path), "GGUF")


def test_a_truncated_gguf(celslm, folder, model):
    path = folder / "cut.gguf"
    path.write_bytes(model.read_bytes()[:200_000])
    refused(celslm("edge", "--model", path, "--data", folder), str(path))


def test_a_missing_model(celslm, folder):
    refused(celslm("edge", "--model", "/nowhere.gguf", "--data", folder), "/nowhere.gguf")


def test_codec_measurements_of_another_model(celslm, folder, model):
    path = folder / "quality.json"
    path.write_text(json.dumps({"version": 2, "codecs": [{"name": "t4", "model_id": "0" * 64}]}), encoding="utf-8")
    refused(celslm("edge", "--model", model, "--port", 0, "--data", folder, "--codec-quality", path),
            "quality.json", "no codec on this model")


def test_codec_measurements_of_an_earlier_version(celslm, folder, model):
    path = folder / "quality.json"
    path.write_text(json.dumps({"codecs": [{"name": "t4", "greedy64": 0.995}]}), encoding="utf-8")
    refused(celslm("edge", "--model", model, "--port", 0, "--data", folder, "--codec-quality", path),
            "quality.json", "'version' 2", "./dev bench codec --model GGUF --json FILE")


def test_an_option_that_is_gone_names_the_new_one(celslm, model):
    refused(celslm("edge", "--model", model, "--least-agreement", "0.99"), "--least-agreement", "--max-codec-loss", code=2)


def test_a_port_in_use(celslm, folder, model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(celslm("edge", "--model", model, "--data", folder, "--port", port), str(port), "in use")


def test_a_data_folder_that_holds_something_else(celslm, folder, model):
    packs = folder / "edge" / "packs"
    packs.mkdir(parents=True)
    (packs / "thesis.doc").write_text("years of work")
    refused(celslm("edge", "--model", model, "--data", folder), str(packs))
    assert (packs / "thesis.doc").read_text() == "years of work"


def test_unknown_options_are_usage_errors(celslm):
    refused(celslm("edge", "--modle", "x"), "--help", code=2)
    refused(celslm(), "--help", code=2)


def test_listening_for_other_machines_needs_tls_or_insecure(celslm, folder, model):
    refused(celslm("edge", "--model", model, "--data", folder, "--host", "0.0.0.0"), "--insecure", code=2)


@pytest.mark.parametrize("command", ["cloud", "edge", "context", "pack"])
def test_help_shows_examples(celslm, command):
    shown = celslm(command, "--help")
    assert shown.returncode == 0
    assert f"celslm {command}" in shown.stdout


@pytest.fixture
def plain_edge(start):
    return start("edge")


@pytest.mark.parametrize(("body", "status"), [
    pytest.param('{"messages"', 400, id="malformed"),
    pytest.param('{"messages": 5}', 400, id="wrong_type"),
    pytest.param('{"model": "other", "messages": [{"role": "user", "content": "x"}]}', 404, id="unknown_model"),
    pytest.param('{"messages": [{"role": "user", "content": "' + "x" * (9 << 20) + '"}]}', 413, id="too_large"),
])
def test_a_bad_request_is_refused_and_the_edge_lives_on(plain_edge, body, status):
    connection = http.client.HTTPConnection(plain_edge.url.split("//")[1], timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", body)
        answer = connection.getresponse()
        assert answer.status == status
        assert "message" in json.loads(answer.read())["error"]
    except BrokenPipeError:
        assert status == 413  # refused before all of it was sent
    finally:
        connection.close()
    assert api.request("GET", f"{plain_edge.url}/health") == {"status": "ok"}

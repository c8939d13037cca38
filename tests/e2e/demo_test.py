"""./dev demo, on models as small as there are: does it run, fit its width, hold what its help promises, and end cleanly?"""
import json
import os
import signal
import subprocess
import sys

import pytest

from bench.demo import cli
from bench.lab import models
from bench.lab.programs import ROOT, wait_until
from tests.e2e.support import PATIENCE_S

SCRIPT = [sys.executable, ROOT / "scripts" / "demo"]
REAL = ["--edge", models.demo_model("small"), "--cloud", models.demo_model("large"), "--map", models.demo_map()]
TRAINED = ["--family", "trained", "--shape", "tiny", "--tokens", "64"]


@pytest.fixture
def document(folder, world):
    path = folder / "bulletin.txt"
    path.write_text(world["context"], encoding="utf-8")
    questions = [{"q": question["question"], "answers": [question["answer"]]} for question in world["questions"][:2]]
    path.with_suffix(".json").write_text(json.dumps(questions), encoding="utf-8")
    return path


@pytest.fixture
def demo(folder):
    """Runs it to its end: what it printed, and its JSON."""

    def demo(*arguments):
        out = folder / "demo.json"
        done = subprocess.run([*SCRIPT, "--json", out, *arguments], env={**os.environ, "OMP_WAIT_POLICY": "passive"},
                              capture_output=True, text=True, timeout=PATIENCE_S * 3, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads(out.read_text(encoding="utf-8"))
    return demo


def assert_fits(text):
    assert [line for line in text.splitlines() if len(line) > 100] == []


def test_a_pair_of_models_and_a_document(demo, document):
    text, result = demo(*REAL, "--document", document)
    assert result["family"] == "real" and result["ok"] and result["exact"]
    assert list(result["loads"]) == ["alone", "computing", "ready", "t4", "again"]
    assert result["loads"]["alone"]["sources"] == "compute x2"
    assert result["loads"]["again"]["sources"] == "memory x2"
    assert list(result["right"]) == ["alone", "document", "guided", "large"]
    assert [list(question["replies"]) for question in result["questions"]] == [list(result["right"])] * 2
    assert "no guidance" not in text
    assert_fits(text)


def test_a_pair_without_a_map_has_no_guidance_and_says_so(demo, document):
    text, result = demo(*REAL[:-2], "--document", document)
    assert "guided" not in result["right"]
    assert "There is no guidance for this pair yet" in " ".join(text.split())


def test_the_trained_family(demo):
    text, result = demo(*TRAINED)
    assert result["family"] == "trained" and result["ok"] and result["exact"]
    assert set(result["speed"]) == {"context_tokens", "link_mbit", "bytes", "q8_bytes", "same_tokens", "local_ms",
                                    "cloud_ms", "cloud_cold_ms", "q8_ms"}
    assert_fits(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_that_it_started(number, folder):
    process = subprocess.Popen([*SCRIPT, *TRAINED], env={**os.environ, "TMPDIR": str(folder)}, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for line in process.stderr:
        if "starting one cloud" in line:
            break
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 128 + number
    process.stderr.close()
    assert list(folder.glob("celslm-*")) == []
    wait_until(lambda: not any(str(folder) in line for line in command_lines()), "its programs to be gone")


def command_lines():
    return subprocess.run(["ps", "-e", "-ww", "-o", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


class TestChoice:
    """Which family it runs on, where the help leaves it open."""

    @pytest.fixture
    def choose(self, monkeypatch):
        def choose(*arguments, absent=(cli.CLOUD,), on_terminal=False, answer="", fetched=True):
            monkeypatch.setattr("builtins.input", lambda _: answer)
            monkeypatch.setattr(cli, "fetch", lambda _: fetched)
            return cli.choose_family(cli.parse_arguments(arguments), absent, on_terminal)
        return choose

    def test_real_where_the_models_are_here(self, choose):
        assert choose(absent=()) == "real"

    def test_trained_without_a_terminal_and_says_why(self, choose, capsys):
        assert choose() == "trained"
        assert f"Not here: {cli.CLOUD}" in capsys.readouterr().out

    def test_asks_on_a_terminal_and_names_size_and_licence(self, choose, capsys):
        assert choose(on_terminal=True) == "real"
        assert "1,117 MB, licence Apache-2.0" in capsys.readouterr().out
        assert choose(on_terminal=True, answer="n") == "trained"

    def test_trained_where_they_cannot_be_fetched(self, choose):
        assert choose(on_terminal=True, fetched=False) == "trained"

    def test_as_the_option_says(self, choose):
        assert choose("--family", "trained", absent=()) == "trained"
        assert choose("--family", "real") == "real"
        with pytest.raises(SystemExit, match="cannot be fetched"):
            choose("--family", "real", fetched=False)

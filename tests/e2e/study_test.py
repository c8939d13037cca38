"""celslm study, as a person runs it: questions of a model's own, and its distributions on given answers."""
import json
import math
import os
import signal
import subprocess

import pytest

from bench import questions
from bench.lab import api, models
from bench.lab.programs import wait_until
from tests.e2e.conftest import QUIET_THREADS
from tests.e2e.support import PATIENCE_S

TEXT = """The lighthouse of Skarvoy was built in 1874 by the engineer Ingrid Halvorsen. It stands on a rock of granite and is
31 metres high. Until 1958 its lamp burned paraffin; since then it has been electric. The last keeper, Olaf Brenne, left the
island in 1986. Today a small museum in the boathouse shows the old lens, which weighs 420 kilograms. In summer the ferry
Terna brings visitors from Kvitsund twice a day; the crossing takes 35 minutes. The museum's director is Marit Solheim.
"""
SLOW_S = 10 * PATIENCE_S  # a pretrained model on a busy machine


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def study(celslm, *arguments):
    return celslm("study", *arguments, "--threads", 1, timeout_s=SLOW_S)


def given_questions(world):
    """A bulletin as a file of questions."""
    asked = [{"q": q["question"], "answers": [q["reply"]]} for q in world["questions"][:3]]
    return json.dumps({"id": "bulletin", "metric": "squad_em_f1", "context": world["context"], "questions": asked}) + "\n"


def test_given_questions_are_annotated_with_the_models_distributions(celslm, tmp_path, world):
    given, out = tmp_path / "given.jsonl", tmp_path / "out.jsonl"
    given.write_text(given_questions(world), encoding="utf-8")
    done = study(celslm, "--model", models.demo_model("large"), "--questions", given, "--out", out)
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(out)
    assert line["questions"][0]["q"] == world["questions"][0]["question"]
    for question in line["questions"]:
        teacher = question["teacher"]
        assert len(teacher["tokens"]) == len(teacher["top"]) > 3
        for top in teacher["top"]:
            assert len(top) == 32
            assert math.isclose(sum(math.exp(p) for _, p in top), 1.0, abs_tol=0.2)
            assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)
    before = out.read_bytes()
    again = study(celslm, "--model", models.demo_model("large"), "--questions", given, "--out", out)
    assert again.returncode == 0 and out.read_bytes() == before, "what is done is not done again"
    other = study(celslm, "--model", models.demo_model("small"), "--questions", given, "--out", out)
    assert other.returncode == 1 and "made with model" in other.stderr and out.read_bytes() == before


def test_a_model_that_cannot_write_questions_ends_without_any(celslm, tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "out.jsonl"
    text.write_text(TEXT, encoding="utf-8")
    done = study(celslm, "--model", models.demo_model("large"), "--text", text, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "0 questions kept" in done.stderr
    assert not out.exists()


def test_the_large_demo_model_asks_as_its_users_do(celslm, tmp_path, world):
    text, out = tmp_path / "worlds.json", tmp_path / "out.jsonl"
    text.write_text(json.dumps({"worlds": [world]}), encoding="utf-8")
    done = study(celslm, "--model", models.demo_model("large"), "--contexts-of", text, "--ask-by", "user-turn",
                 "--questions-per-context", 5, "--budget", 20000, "--out", out)
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(out)
    (context,) = questions.read(out)
    assert context.system == world["context"]
    assert 1 <= len(context.questions) <= 5
    assert [q.prompt for q in context.questions] == [q["q"] for q in line["questions"]]
    for question in line["questions"]:
        name = question["q"].removesuffix("?").split()[-1]
        assert name in world["context"] and name in question["answers"][0]


@pytest.mark.parametrize(("arguments", "expected"), [
    ((), "--text or --contexts-of"),
    (("--text", "nothing.txt"), "nothing.txt"),
    (("--questions", "broken.jsonl"), "broken.jsonl:2"),
    (("--text", "text.txt", "--questions", "broken.jsonl"), "broken.jsonl:2"),
])
def test_wrong_input_is_refused_by_name(celslm, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text(
        '{"id": "a", "metric": "squad_em_f1", "context": "x", "questions": []}\n{"context": 7}\n', encoding="utf-8")
    done = study(celslm, "--model", models.demo_model("small"), *arguments, "--out", "out.jsonl")
    assert done.returncode == 1
    assert expected in done.stderr


def test_a_cloud_studies_registered_contexts_and_drops_the_study_with_the_context(start, world):
    arguments = ("--study-budget", 4000, "--study-by", "user-turn")
    cloud = start("cloud", *arguments, model=models.demo_model("large"))
    registered = api.request("POST", f"{cloud.url}/v1/contexts", {"text": world["context"], "name": "bulletin"})
    url = f"{cloud.url}/v1/contexts/{registered['id']}"
    wait_until(lambda: api.request("GET", url)["self_study"]["state"] == "finished", "the study", SLOW_S)
    line = api.request("GET", f"{url}/study")
    assert line["system"] == world["context"] and line["plain"] and line["questions"]
    assert line["study"]["tokens"] <= 4000
    cloud.stop()
    again = start("cloud", *arguments, name="cloud", model=models.demo_model("large"))
    url = f"{again.url}/v1/contexts/{registered['id']}"
    assert api.request("GET", url)["self_study"]["questions"] == len(line["questions"])
    api.request("DELETE", url)
    with pytest.raises(api.ApiError) as refused:
        api.request("GET", f"{url}/study")
    assert refused.value.status == 404


def test_a_pretrained_model_studies_a_text_and_continues_after_ctrl_c(celslm, binary, pretrained, tmp_path):
    text, out, stopped = tmp_path / "text.txt", tmp_path / "out.jsonl", tmp_path / "stopped.jsonl"
    text.write_text(TEXT, encoding="utf-8")
    command = ("--model", pretrained("qwen2.5-coder-0.5b"), "--text", text, "--budget", 4000,
               "--questions-per-context", 4)
    done = study(celslm, *command, "--out", out)
    assert done.returncode == 0, done.stderr
    (line,) = lines_of(out)
    (context,) = questions.read(out)
    assert context.system == f"{questions.SYSTEM}\n\n{TEXT}"
    assert 1 <= len(line["questions"]) <= 4
    assert line["study"]["finished"] and line["study"]["tokens"] <= 4000
    assert all(len(question["teacher"]["tokens"]) >= 2 for question in line["questions"])

    states = tmp_path / "stopped.jsonl.partial"
    process = subprocess.Popen([binary, "study", *map(str, command), "--threads", "1", "--out", stopped],
                               env={**os.environ, **QUIET_THREADS}, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(states.glob("*.jsonl")), "the study's state", SLOW_S)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SLOW_S)
    assert process.returncode == 1 and "the same command continues" in err
    again = study(celslm, *command, "--out", stopped)
    assert again.returncode == 0, again.stderr
    assert stopped.read_bytes() == out.read_bytes()
    assert not states.exists()

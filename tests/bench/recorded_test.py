"""Observations that outlive an interrupted run."""
import json

import pytest

from bench.recorded import OfAnotherRun, Recorded

RUN = {"model": "abc", "seed": 1}


def opened(path, run=RUN):
    return Recorded(path, run, by=("set", "id"))


def test_what_was_added_is_there_for_the_next_run(tmp_path):
    path = tmp_path / "seen.jsonl"
    with opened(path) as recorded:
        recorded.add({"set": "a", "id": "1", "reply": "\u00fc"})
    with opened(path) as recorded:
        assert recorded.has("a", "1") and not recorded.has("a", "2")
        assert recorded.get("a", "1")["reply"] == "\u00fc"
        recorded.add({"set": "a", "id": "2"})
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    path = tmp_path / "seen.jsonl"
    with opened(path) as recorded:
        recorded.add({"set": "a", "id": "1"})
    with open(path, "a", encoding="utf-8") as file:
        file.write("{\"set\": \"a\", \"id\": \"2\", \"rep")
    with opened(path) as recorded:
        assert recorded.has("a", "1") and not recorded.has("a", "2")
        recorded.add({"set": "a", "id": "2"})
    assert [json.loads(line).get("id") for line in path.read_text(encoding="utf-8").splitlines()] == [None, "1", "2"]


def test_a_first_line_that_was_cut_off_begins_the_file_again(tmp_path):
    path = tmp_path / "seen.jsonl"
    path.write_text("{\"run\": {\"mod", encoding="utf-8")
    with opened(path) as recorded:
        recorded.add({"set": "a", "id": "1"})
    with opened(path) as recorded:
        assert recorded.has("a", "1")


def test_observations_of_another_run_are_refused_with_what_differs(tmp_path):
    path = tmp_path / "seen.jsonl"
    opened(path).__exit__()
    with pytest.raises(OfAnotherRun, match=r"another run: model \(abc there, xyz now\); name another file"):
        opened(path, {**RUN, "model": "xyz"})
    with pytest.raises(OfAnotherRun, match=r"limit \(None there, 3 now\)"):
        opened(path, {**RUN, "limit": 3})


def test_a_file_of_something_else_is_refused_and_not_changed(tmp_path):
    for text in ("{\"rows\": []}\n", "hello\n", "[1]\n"):
        path = tmp_path / "other.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(OfAnotherRun, match="does not hold observations"):
            opened(path)
        assert path.read_text(encoding="utf-8") == text


def test_nothing_is_kept_without_a_file():
    with opened(None) as recorded:
        recorded.add({"set": "a", "id": "1"})
        assert recorded.has("a", "1")

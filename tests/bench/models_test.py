"""How benchmarks name models."""
import argparse
import pathlib

import pytest

from bench.lab import models


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert models.gguf("./model.gguf") == pathlib.Path("model.gguf")


def test_a_path_that_leads_nowhere_is_refused_with_all_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match=f"no file {tmp_path}/some/model.gguf"):
        models.gguf("some/model.gguf")


def test_a_name_that_is_known_is_its_file(monkeypatch):
    monkeypatch.setattr(models, "pretrained", lambda name: pathlib.Path("/cache") / name)
    assert models.gguf("smollm2-135m") == pathlib.Path("/cache/smollm2-135m")


def test_a_model_that_was_not_fetched_is_refused_with_the_command_that_does(monkeypatch):
    monkeypatch.setattr(models, "pretrained", lambda _: None)
    with pytest.raises(argparse.ArgumentTypeError, match="'./dev models smollm2-135m' fetches it"):
        models.gguf("smollm2-135m")

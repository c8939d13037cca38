import pathlib
import types

import pytest

from bench.benchmarks import agreement
from bench.lab.programs import ProgramFailed

OPTIONS = types.SimpleNamespace(text=pathlib.Path("text.txt"), chunks=2, threads=1)


def printing(monkeypatch, *outputs):
    outputs = iter(outputs)
    monkeypatch.setattr(agreement, "output_of", lambda *_, **__: next(outputs))


def test_a_peer_whose_last_lines_are_lost_is_run_again(monkeypatch):
    printing(monkeypatch, "0.20 seconds per pass - ETA ", "[1]21.9,[2]22.4,\nFinal estimate: PPL = 22.4321 +/- 1.2\n")
    assert agreement.peer_perplexity("model.gguf", OPTIONS) == 22.4321


def test_a_peer_that_never_says_it_is_an_error(monkeypatch):
    printing(monkeypatch, *["nothing"] * agreement.PEER_TRIES)
    with pytest.raises(ProgramFailed, match="no 'Final estimate"):
        agreement.peer_perplexity("model.gguf", OPTIONS)

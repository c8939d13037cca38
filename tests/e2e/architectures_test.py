"""The programs on architectures that differ most from a Llama, with random weights: an edge that fetched a context's KV,
layer by layer, answers as one that computed it."""
import subprocess

import pytest

from bench.lab import exactness
from bench.lab.programs import ROOT
from bench.questions import Context, Question

QUESTIONS = [Question(prompt, [], "") for prompt in ("What is it about?", "Who was there?")]
TEXT = "The keeper of the northern lamp writes down every ship that passes, its name, its cargo and the hour. " * 3


@pytest.fixture
def random_model(tmp_path):
    def random_model(shape):
        path = tmp_path / f"{shape}.gguf"
        subprocess.run(["python3", ROOT / "tools" / "random_gguf.py", shape, path], check=True, timeout=60)
        return path
    return random_model


@pytest.mark.parametrize("architecture", ["gemma3", "phi3", "hunyuan-dense", "gpt-oss", "lfm2", "qwen35"])
def test_an_edge_that_fetched_a_context_answers_as_one_that_computed_it(random_model, monkeypatch, architecture):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    contexts = [Context("random", "lamp", "", TEXT, QUESTIONS)]
    model = random_model(f"tiny-{architecture}")
    assert exactness.fetched_as_computed(model, contexts, threads=1) == (len(QUESTIONS), len(QUESTIONS))

"""The gate for codecs: what `./dev bench codec` calls passing is what an edge lets through."""
import json
import re

import pytest

from bench import judge
from bench.benchmarks import codec
from bench.lab.programs import ROOT


def observed(document, kl, **more):
    return {"document": document, "kv": "t4", "question": True, "positions": 10, "kl": kl, **more}


def figures(loss, change=None, high=None):
    return {"loss": loss, "accuracy_change": change, "accuracy_change_interval": change and [change, high]}


def test_a_loss_is_the_divergence_over_the_noise_at_the_same_positions():
    noise = [observed(0, 1.0), observed(0, 1.0), observed(1, 3.0)]
    assert judge.loss([observed(0, 6.0), observed(1, 4.0)], noise)["value"] == 2.0


def test_a_change_of_right_answers_compares_the_same_questions():
    seen = [observed(n, 0.0, right=right, exact_right=exact)
            for n, (right, exact) in enumerate([(True, True), (False, True), (True, False), (False, True)])]
    assert judge.right_change(seen)["value"] == -0.25


@pytest.mark.parametrize(("line", "passes"), [
    pytest.param(figures(3.9), True, id="small_loss"),
    pytest.param(figures(4.1), False, id="large_loss"),
    pytest.param(figures(None), False, id="no_noise_was_measured"),
    pytest.param(figures(1.0, -0.02, 0.01), True, id="fewer_right_answers_by_chance"),
    pytest.param(figures(1.0, -0.08, -0.01), False, id="fewer_right_answers"),
])
def test_the_gate(line, passes):
    assert codec.passes(line) == passes


def test_the_edges_default_is_the_same():
    header = (ROOT / "src" / "serve" / "load" / "codec_ladder.h").read_text(encoding="utf-8")
    assert float(re.search(r"kMaxCodecLoss = ([0-9.]+);", header)[1]) == codec.MAX_LOSS


def test_the_table_that_is_built_in_measures_each_codec_on_each_model_once():
    table = json.loads(codec.TABLE.read_text(encoding="utf-8"))
    assert table["version"] == codec.VERSION
    lines = [(line["model_id"], line["name"]) for line in table["codecs"]]
    assert len(set(lines)) == len(lines)
    assert {name for _, name in lines} == set(codec.OURS)
    assert {line["model"] for line in table["codecs"]} >= {path.name for path in codec.DEMO}

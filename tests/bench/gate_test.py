"""The rule of a tuning's gate."""
import pytest

from bench import gate


def answers(own, tuned, name="a", documents=12):
    """Two questions a document; own and tuned: F1 of each question by document's number."""
    return [{"document": (name, i), "number": n, "reads": reads, "set": name, "f1": f1(i), "contains": 0.0}
            for i in range(documents) for n in range(2) for reads, f1 in (("own", own), ("tuned", tuned))]


def plain(more, documents=12):
    return [{"document": ("t", i), "reads": reads, "log_p": 10 * log_p, "gold_tokens": 10}
            for i in range(documents) for reads, log_p in (("own", -2.0), ("tuned", -2.0 + more(i)))]


BETTER = answers(lambda i: 0.2, lambda i: 0.4 + 0.01 * i)


def judged(seen, text=None):
    return gate.gate_of(seen, text or plain(lambda i: 0.0), "t", "m")


def test_a_tuning_that_is_better_and_nowhere_worse_passes():
    out = judged(BETTER)
    assert out["state"] == "passed" and gate.refusal(out) is None
    assert (out["questions"], out["documents"]) == (24, 12)
    assert out["f1"]["own"] == pytest.approx(0.2) and out["f1"]["tuned"] == pytest.approx(0.455)
    low, high = out["f1"]["interval"]
    assert 0.2 < low < 0.255 < high < 0.31
    assert out["plain_text"] == {"documents": 12, "log_p": {"own": -2.0, "tuned": -2.0, "interval": [0.0, 0.0]}}


def test_better_by_chance_is_not_better():
    out = judged(answers(lambda i: 0.5, lambda i: 0.5 + (0.3 if i % 2 else -0.28)))
    assert out["f1"]["tuned"] > out["f1"]["own"]
    assert out["state"] == "refused" and gate.refusal(out) == "F1 is not better with certainty"


def test_a_set_that_gets_worse_refuses_it_however_good_the_others_are():
    out = judged(BETTER + answers(lambda i: 0.5, lambda i: 0.45, "b", 3))
    assert out["f1"]["interval"][0] > 0
    assert [one["set"] for one in out["sets"]] == ["a", "b"]
    assert gate.refusal(out) == "b is significantly worse in F1"


def test_a_set_that_gets_worse_by_chance_does_not():
    assert judged(BETTER + answers(lambda i: 0.5, lambda i: 0.4 if i % 2 else 0.55, "b", 4))["state"] == "passed"


def test_plain_text_may_not_get_less_likely():
    assert gate.refusal(judged(BETTER, plain(lambda i: -0.01))) == "plain text is significantly less likely"
    assert judged(BETTER, plain(lambda i: 0.01 if i % 2 else -0.015))["state"] == "passed", "by chance"


def test_few_documents_are_no_gate():
    assert "fewer than 10" in gate.refusal(judged(answers(lambda i: 0.2, lambda i: 0.4, documents=9)))
    assert "fewer than 10" in gate.refusal(judged(BETTER, plain(lambda i: 0.0, documents=9)))

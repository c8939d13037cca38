"""Rules for handing answers over, and what they come to."""
import random

from bench import uncertainty


def seen(sure, small, large):
    confidence = {name: sure for name in uncertainty.MEASURES}
    return {"confidence": confidence, "small": {"f1": small}, "large": {"f1": large}}


def test_below_the_threshold_are_as_many_as_wanted():
    scores = [0.5, 0.1, 0.9, 0.3, 0.7]
    for share, wanted in ((0, 0), (0.2, 0.2), (0.4, 0.4), (1, 1)):
        threshold = uncertainty.threshold_for(scores, share)
        assert uncertainty.share_below(scores, threshold) == wanted


def test_equal_scores_are_handed_over_together_or_not_at_all():
    for scores, share, comes in (([1, 1, 1, 1], 0.4, 0), ([1, 1, 1, 1], 0.6, 1), ([0, 0, 0, 1, 2], 0.4, 0.6),
                                 ([0, 1, 1, 1, 2], 0.4, 0.2)):
        assert uncertainty.share_below(scores, uncertainty.threshold_for(scores, share)) == comes


def test_the_least_certain_are_handed_over_first():
    answers = [seen(0.9, 1, 1), seen(0.1, 0, 1), seen(0.5, 0, 0)]
    scores = [one["confidence"]["least_margin"] for one in answers]
    assert uncertainty.handed_over(answers, scores, 1 / 3) == [False, True, False]
    large = uncertainty.handed_over(answers, scores, 1 / 3)
    assert uncertainty.values(answers, large, "f1") == [1, 1, 0]
    assert uncertainty.handed_over(answers, scores, 0) == [False] * 3
    assert uncertainty.handed_over(answers, scores, 1) == [True] * 3


def test_fitted_weights_find_the_measure_that_tells():
    chance = random.Random(1)
    answers = []
    for _ in range(200):
        one = seen(chance.random(), 0, 1)
        for name in uncertainty.MEASURES:
            one["confidence"][name] = chance.random()
        one["small"]["f1"] = float(one["confidence"]["mean_margin"] > 0.5)
        answers.append(one)
    rules = {rule["measure"]: rule for rule in uncertainty.fit_rules(answers, 0.5)}
    weights = rules["weighted"]["weights"]
    assert max((name for name in weights if name != "bias"), key=lambda name: abs(weights[name])) == "mean_margin"
    scores = [uncertainty.score(rules["weighted"], one["confidence"]) for one in answers]
    large = uncertainty.handed_over(answers, scores, 0.5)
    assert sum(uncertainty.values(answers, large, "f1")) > 190


def test_a_measure_that_some_answers_lack_has_no_rule():
    answers = [seen(0.5, 1, 1), seen(0.4, 0, 1)]
    del answers[0]["confidence"]["agreement"]
    assert "agreement" not in [rule["measure"] for rule in uncertainty.fit_rules(answers, 0.5)]


def test_agreement_counts_common_words():
    assert uncertainty.agreement("The red crate.", "the RED crate") == 1
    assert uncertainty.agreement("red red crate", "red crate") == 4 / 5
    assert uncertainty.agreement("", " .") == 1
    assert uncertainty.agreement("", "a") == 0

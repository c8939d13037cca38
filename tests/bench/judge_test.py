"""Means and intervals of observations."""
from bench import judge


def seen(document, **fields):
    return {"document": document, "kv": "t4", "question": True, **fields}


def test_the_interval_holds_the_mean_and_shrinks_to_it_where_all_documents_agree():
    mixed = judge.bootstrap([(1, 2), (2, 2), (0, 2), (1, 2), (2, 2)])
    assert mixed["value"] == 0.6
    assert mixed["low"] < 0.6 < mixed["high"]
    assert judge.bootstrap([(3, 4)] * 4) == {"value": 0.75, "low": 0.75, "high": 0.75}


def test_the_same_documents_give_the_same_interval():
    documents = [(i % 3, 4) for i in range(10)]
    assert judge.bootstrap(documents) == judge.bootstrap(documents)


def test_nothing_is_made_of_nothing():
    assert judge.bootstrap([]) is None
    assert judge.bootstrap([(0, 0)]) is None
    assert judge.right([seen(0, question=False)]) is None
    assert judge.perplexity([]) is None


def test_divergence_is_the_mean_over_positions_not_over_observations():
    short, long = seen(0, kl=3.0, positions=1), seen(0, kl=1.0, positions=9)
    assert judge.kl([short, long])["value"] == 0.4


def test_documents_are_drawn_not_observations():
    one_document = [seen(0, greedy=n % 2, greedy_of=1) for n in range(20)]
    assert judge.greedy(one_document) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_observations_without_a_figure_do_not_count():
    some = [seen(0, kl_large=2.0, positions=2), seen(1, kl_large=None, positions=100), seen(2, positions=100)]
    assert judge.kl_large(some)["value"] == 1.0


def test_right_answers_by_steps():
    some = [seen(0, right=True, steps=1), seen(0, right=False, steps=2), seen(1, right=True, steps=2)]
    assert judge.right(some, steps=1)["value"] == 1.0
    assert judge.right(some, steps=2)["value"] == 0.5
    assert judge.right(some)["value"] == 2 / 3


def test_perplexity_of_certain_words_is_one():
    assert judge.perplexity([seen(0, surprise=0.0, positions=5)])["value"] == 1.0

"""How replies are scored: each metric, and replies as small models write them."""
import pytest

from bench import scoring
from bench.scoring import score


def exact(metric, reply, *answers):
    return score(metric, reply, answers)["exact"]


def test_squad_ignores_case_punctuation_articles_and_spaces():
    assert exact("squad_em_f1", " The  Eiffel-Tower. ", "eiffeltower") == 1
    assert exact("squad_em_f1", "an apple", "Apple") == 1
    assert exact("squad_em_f1", "apple pie", "apple") == 0
    assert scoring.normalised("Athens, and the theatre") == "athens and theatre", "articles are words, not letters"


def test_punctuation_outside_ascii_is_dropped_too():
    assert exact("squad_em_f1", "\u201cLa Boh\u00e8me\u201d\u2026", "La Boh\u00e8me") == 1
    assert exact("squad_em_f1", "\u300c\u6771\u4eac\u300d", "\u6771\u4eac") == 1
    assert scoring.normalised("5 \u2013 3 $") == "5 3"


def test_f1_is_of_the_words_that_both_have():
    figures = score("squad_em_f1", "the red brick house", ["red house of bricks"])
    assert figures["f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert figures["exact"] == 0
    assert score("squad_em_f1", "no no no", ["no"])["f1"] == pytest.approx(0.5), "a word counts as often as both have it"


def test_the_best_of_the_answers_counts_for_each_figure():
    figures = score("squad_em_f1", "It was in 1969.", ["July 1969", "1969"])
    assert figures == {"exact": 0, "f1": pytest.approx(2 / 5), "contains": 1}


def test_an_empty_reply_is_wrong_by_every_metric():
    for metric, answer in (("squad_em_f1", "x"), ("exact_short", "x"), ("multiple_choice", "A"), ("python_literal", "None")):
        for reply in ("", " \n", "."):
            assert score(metric, reply, [answer]) == {"exact": 0, "f1": 0, "contains": 0}, (metric, reply)


def test_an_answer_that_normalising_leaves_nothing_of_is_taken_as_it_is():
    assert score("squad_em_f1", "The", ["the"])["exact"] == 0
    assert score("squad_em_f1", "*", ["*"]) == {"exact": 1, "f1": 1, "contains": 1}
    assert score("squad_em_f1", "anything else", ["*"]) == {"exact": 0, "f1": 0, "contains": 0}


def test_contains_takes_phrases_not_pieces_of_words():
    assert score("squad_em_f1", "They live in New York City.", ["new york"])["contains"] == 1
    assert score("squad_em_f1", "newly yorkish", ["new york"])["contains"] == 0


def test_short_answers_may_be_quoted_and_end_with_a_full_stop():
    for reply in ("`offset`", "\"offset\".", "offset.", "'offset'", "\u201coffset\u201d", " offset\n"):
        assert exact("exact_short", reply, "offset") == 1, reply
    assert exact("exact_short", "Offset", "offset") == 0, "case counts: names differ by it"


def test_short_answers_are_found_as_tokens_of_the_first_line():
    assert exact("exact_short", "The default is `None`, as documented", "None") == 1
    assert exact("exact_short", "It is\nNone", "None") == 0
    assert exact("exact_short", "NoneType", "None") == 0
    assert exact("exact_short", "my_offset", "offset") == 0
    assert exact("exact_short", "raises storage.Error here", "Error") == 1


def test_numbers_are_not_found_inside_numbers():
    assert exact("exact_short", "it is 5 by default", "5") == 1
    for reply in ("it is 2.5", "it is -5", "it is 5.25", "it is 15", "5e3"):
        assert exact("exact_short", reply, "5") == 0, reply
    assert exact("exact_short", "it is -12, see below", "-12") == 1
    assert exact("exact_short", "In all there are 5.", "5") == 1


def test_answers_of_signs_only_are_found():
    assert exact("exact_short", "it returns []", "[]") == 1
    assert exact("exact_short", "(a|b)", "(a|b)") == 1


def test_the_first_letter_that_stands_alone_is_the_choice():
    for reply in ("B", "B)", "(B) because", "The answer is B.", "B: Apples", "I say B, not C"):
        assert exact("multiple_choice", reply, "B") == 1, reply
    for reply in ("Because", "A or B", "b", "", "B's"):
        assert exact("multiple_choice", reply, "B") == 0, reply
    assert score("multiple_choice", "A", ["A"]) == {"exact": 1, "f1": 1, "contains": 1}, "A is no article here"


def test_literals_are_compared_as_values_of_the_same_type():
    assert exact("python_literal", "{'b': 2, 'a': 1}", "{'a': 1, 'b': 2}") == 1
    assert exact("python_literal", "\"x\"", "'x'") == 1
    assert exact("python_literal", "1.0", "1") == 0
    assert exact("python_literal", "True", "1") == 0
    assert exact("python_literal", "[1, 2]", "(1, 2)") == 0


def test_literals_may_be_between_backticks():
    assert exact("python_literal", "```python\n[1, 2]\n```", "[1, 2]") == 1
    assert exact("python_literal", "```\n[1, 2]", "[1, 2]") == 1, "the reply was cut off"
    assert exact("python_literal", "`[1, 2]`", "[1,2]") == 1


def test_what_is_no_literal_is_compared_as_text_without_spaces():
    assert exact("python_literal", "KeyError( x )", "KeyError(x)") == 1
    assert exact("python_literal", "[1, 2", "[1, 2]") == 0


def test_replies_that_python_chokes_on_are_wrong_not_errors(recwarn):
    for reply in ("(" * 5000, "{[1]: 2}", "1is 2", "\0", "-" * 3000 + "1", "9" * 5000, "\ud800", "'\\x'", "5 if", "x = 1"):
        assert exact("python_literal", reply, "1") == 0, reply[:20]
    assert not recwarn.list

"""Files of questions: what is made of good ones, and what is said about others."""
import json

import pytest

from bench import questions

ROW = {"id": "one", "metric": "squad_em_f1", "context": "Boats.\nMany.",
       "questions": [{"q": "What?", "answers": ["boats", "x"]}]}


def written(tmp_path, *rows, name="set.jsonl"):
    path = tmp_path / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(questions.Malformed) as refused:
        questions.read(path)
    return str(refused.value)


def with_question(**fields):
    return {**ROW, **{key: fields.pop(key) for key in ("metric",) if key in fields},
            "questions": [{**ROW["questions"][0], **fields}]}


def test_a_context_becomes_a_system_message_and_its_questions_turns_of_the_user(tmp_path):
    (context,) = questions.read(written(tmp_path, {**ROW, "source": "extra keys do not matter"}))
    assert (context.set, context.id, context.metric) == ("set", "one", "squad_em_f1")
    assert context.system == "Use the text below to answer the user's questions.\n\nBoats.\nMany."
    (question,) = context.questions
    assert question.prompt == "What?\nAnswer with a few words only, no explanation."
    assert question.answers == ["boats", "x"] and question.gold == "boats"


def test_a_study_of_a_registered_text_carries_the_complete_system_message(tmp_path):
    (context,) = questions.read(written(tmp_path, {**ROW, "system": "You know boats."}))
    assert context.system == "You know boats."


def test_plain_questions_are_asked_as_they_stand(tmp_path):
    (context,) = questions.read(written(tmp_path, {**ROW, "plain": True}))
    assert context.questions[0].prompt == "What?"


def test_choices_are_listed_with_letters(tmp_path):
    row = with_question(metric="multiple_choice", choices=["one", "two", "three"], answers=["C"])
    (context,) = questions.read(written(tmp_path, row))
    assert context.questions[0].prompt.startswith("What?\nA) one\nB) two\nC) three\nAnswer with the letter only.\n")


def test_empty_lines_are_skipped_and_an_id_may_be_missing(tmp_path):
    row = {key: value for key, value in ROW.items() if key != "id"}
    assert [context.id for context in questions.read(written(tmp_path, row, "", "  ", row))] == ["1", "4"]


def test_a_line_that_is_not_json_is_named(tmp_path):
    path = written(tmp_path, ROW, "{\"context\": ")
    assert refusal(path).startswith(f"{path}:2: not JSON: ")


@pytest.mark.parametrize(("row", "expected"), [
    ([1], "expected an object with 'context', 'metric' and 'questions'; there is: [1]"),
    ({}, "no 'context'; there is: nothing"),
    ({"context": "x"}, "no 'metric'; there is: context"),
    ({**ROW, "context": 5}, "'context' must be a text; there is: 5"),
    ({**ROW, "metric": "rouge"}, "python_literal, multiple_choice; there is: rouge"),
    ({"text": "x", "metric": "y", "context": "z"}, "'metric' must be one of "),
    ({"context": "x", "metric": "exact_short"}, "no 'questions'; there is: context, metric"),
    ({**ROW, "context": "a\0b"}, "'context' must not hold a NUL character; there is: 'a\\x00b'"),
    (with_question(q="\ud83d"), "questions[0]: 'q' must not hold half of a surrogate pair; there is: '\\ud83d'"),
    (with_question(answers=["x", "\udc00"]), "questions[0]: 'answers' must not hold half of a surrogate pair"),
    (with_question(metric="multiple_choice", choices=["x", "\0"], answers=["A"]), "'choices' must not hold a NUL character"),
    ({**ROW, "questions": []}, "'questions' must not be empty; there is: []"),
    ({**ROW, "questions": "What?"}, "'questions' must be a list; there is: What?"),
    ({**ROW, "questions": ["What?"]}, "questions[0]: expected an object with 'q' and 'answers'; there is: What?"),
    (with_question(q=None), "questions[0]: 'q' must be a text; there is: null"),
    (with_question(answers=[]), "questions[0]: 'answers' must be a list of texts, at least one, none empty; there is: []"),
    (with_question(answers=["a", " "]), "questions[0]: 'answers' must be a list of texts, at least one, none empty"),
    (with_question(answers="boats"), "questions[0]: 'answers' must be a list; there is: boats"),
    (with_question(metric="multiple_choice"), "questions[0]: no 'choices'; there is: q, answers"),
    (with_question(metric="multiple_choice", choices=["x"]), "questions[0]: 'choices' must be 2 to 8 texts"),
    (with_question(metric="multiple_choice", choices=["x", "y"], answers=["C"]),
     "questions[0]: 'answers' must be letters from A to B"),
])
def test_what_is_wrong_with_a_line_is_told(tmp_path, row, expected):
    path = written(tmp_path, ROW, row)
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert expected in message


def test_long_mistakes_are_cut(tmp_path):
    assert len(refusal(written(tmp_path, {**ROW, "metric": "x" * 9999}))) < 400


def test_files_that_hold_nothing_are_refused(tmp_path):
    assert "no contexts" in refusal(written(tmp_path))
    assert "No such file" in refusal(tmp_path / "missing.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"{\"context\": \"\xff\"}")
    assert "not UTF-8 text: byte 13 is 0xff" in refusal(binary)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    assert "id 'one' twice" in refusal(written(tmp_path, ROW, ROW))


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    files = [written(tmp_path, ROW), written(tmp_path / "other", ROW)]
    with pytest.raises(questions.Malformed, match="'set' was given before"):
        questions.read_all(files)


def test_bulletins_of_the_demo_family_are_asked_as_it_was_trained(tmp_path):
    world = {"context": "Harbour bulletin.",
             "questions": [{"question": "Where?", "answer": "Egret", "reply": "On ship Egret."}]}
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"worlds": [world]}), encoding="utf-8")
    (context,) = questions.read(path)
    assert context.system == "Harbour bulletin."
    assert context.questions == [questions.Question("Where?", ["Egret"], "On ship Egret.")]


def test_json_that_is_no_bulletin_is_refused_with_the_way_out(tmp_path):
    for text in ("{}", "[]", "{", json.dumps({"worlds": [{"context": "x"}]}), json.dumps({"worlds": [1]})):
        path = tmp_path / "other.json"
        path.write_text(text, encoding="utf-8")
        assert "is called .jsonl" in refusal(path)


def many(name, n, of=5):
    asked = [questions.Question(f"{i}?", ["x"], "x") for i in range(of)]
    return [questions.Context(name, str(i), "exact_short", "text", asked) for i in range(n)]


def test_a_sample_takes_the_sets_in_turn_and_is_the_same_for_the_same_seed():
    drawn = questions.sampled([*many("a", 5), *many("b", 2)], seed=3)
    assert [context.set for context in drawn] == ["a", "b", "a", "b", "a", "a", "a"]
    assert drawn == questions.sampled([*many("a", 5), *many("b", 2)], seed=3)
    assert drawn != questions.sampled([*many("a", 5), *many("b", 2)], seed=4)


def test_another_set_beside_it_does_not_change_what_is_drawn_of_a_set():
    alone = questions.sampled(many("a", 5), seed=1, questions=2)
    beside = questions.sampled([*many("b", 9), *many("a", 5)], seed=1, questions=2)
    assert [context for context in beside if context.set == "a"] == alone
    assert all(len(context.questions) == 2 for context in alone)

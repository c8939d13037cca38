"""Rows of the quality benchmark, from answers that are given; which readings it accepts."""
import pytest

from bench import answers
from bench.benchmarks import quality
from bench.lab.programs import ProgramFailed, lines_from
from bench.questions import SYSTEM, Context, Question
from bench.recorded import Recorded


class Options:
    def __init__(self, *reads):
        self.reads = list(reads)


def context(name, id, *answers):
    return Context(name, id, "squad_em_f1", "text", [Question("?", [answer], answer) for answer in answers])


def recorded(**replies):
    """{reads: {context id: [reply]}}, all of set "a"."""
    out = Recorded(None, {}, by=("set", "id", "reads"))
    for reads, by_context in replies.items():
        for id, some in by_context.items():
            out.add({"set": "a", "id": id, "reads": reads, "tokens": 10, "kv_s": 1.0, "answer_s": 2.0,
                     "bits": None if reads == "none" else 40.0, "values": 10.0,
                     "answers": [{"reply": reply, "log_p": -2.0, "gold_tokens": 1 + i} for i, reply in enumerate(some)]})
    return out


CONTEXTS = [context("a", "1", "red", "blue"), context("a", "2", "green")]
SEEN = {"own": {"1": ["red", "red"], "2": ["a green one"]}, "t4": {"1": ["red", "blue"], "2": ["none"]}}


def rows(*reads, contexts=CONTEXTS, seen=SEEN):
    found = answers.rows_of(answers.observations(contexts, recorded(**seen), reads))
    return {(row["set"], row["reads"]): row for row in found}


def test_figures_are_means_over_questions():
    row = rows("own", "t4")["all", "own"]
    assert row["n"] == 3 and row["contexts"] == 2
    assert row["exact"] == pytest.approx(1 / 3)
    assert row["contains"] == pytest.approx(2 / 3)
    assert row["f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert row["bits_per_value"] == 4.0
    assert (row["kv_s"], row["answer_s"]) == (2.0, 4.0), "each context once, not each question"


def test_log_p_is_the_mean_over_tokens():
    assert rows("own")["all", "own"]["log_p"] == pytest.approx(-6 / 4)


def test_differences_to_own_are_taken_question_by_question():
    found = rows("own", "t4")
    assert found["all", "own"]["f1_more"] == 0 and found["all", "own"]["f1_more_interval"] == [0, 0]
    assert found["all", "t4"]["contains_more"] == pytest.approx(0)
    assert found["all", "t4"]["contains_more_interval"] == [-1, 0.5], "one context gained, one lost"


def test_without_own_there_are_no_differences():
    row = rows("t4")["all", "t4"]
    assert row["f1_more"] is None and row["contains_more_interval"] is None


def test_closed_book_has_no_bits():
    row = rows("none", seen={"none": {"1": ["x", "y"], "2": ["z"]}})["all", "none"]
    assert row["bits_per_value"] is None and row["f1"] == 0


def test_the_same_answers_give_the_same_intervals():
    assert rows("own", "t4") == rows("own", "t4")


def test_an_interval_is_over_contexts():
    same = [context("a", str(i), "x", "y") for i in range(5)]
    row = rows("own", contexts=same, seen={"own": {str(i): ["x", "z"] for i in range(5)}})["all", "own"]
    assert row["exact"] == 0.5 and row["exact_interval"] == [0.5, 0.5]


def test_contexts_that_miss_a_reading_are_not_complete():
    seen = recorded(own=SEEN["own"], t4={"1": SEEN["t4"]["1"]})
    assert [context.id for context in quality.complete(CONTEXTS, seen, Options("own", "t4"))] == ["1"]
    with pytest.raises(SystemExit, match="nothing is recorded"):
        quality.complete(CONTEXTS, seen, Options("own", "q8"))


@pytest.mark.parametrize("reads, missing", [("own,tuned", "'tuned' needs a tuning file: --tuning"),
                                            ("own-teacher", "'own-teacher' needs a tuning file: --own-teacher-tuning"),
                                            ("studied", "'studied' needs studied contexts: --studied")])
def test_readings_that_need_a_file_are_refused_by_name(reads, missing):
    with pytest.raises(SystemExit, match=missing):
        quality.Quality().run(["--reads", reads], is_built=True)


def test_condensed_kv_needs_questions_that_it_is_fitted_to():
    options = Options("own", "match/4+reread", "match/4")
    options.model, options.study = "m.gguf", None
    with pytest.raises(SystemExit, match="'match/4' is fitted to questions"):
        quality.with_defaults(options)


def test_every_other_question_is_fitted_to_and_never_asked():
    found = quality.with_study([context("a", "1", "red", "blue", "green"), context("a", "2", "one")], "half")
    assert [(c.id, [q.gold for q in c.study], [q.gold for q in c.questions]) for c in found] == \
        [("1", ["red", "green"], ["blue"])], "a context with one question has none to spare"


def test_questions_to_fit_to_are_found_by_their_text(tmp_path):
    file = tmp_path / "study.jsonl"
    file.write_text('{"metric": "squad_em_f1", "context": "the text", "questions": [{"q": "Why?", "answers": ["so"]}]}\n')
    known = context("a", "1", "red")._replace(system=f"{SYSTEM}\n\nthe text")
    found = quality.with_study([known, context("a", "2", "one")], [file])
    assert [(c.id, [q.gold for q in c.study], [q.gold for q in c.questions]) for c in found] == [("1", ["so"], ["red"])]


def test_a_reading_named_twice_is_refused():
    with pytest.raises(SystemExit, match="twice"):
        quality.Quality().run(["--reads", "own,own"], is_built=True)


def test_a_file_of_questions_that_is_wrong_ends_the_run_with_file_and_line(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text("not JSON\n", encoding="utf-8")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(SystemExit, match=r"quality: .*set\.jsonl:1: not JSON"):
        quality.Quality().run(["--questions", str(path), "--model", str(model)], is_built=True)


def test_lines_come_while_the_program_runs_and_its_failure_shows_what_it_wrote():
    lines = lines_from("sh", "-c", "echo one; echo two; echo what went wrong >&2; exit 3")
    assert next(lines) == "one\n"
    with pytest.raises(ProgramFailed, match="(?s)code 3.*what went wrong"):
        list(lines)


def test_a_program_that_nobody_reads_any_more_is_ended():
    lines = lines_from("sh", "-c", "echo one; exec sleep 1000")
    assert next(lines) == "one\n"
    lines.close()

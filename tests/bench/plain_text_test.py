"""How plain texts are cut into documents and halves, and what is made of their log probabilities."""
import pytest

from bench import plain_text
from bench.questions import Malformed
from bench.recorded import Recorded


def words(n, first=0):
    return " ".join(f"w{i}" for i in range(first, first + n))


def test_a_document_is_cut_between_words_and_nothing_is_lost(tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_text("\n".join(words(60, 60 * i) for i in range(9)), encoding="utf-8")
    documents = plain_text.documents([path])
    assert [d.id.split()[0] for d in documents] == ["0", "1"], "of 240 words each; the rest is too short"
    [question] = documents[0].questions
    assert documents[0].system + question.prompt + question.gold == path.read_text(encoding="utf-8")[:len(words(240))]
    assert len(documents[0].system.split()) == 120
    assert question.prompt.split() == ["w120"] and question.gold.split()[-1] == "w239"


def test_of_many_documents_some_are_taken_from_everywhere(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("\n".join(words(240, 1000 * i) for i in range(400)), encoding="utf-8")
    documents = plain_text.documents([path])
    assert len(documents) == plain_text.DOCUMENTS
    assert documents[-1].system.startswith("w390000 ")


@pytest.mark.parametrize("text, wrong", [("too short", "fewer than 240 words"), ("\udcff", "not UTF-8")])
def test_files_that_are_no_texts_are_refused_by_name(tmp_path, text, wrong):
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Malformed, match=f"x.txt.*{wrong}"):
        plain_text.documents([path])


def test_rows_are_means_over_tokens_beside_own(tmp_path):
    path = tmp_path / "wiki.txt"
    path.write_text("\n".join(words(240) for _ in range(2)), encoding="utf-8")
    documents = plain_text.documents([path])
    recorded = Recorded(None, {}, by=("set", "id", "reads"))
    for one, tokens in zip(documents, (10, 30)):
        for name, each in (("own", -2.0), ("tuned", -1.5)):
            recorded.add({"set": one.set, "id": one.id, "reads": name,
                          "answers": [{"reply": "", "log_p": each * tokens, "gold_tokens": tokens}]})
    own, tuned = plain_text.rows_of(plain_text.observations(documents, recorded, ["none", "own", "tuned"]))
    assert (own["log_p"], own["log_p_more"]) == (-2.0, 0.0)
    assert (tuned["reads"], tuned["documents"], tuned["tokens"]) == ("tuned", 2, 40)
    assert tuned["log_p_more"] == 0.5 and tuned["log_p_more_interval"] == [0.5, 0.5]

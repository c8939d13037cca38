"""What the demo prints, and which cores it takes."""
from bench.demo import cores, document, text


def test_cloud_and_edge_have_cores_of_their_own():
    assert cores.split([0, 1]) == ([1], [0])
    assert cores.split(range(8)) == ([2, 3, 4, 5, 6, 7], [0, 1])
    assert cores.split([3, 5]).apart
    assert not cores.split([4]).apart


def test_cores_are_named():
    assert cores.named([1]) == "core 1"
    assert cores.named([2, 3, 4]) == "cores 2 to 4"
    assert cores.named([0, 2]) == "cores 0, 2"


def test_a_timeline_has_a_line_a_layer_and_its_width():
    lines = text.timeline([{"source": "compute", "ms": 100.0}, {"source": "cloud", "ms": 31416.0}])
    assert lines[0] == f"  layer  1  cloud   {'#' * text.BAR}  31.42 s"
    assert lines[1].split() == ["layer", "0", "compute", "c", "0.10", "s"]
    assert max(map(len, lines)) <= text.WIDTH


def test_long_replies_are_cut_and_the_cut_is_shown():
    assert text.shortened("short", 10) == "short"
    assert text.shortened("a reply that is long", 12) == "a reply ..."
    assert text.shortened("first\nsecond", 12) == "first ..."
    assert text.shortened("", 5) == ""


def test_the_manual_answers_its_questions():
    manual = document.read(document.MANUAL)
    for question in manual.questions:
        assert any(answer.lower() in manual.text.lower() for answer in question.answers), question.text


def test_a_reply_is_right_if_it_contains_an_answer():
    question = document.Question("How long?", ["20 minutes", "twenty minutes"])
    assert question.is_right("For Twenty minutes.")
    assert not question.is_right("For 120 minutes.")

"""Clouds that are dead or hang: they cost time, not answers."""
import signal


def test_an_edge_answers_without_its_cloud_and_names_it(cloud, edge, ask, question):
    cloud.kill()
    answer = ask(edge)
    assert answer.sources == {"compute"}
    assert cloud.url in answer.note
    assert question["answer"] in answer.text


def test_an_edge_answers_while_its_cloud_hangs(cloud, edge, ask):
    cloud.process.send_signal(signal.SIGSTOP)
    try:
        answer = ask(edge)
    finally:
        cloud.process.send_signal(signal.SIGCONT)
    assert answer.sources == {"compute"}

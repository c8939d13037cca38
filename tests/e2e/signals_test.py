"""How the programs end when they are told to."""
import signal
import threading

from bench.lab import api
from bench.lab.programs import wait_until
from tests.e2e.support import metric


def test_sigterm_lets_a_stream_end_and_exits_cleanly(start):
    edge = start("edge")
    ended = {}

    def stream():
        messages = [{"role": "user", "content": "Tell me a story."}]
        ended["stream"] = api.stream_chat(edge.url, messages, max_tokens=200, temperature=1, seed=1)

    thread = threading.Thread(target=stream)
    thread.start()
    wait_until(lambda: metric(edge, "celslm_edge_running_requests") == 1 or not thread.is_alive(), "the stream")
    assert edge.stop() == 0
    thread.join(30)
    assert not thread.is_alive()
    assert ended["stream"].finish_reason in ("stop", "length")


def test_an_idle_edge_and_cloud_stop_at_once(start, cloud):
    edge = start("edge", "--cloud", cloud.url)
    assert edge.stop(grace_s=8) == 0
    assert cloud.stop(grace_s=8) == 0


def test_sigint_ends_a_program_too(start):
    edge = start("edge")
    edge.process.send_signal(signal.SIGINT)
    assert edge.process.wait(10) == 0

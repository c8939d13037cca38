"""An edge that fetches and computes at once, over a link that is slow enough to leave the engine something to do."""
import pytest

from bench.lab import models
from tests.e2e import support

ONE_THREAD = ("--threads", 1)  # on a busy machine two threads that wait for each other take very different times
TRIES = 5
# On a slower link the first blocks take so long that an edge computes because it takes the link for dead.
SLOWEST_MBIT = 8


@pytest.fixture(scope="session")
def model():
    """The larger of the demo models: six layers are more to divide than two."""
    return models.demo_model("large")


@pytest.fixture(scope="session")
def world():
    """The longest context, for the same reason."""
    return models.demo_worlds()[-1]


@pytest.fixture
def computed(start, context_file, ask):
    """What an edge answers that computes all of the context."""
    return ask(start("edge", "--context", context_file, *ONE_THREAD, name="local"))


@pytest.fixture
def fetched(cloud, share, start_edge, ask):
    """What an edge answers that fetches all of it; from then on the cloud has the complete pack."""
    handle = share(cloud)
    edge = start_edge(cloud, *ONE_THREAD, name="reader")
    support.wait_for_context(edge, handle)
    answer = ask(edge)
    support.wait_for_kept_pack(edge)
    return answer


def test_both_supply_blocks_and_the_answer_stays_the_same(cloud, computed, fetched, start, link, ask):
    assert computed.suppliers == {"compute"}
    assert fetched.suppliers == {"cloud"}
    # Fetching all takes twice as long as computing all, if the machine is as fast as a moment ago; if not, the other way was
    # over too early or too late, and the next link is slower or faster.
    mbit = 8e-3 * fetched.extension["bytes"] / (2 * computed.extension["load"]["ms"])
    seen = []
    for number in range(TRIES):
        relay = link(cloud, "--rate", mbit, name=f"link-{number}")
        edge = start("edge", "--cloud", relay.url, *ONE_THREAD, name=f"both-{number}")
        support.wait_for_context(edge, fetched.extension["context"])
        answer = ask(edge)
        edge.stop()
        assert answer.choices == computed.choices
        if answer.suppliers == {"cloud", "compute"}:
            return
        seen.append((f"{mbit:.1f} Mbit/s", answer.suppliers))
        mbit = mbit * 2 if answer.suppliers == {"compute"} else max(mbit / 2, SLOWEST_MBIT)
    raise AssertionError(f"never both at once: {seen}")

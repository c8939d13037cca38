"""What leaves an edge: nothing of a prompt, and nothing derived from one."""
import pytest

from bench.lab import api
from tests.e2e import support

SECRET_QUESTION = "My secret is XQZJV-90210. "
PRIVATE_SYSTEM_MESSAGE = "Private instruction XQZJV."


@pytest.fixture
def handle_of(start):
    """By what name a text would be asked for, were it registered: told by a cloud that the edge does not know."""
    stranger = start("cloud", name="stranger")

    def handle_of(text):
        return api.request("POST", f"{stranger.url}/v1/contexts", {"text": text})["id"]
    return handle_of


def test_nothing_of_a_prompt_is_sent_to_the_cloud_or_a_neighbour(cloud, edge, start_edge, link, folder, handle_of, ask,
                                                                 question, world):
    handle = ask(edge).extension["context"]
    support.wait_for_kept_pack(edge)  # now it is a neighbour that has something to give
    links = {name: link(source, "--record", folder / name, name=name)
             for name, source in (("to-cloud", cloud), ("to-peer", edge))}

    def is_asked(name):
        return b"/v1/packs/" in (folder / name).read_bytes()

    for attempt in range(10):  # of a context this short, one source may have sent all before the other is asked
        watched = start_edge(links["to-cloud"], "--peer", links["to-peer"].url, name=f"watched-{attempt}")
        support.wait_for_context(watched, handle)
        answer = ask(watched, SECRET_QUESTION + question["question"])
        assert answer.suppliers <= {"cloud", "peer"}
        messages = [{"role": "system", "content": PRIVATE_SYSTEM_MESSAGE}, {"role": "user", "content": "Hello 90210"}]
        support.chat(watched, messages, max_tokens=4)
        for system in (world["context"] + "\nIt is XQZJV.", world["context"][:-20] + " XQZJV"):  # all of it, and a part
            messages[0] = {"role": "system", "content": system}
            extension = support.chat(watched, messages, max_tokens=4).extension
            assert extension["context"] == handle and extension["matched_tokens"] < extension["context_tokens"]
        watched.stop()
        if all(map(is_asked, links)):
            break

    for name, relay in links.items():
        relay.stop()
        sent = (folder / name).read_bytes()
        assert b"/v1/packs/" in sent, f"{name} recorded nothing"
        for word in ("XQZJV", "90210", "secret", "Private", "Hello", handle_of(PRIVATE_SYSTEM_MESSAGE)):
            assert word.encode() not in sent, name


def test_what_servers_write_is_their_users_alone(cloud, edge, folder, ask):
    ask(edge)
    support.wait_for_kept_pack(edge)
    written = [path for server in (cloud, edge) for path in (folder / server.name).rglob("*")]
    assert any(path.suffix == ".kvpack" for path in written)
    assert not [path for path in written if path.lstat().st_mode & 0o077]

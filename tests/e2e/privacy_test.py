"""What leaves an edge: nothing of a prompt."""
from tests.e2e import support


def test_nothing_of_a_prompt_is_sent_to_the_cloud(cloud, start_edge, link, share, folder, ask, question):
    handle = share(cloud)
    record = folder / "record"
    relay = link(cloud, "--record", record)
    edge = start_edge(relay)
    support.wait_for_context(edge, handle)
    answer = ask(edge, "My secret is XQZJV-90210. " + question["question"])
    assert answer.sources == {"cloud"}
    messages = [{"role": "system", "content": "Private instruction XQZJV."}, {"role": "user", "content": "Hello 90210"}]
    support.chat(edge, messages, max_tokens=4)
    edge.stop()
    relay.stop()
    sent = record.read_bytes()
    assert b"/v1/packs/" in sent
    for word in (b"XQZJV", b"90210", b"secret", b"Private", b"Hello"):
        assert word not in sent

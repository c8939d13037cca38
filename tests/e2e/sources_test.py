"""Where an answer's KV comes from: the cloud, the edge's own engine, its disk, a neighbour; the answer stays the same."""
from bench.lab.programs import wait_until
from tests.e2e import support


def test_an_answer_from_the_clouds_kv_equals_one_from_local_prefill(edge, local_edge, ask, question):
    fetched, computed = ask(edge), ask(local_edge)
    assert fetched.sources == {"cloud"}
    assert computed.sources == {"compute"}
    assert fetched.choices == computed.choices
    assert question["answer"] in fetched.text


def test_an_edge_keeps_its_pack_over_a_restart(cloud, edge, start_edge, ask):
    before = ask(edge)
    support.wait_for_kept_pack(edge)
    assert edge.stop() == 0
    restarted = start_edge(cloud)
    support.wait_for_context(restarted, before.extension["context"])
    after = ask(restarted)
    assert after.sources == {"disk"}
    assert after.choices == before.choices


def test_an_edge_reads_a_neighbours_pack_when_the_cloud_is_gone(cloud, edge, start_edge, ask):
    reader = start_edge(cloud, "--peer", edge.url, name="reader")
    expected = ask(edge)
    support.wait_for_kept_pack(edge)
    support.wait_for_context(reader, expected.extension["context"])
    wait_until(lambda: "trusting the key" in reader.log_path.read_text(), "the reader to know the cloud's key")
    cloud.kill()
    answer = ask(reader)
    assert answer.sources == {"peer"}
    assert answer.choices == expected.choices


def test_an_edge_chooses_a_codec_that_was_measured_on_its_model(cloud, start_edge, share, ask):
    handle = share(cloud)
    edge = start_edge(cloud, "--codec", "auto", "--refine")
    support.wait_for_context(edge, handle)
    first = ask(edge).extension
    assert first["codec"] != "f16", first["codec_reason"]
    assert "not measured yet" in first["codec_reason"]
    wait_until(lambda: ask(edge).extension["codec"] == "f16", "exact KV in place of the coarse one", poll_s=1)

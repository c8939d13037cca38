"""Studied contexts: handed to a cloud as files, served as signed packs, read by an edge."""
import pytest

from bench.lab import api
from tests.e2e import studied_contexts, support


@pytest.fixture
def own_kv(start, share):
    """The world's context as the small model itself computes it."""
    plain = start("cloud", name="plain-cloud")
    return studied_contexts.OwnKv(plain, share(plain))


@pytest.fixture
def studied(folder):
    path = folder / "studied"
    path.mkdir()
    return path


@pytest.fixture
def edge_of(start, start_edge, share, studied):
    """An edge that wants studied contexts, at a cloud that offers those in the folder."""

    def edge_of():
        cloud = start("cloud", "--studied", studied)
        handle = share(cloud)
        edge = start_edge(cloud, "--guidance", "studied")
        support.wait_for_context(edge, handle)
        return cloud, edge
    return edge_of


def test_a_row_for_each_token_answers_as_the_context_itself(own_kv, studied, edge_of, ask, local_edge):
    own_kv.write_every(1, studied / "a.gguf")
    _, edge = edge_of()
    answer = ask(edge)
    assert (answer.sources, answer.provenances) == ({"cloud"}, {"studied"}), answer.note
    assert answer.choices == ask(local_edge).choices


def test_every_second_row_is_half_the_bytes(own_kv, studied, edge_of, ask, start_edge):
    own_kv.write_every(2, studied / "a.gguf")
    cloud, edge = edge_of()
    answer = ask(edge)
    assert answer.provenances == {"studied"}, answer.note
    own_edge = start_edge(cloud, name="own-edge")
    support.wait_for_context(own_edge, own_kv.handle)
    own = ask(own_edge)
    assert own.provenances == {"proxy"}
    assert answer.extension["bytes"] < 0.6 * own.extension["bytes"]
    assert answer.extension["context_tokens"] == own.extension["context_tokens"] == len(own_kv.tokens)
    [guidance] = api.request("GET", f"{cloud.url}/v1/contexts/{own_kv.handle}")["guidance"]
    assert (guidance["provenance"], guidance["n_rows"]) == ("studied", (len(own_kv.tokens) + 1) // 2)


def test_without_the_cloud_the_context_is_computed(own_kv, studied, edge_of, ask, local_edge):
    own_kv.write_every(2, studied / "a.gguf")
    cloud, edge = edge_of()
    cloud.kill()
    answer = ask(edge)
    assert (answer.sources, answer.provenances) == ({"compute"}, {"native"})
    assert answer.note
    assert answer.choices == ask(local_edge).choices


def test_damaged_files_are_left_out(own_kv, studied, edge_of, ask):
    path = studied / "a.gguf"
    own_kv.write_every(2, path)
    path.write_bytes(path.read_bytes()[:5000])
    cloud, edge = edge_of()
    answer = ask(edge)
    assert answer.provenances == {"proxy"}
    assert "no studied KV" in answer.note
    assert "left out" in cloud.log_path.read_text()

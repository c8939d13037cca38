"""A cloud that lost its folder, with and without the backup that docs/operations.md makes."""
import shutil
import subprocess
import urllib.parse

import pytest

from bench.lab import api
from tests.e2e import support


@pytest.fixture
def lose_cloud(binary, cloud, programs, folder, model):
    """Ends the cloud, keeps of its folder what is named (in a tar archive, as in the document), and starts it again. Whether
    its key is the same."""

    def lose_cloud(*keep):
        key = api.request("GET", f"{cloud.url}/v1/key")
        archive, data = folder / "backup.tar", folder / "cloud"
        subprocess.run(["tar", "-C", data, "-cf", archive, *keep], check=True)
        cloud.stop()
        shutil.rmtree(data)
        data.mkdir()
        subprocess.run(["tar", "-C", data, "-xf", archive], check=True)
        port = urllib.parse.urlsplit(cloud.url).port
        again = programs.start([binary, "cloud", "--model", model, "--port", port, "--data", data], "again")
        again.wait_listening()
        return key == api.request("GET", f"{again.url}/v1/key")
    return lose_cloud


def test_a_restored_cloud_goes_on_where_it_was(cloud, edge, ask, start_edge, lose_cloud, folder):
    before = ask(edge)
    edge.stop()
    shutil.rmtree(folder / "edge" / "edge" / "packs")
    assert lose_cloud("cloud/signing.key", "cloud/contexts")
    edge = start_edge(cloud, name="edge")  # which has seen the cloud's key
    support.wait_for_context(edge, before.extension["context"])
    after = ask(edge)
    assert after.suppliers == {"cloud"}
    assert after.choices == before.choices


def test_a_cloud_with_a_new_key_is_refused_until_its_edge_forgets_the_old_one(cloud, edge, ask, start_edge, lose_cloud,
                                                                              folder):
    before = ask(edge)
    edge.stop()
    shutil.rmtree(folder / "edge" / "edge" / "packs")
    assert not lose_cloud("cloud/contexts")
    edge = start_edge(cloud, name="edge")
    support.wait_for_context(edge, before.extension["context"])
    refused = ask(edge)
    assert refused.suppliers == {"compute"}
    assert "the trusted key is" in refused.note
    assert refused.choices == before.choices
    edge.stop()
    for kept in (folder / "edge" / "edge").glob("cloud-key-*"):
        kept.unlink()
    edge = start_edge(cloud, name="edge")
    support.wait_for_context(edge, before.extension["context"])
    assert ask(edge).suppliers == {"cloud"}

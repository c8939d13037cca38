"""Clouds and edges whose model is computed on a device. They need one: `./dev test vulkan` runs them on software Vulkan."""
import os

import pytest

from tests.e2e import support

DEVICE = os.environ.get("CELSLM_TEST_DEVICE")
pytestmark = pytest.mark.skipif(DEVICE is None, reason="no device: './dev test vulkan' has one")


def test_an_edge_answers_from_kv_that_a_clouds_device_computed(start, start_edge, share, ask, local_edge, question):
    cloud = start("cloud", "--device", DEVICE)
    handle = share(cloud)
    edge = start_edge(cloud, "--device", "cpu")
    support.wait_for_context(edge, handle)
    fetched, computed = ask(edge), ask(local_edge)
    assert fetched.sources == {"cloud"}
    assert fetched.text == computed.text
    assert question["answer"] in fetched.text


def test_nothing_of_a_devices_context_is_computed_by_a_cpu_unless_that_is_allowed(start, share, ask, celslm, folder):
    cloud = start("cloud", "--device", DEVICE)
    handle = share(cloud)
    # It would rather compute: with a cloud of its own class it computes most layers.
    edge = start("edge", "--cloud", cloud.url, "--device", "cpu", "--prefer", "bytes")
    support.wait_for_context(edge, handle)
    assert ask(edge).suppliers == {"cloud"}
    support.wait_for_kept_pack(edge)
    pack = next((folder / "edge").rglob("*.kvpack"))
    assert "class 3, device" in celslm("pack", "inspect", pack).stdout
    mixing = start("edge", "--cloud", cloud.url, "--device", "cpu", "--prefer", "bytes", "--mix-arithmetic", name="mixing")
    support.wait_for_context(mixing, handle)
    assert "compute" in ask(mixing).suppliers


def test_an_edge_decodes_on_its_device_behind_a_clouds_context(cloud, start_edge, share, ask, question):
    handle = share(cloud)
    edge = start_edge(cloud, "--device", DEVICE)
    support.wait_for_context(edge, handle)
    answer = ask(edge)
    assert answer.sources == {"cloud"}
    assert question["answer"] in answer.text


def test_an_edge_computes_and_decodes_on_its_device(start, context_file, ask, question):
    edge = start("edge", "--context", context_file, "--device", DEVICE)
    answer = ask(edge)
    assert answer.sources == {"compute"}
    assert question["answer"] in answer.text


def test_some_layers_stay_on_the_cpu(start, context_file, ask, question):
    edge = start("edge", "--context", context_file, "--device", f"{DEVICE}:1")
    assert question["answer"] in ask(edge).text


def test_a_real_models_answer_is_the_cpus(start, pretrained, folder):
    model = pretrained("smollm2-135m")
    text = "The ferry to Skarholm leaves at 7:40 every morning except Sunday, from the northern pier. " * 4
    (folder / "ferry.txt").write_text(text, encoding="utf-8")
    patience_s = 2 * support.PATIENCE_S  # a software GPU's shaders are made at their first use

    def answer(device):
        edge = start("edge", "--context", folder / "ferry.txt", "--device", device, model=model, name=device)
        return support.ask(edge, text, "When does the ferry leave?", max_tokens=8, timeout_s=patience_s).text
    assert answer(DEVICE) == answer("cpu")


def test_doctor_lists_the_device(celslm):
    found = celslm("doctor", "--port", "0").stdout
    assert f"{DEVICE}: " in found
    assert "--device auto uses cpu" in found, "software is used only by name"


def test_a_device_that_is_not_there_is_refused(celslm, model):
    refused = celslm("cloud", "--model", model, "--port", "0", "--device", "CUDA7")
    support.refused(refused, "no device 'CUDA7' here", DEVICE)


def test_a_model_that_does_not_fit_is_refused_with_both_sizes(celslm, model, folder):
    refused = celslm("cloud", "--model", model, "--port", "0", "--data", folder, "--device", DEVICE,
                     "--device-memory", "1MB")
    support.refused(refused, f"{DEVICE}: ", "layers needs", "1.0 MB are free")

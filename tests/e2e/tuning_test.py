"""Tunings: written by a trainer, judged, served by a cloud, applied by an edge, and refused where they may not be used."""
import pytest

from bench.lab import api
from tests.e2e import support, tunings
from tests.e2e.support import refused


@pytest.fixture
def plain_cloud(start):
    """To ask for the model's id and shape."""
    return start("cloud", name="plain-cloud")


@pytest.fixture
def make(celslm, folder, plain_cloud):
    """A tuning of the small model that passed its gate."""
    model_id, shape = tunings.model_of(plain_cloud)

    def make(name, seed):
        path = tunings.write(folder / name, model_id, shape, seed)
        tunings.judge(celslm, path, model_id)
        return path
    return make


@pytest.fixture
def tuning(make):
    return make("one.tuning", 1)


@pytest.fixture
def tuned_cloud(start, tuning):
    return start("cloud", "--tuning", tuning)


def serve(model, folder):
    return "--model", model, "--port", 0, "--data", folder / "data", "--tuning"


def packs_computed(cloud):
    lines = api.request("GET", f"{cloud.url}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("celslm_cloud_packs_computed_total{"))


def test_fetched_and_computed_are_the_same_with_a_tuning(tuned_cloud, tuning, start_edge, start, share, context_file, ask,
                                                         local_edge):
    handle = share(tuned_cloud)
    edge = start_edge(tuned_cloud, "--tuning", tuning)
    support.wait_for_context(edge, handle)
    fetched = ask(edge)
    computed = ask(start("edge", "--context", context_file, "--tuning", tuning, name="computing"))
    assert (fetched.sources, fetched.provenances) == ({"cloud"}, {"tuned"})
    assert (computed.sources, computed.provenances) == ({"compute"}, {"tuned"})
    assert fetched.choices == computed.choices
    assert fetched.choices != ask(local_edge).choices, "or nothing was tuned"


def test_an_edge_without_a_tuning_gets_the_models_own_kv(tuned_cloud, start_edge, share, ask, local_edge):
    edge = start_edge(tuned_cloud)
    share(tuned_cloud, edge)
    answer = ask(edge)
    assert answer.provenances == {"proxy"}
    assert answer.choices == ask(local_edge).choices


def test_nodes_with_different_tunings_do_not_share_kv(tuned_cloud, make, start_edge, start, share, context_file, ask):
    other = make("other.tuning", 2)
    handle = share(tuned_cloud)
    edge = start_edge(tuned_cloud, "--tuning", other)
    support.wait_for_context(edge, handle)
    answer = ask(edge)
    assert (answer.sources, answer.provenances) == ({"compute"}, {"tuned"})
    assert "does not have this edge's tuning" in answer.note
    assert answer.choices == ask(start("edge", "--context", context_file, "--tuning", other, name="computing")).choices
    assert edge.log_path.read_text().count("the cloud does not have the tuning") == 1
    assert packs_computed(tuned_cloud) == 0


def test_the_gate_is_shown_with_the_context(tuned_cloud, tuning, share, celslm):
    handle = share(tuned_cloud)
    [guidance] = api.request("GET", f"{tuned_cloud.url}/v1/contexts/{handle}")["guidance"]
    _, tuning_id = tunings.shown(celslm, tuning)
    assert (guidance["provenance"], guidance["id"]) == ("tuned", tuning_id)
    assert guidance["gate"]["f1"]["interval"] == [0.05, 0.15]
    shown = celslm("context", "show", handle, "--cloud", tuned_cloud.url)
    assert shown.returncode == 0, shown.stderr
    assert tuning_id in shown.stdout and "+10.00 [+5.00, +15.00] %" in shown.stdout


def test_only_what_was_judged_and_passed_is_served(celslm, folder, plain_cloud, model):
    model_id, shape = tunings.model_of(plain_cloud)
    path = tunings.write(folder / "x.tuning", model_id, shape)
    serving = [[kind, *serve(model, folder), path] for kind in ("cloud", "edge")]
    for command in serving:
        refused(celslm(*command), "x.tuning", "was not judged")
    worse = tunings.change(0.3, 0.25, -0.1, -0.01)
    tunings.judge(celslm, path, model_id, state="refused", f1=worse,
                  sets=[{"set": "a", "questions": 40, "f1": worse, "contains": worse}])
    assert "gate: refused: F1 is not better" in tunings.shown(celslm, path)[0]
    for command in serving:
        refused(celslm(*command), "x.tuning", "its gate refused it")


def test_a_file_that_was_changed_is_refused(celslm, folder, tuning, model):
    data = bytearray(tuning.read_bytes())
    data[-1] ^= 1  # in a constant
    forged = folder / "forged.tuning"
    forged.write_bytes(data)
    for kind in ("cloud", "edge"):
        refused(celslm(kind, *serve(model, folder), forged), "forged.tuning", "changed or forged")
    forged.write_bytes(data[:200])
    refused(celslm("tuning", "show", forged), "forged.tuning", "cut short")


def test_a_tuning_of_another_model_is_refused(celslm, folder, model):
    path = tunings.write(folder / "x.tuning", "ab" * 32, (2, 4))
    tunings.judge(celslm, path, "ab" * 32)
    for kind in ("cloud", "edge"):
        refused(celslm(kind, *serve(model, folder), path), "x.tuning", "ab" * 32)


def test_a_gate_of_another_tuning_or_with_wrong_figures_is_not_stored(celslm, folder, plain_cloud):
    model_id, shape = tunings.model_of(plain_cloud)
    path = tunings.write(folder / "x.tuning", model_id, shape)
    before = path.read_bytes()
    with pytest.raises(AssertionError, match="the gate is of the tuning"):
        tunings.judge(celslm, path, model_id, tuning="cd" * 32)
    with pytest.raises(AssertionError, match="its figures give 'passed'"):
        tunings.judge(celslm, path, model_id, state="refused")
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments, words", [(["--guidance", "tuned"], "--tuning FILE belong together"),
                                              (["--guidance", "none", "--tuning", "x"], "belong together")])
def test_guidance_and_tuning_go_together(celslm, folder, model, arguments, words):
    refused(celslm("edge", "--model", model, "--port", 0, "--data", folder, *arguments), words)

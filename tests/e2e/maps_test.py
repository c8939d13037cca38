"""Layer maps: fitted, judged, served by a cloud, used by an edge, and refused where they are no good."""
import json

import pytest

from bench.lab import models
from tests.e2e import support
from tests.e2e.support import refused

WORLDS = support.MODELS / "worlds"
TEXT = support.MODELS / "text" / "heldout-long.txt"
QUESTIONS = ("--questions", WORLDS / "large.json")
FIT_PATIENCE_S = 600  # fits and reports take seconds on a quiet machine, minutes on a busy one


@pytest.fixture(scope="module")
def large():
    return models.demo_model("large")


@pytest.fixture(scope="module")
def fit(celslm, model, tmp_path_factory):
    """Fits a map from `source` to the small model; returns its path."""
    folder = tmp_path_factory.mktemp("maps")

    def fit(name, source, *options):
        out = folder / name
        fitted = celslm("align", "fit", "--from", source, "--to", model, "--text", TEXT, "--text", WORLDS / "small.json",
                        "-o", out,
                        "-t", 1, *options, timeout_s=FIT_PATIENCE_S)
        assert fitted.returncode == 0, fitted.stderr
        return out
    return fit


@pytest.fixture(scope="module")
def report(celslm, model):
    """Judges a map from `source` to the small model."""

    def report(layer_map, source, *options):
        return celslm("align", "report", layer_map, "--from", source, "--to", model, "-t", 1, *options,
                      timeout_s=FIT_PATIENCE_S)
    return report


@pytest.fixture(scope="module")
def unjudged_map(fit, model):
    """Of the small model to itself."""
    return fit("good.map", model, "--lambda", "1e-6", "--precision", "f32")


@pytest.fixture(scope="module")
def judged(unjudged_map, report, model):
    """What the report on that map printed; with it the map has its gate."""
    out = report(unjudged_map, model, *QUESTIONS, "--json", unjudged_map.with_suffix(".json"), "--write-gate")
    assert out.returncode == 0, out.stderr
    return out.stdout


@pytest.fixture
def good_map(unjudged_map, judged):
    """It passed its gate."""
    return unjudged_map


@pytest.fixture
def mapped_cloud(start, good_map):
    return start("cloud", "--map", good_map)


@pytest.fixture
def start_mapped_edge(start, share):
    """An edge that reads the world's context through its cloud's map."""

    def start_mapped_edge(cloud, *arguments):
        handle = share(cloud)
        edge = start("edge", "--cloud", cloud.url, "--guidance", "mapped", *arguments)
        support.wait_for_context(edge, handle)
        return edge
    return start_mapped_edge


def test_a_map_of_a_model_to_itself_passes_its_gate(good_map, judged):
    assert "passed from layer 0 on" in judged
    written = json.loads(good_map.with_suffix(".json").read_text())
    assert len(written["layers"]) == 2
    assert {"native", "mapped from layer 0"} <= {observation["kv"] for observation in written["observations"]}


def test_an_edge_reads_a_context_through_the_map(mapped_cloud, start_mapped_edge, ask, question):
    answer = ask(start_mapped_edge(mapped_cloud))
    assert {(layer["source"], layer["provenance"]) for layer in answer.layers} == {("cloud", "mapped")}
    assert question["answer"] in answer.text


def test_an_edge_that_did_not_ask_for_mapped_kv_gets_exact_kv(mapped_cloud, start_edge, share, ask):
    edge = start_edge(mapped_cloud)
    share(mapped_cloud, edge)
    assert ask(edge).provenances == {"proxy"}


def test_an_edge_whose_cloud_has_no_map_uses_its_own_kv_and_gives_the_reason(cloud, start_mapped_edge, ask, question):
    answer = ask(start_mapped_edge(cloud, *support.FETCH_FIRST))
    assert "no map" in answer.note
    assert answer.provenances == {"proxy"}
    assert question["answer"] in answer.text


def test_an_edge_whose_mapped_cloud_dies_computes_natively(mapped_cloud, start_mapped_edge, ask, question):
    edge = start_mapped_edge(mapped_cloud)
    mapped_cloud.kill()
    answer = ask(edge)
    assert answer.provenances == {"native"}
    assert question["answer"] in answer.text


def test_a_map_that_was_never_judged_or_failed_its_gate_is_not_applied(celslm, fit, report, folder, model, large):
    bad = fit("bad.map", large)
    serve = ["cloud", "--model", model, "--model", large, "--port", 0, "--data", folder / "bad", "--map", bad]
    refused(celslm(*serve), "not judged")
    judged = report(bad, large, *QUESTIONS, "--write-gate")
    assert judged.returncode == 0, judged.stderr
    assert "gate: refused" in judged.stdout
    refused(celslm(*serve), "refused", "correct")


def test_a_report_on_calibration_texts_is_refused(good_map, report, model):
    refused(report(good_map, model, "--text", TEXT), "among those that the map was fitted on")


def test_a_map_of_other_models_is_refused(good_map, report, large):
    refused(report(good_map, large, *QUESTIONS), "the map's source is model")


def test_the_small_model_answers_better_through_the_large_ones_kv(start, start_mapped_edge, share, world, ask, large):
    cloud = start("cloud", "--model", large, "--map", support.MODELS / "celslm-demo-large-to-small.map")
    edge = start_mapped_edge(cloud)
    assert ask(edge).provenances == {"fused"}
    alone = start("edge", name="alone")

    def right_answers(edge):
        return sum(q["answer"] in ask(edge, q["question"]).text for q in world["questions"])
    assert right_answers(edge) > right_answers(alone)

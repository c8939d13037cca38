"""A model whose architecture celslm has no graph for: libllama runs it, and its contexts travel as states."""
import json

import pytest

from bench.lab import api, models
from bench.lab.peer import LlamaServer
from tests.e2e import support
from tests.e2e.crowd import run_many
from tests.e2e.foreign_models import under_another_name


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The small demo model's weights as a model of another architecture: what it answers is known."""
    return under_another_name(models.demo_model("small"), tmp_path_factory.mktemp("foreign") / "foreign.gguf")


@pytest.fixture
def foreign_edge(start):
    def foreign_edge(*arguments, name="edge"):
        return start("edge", "--codec", "auto", *arguments, name=name)
    return foreign_edge


@pytest.fixture
def ask_plainly():
    return lambda edge: api.request("POST", f"{edge.url}/v1/completions", {"prompt": "The", "max_tokens": 4})


@pytest.fixture
def key_of(celslm):
    def key_of(cloud):
        return api.request("GET", f"{cloud.url}/v1/key")["public_key"]
    return key_of


def text(answer):
    return answer.choices[0]["message"]["content"]


def test_an_edge_answers_as_llama_server_does(foreign_edge, programs, model, world):
    edge = foreign_edge()
    body = {"prompt": world["context"], "max_tokens": 24, "temperature": 0}
    answer = api.request("POST", f"{edge.url}/v1/completions", body)
    assert answer["x_celslm"]["engine"] == "libllama"
    with LlamaServer(programs, model, 4096) as peer:
        expected = api.request("POST", f"{peer.url}/v1/completions", {**body, "top_k": 1})
    assert answer["choices"][0]["text"] == expected["choices"][0]["text"]
    assert "libllama runs the model" in edge.log_path.read_text()


def test_a_feature_that_our_graphs_lack_is_no_reason_to_refuse_a_model(start, celslm, tmp_path, ask_plainly):
    odd = under_another_name(models.demo_model("small"), tmp_path / "odd.gguf", "llama",
                             numbers=[("attention.sliding_window", 64)])
    edge = start("edge", "--codec", "auto", model=odd)
    assert ask_plainly(edge)["x_celslm"]["engine"] == "libllama"
    why = "sliding windows are not supported for llama"
    assert why in edge.log_path.read_text()
    found = celslm("doctor", "--model", odd, "--port", "0").stdout
    assert why in found
    assert "libllama runs it" in found


def test_doctor_names_what_such_a_model_gives_up(celslm, model):
    found = celslm("doctor", "--model", model, "--port", "0").stdout
    for part in ("no graph here for the architecture 'internlm2'", "libllama runs it", "layer by layer", "codecs"):
        assert part in found


def test_users_who_share_a_context_get_the_answers_of_our_engine(foreign_edge, start, context_file, world):
    edge = foreign_edge("--context", context_file)
    ours = start("edge", "--context", context_file, name="ours", model=models.demo_model("small"))
    cases = [(world["context"], q["question"]) for q in models.few_questions(world)]
    expected = {case: text(support.ask(ours, *case)) for case in cases}
    assert run_many(edge, cases * 8, expected) == []


def test_a_contexts_state_comes_from_the_cloud(start, foreign_edge, share, key_of, ask):
    cloud = start("cloud")
    handle = share(cloud)
    edge = foreign_edge("--cloud", cloud.url, "--cloud-key", key_of(cloud), *support.FETCH_FIRST)
    support.wait_for_context(edge, handle)
    fetched = ask(edge)
    assert fetched.sources == {"cloud"}
    assert fetched.extension["codec"] == "opaque"
    support.wait_for_kept_pack(edge)
    assert text(fetched) == text(ask(foreign_edge(name="alone")))


def test_without_a_named_key_a_context_is_computed(start, foreign_edge, share, ask):
    cloud = start("cloud")
    handle = share(cloud)
    edge = foreign_edge("--cloud", cloud.url, *support.FETCH_FIRST)
    support.wait_for_context(edge, handle)
    answer = ask(edge)
    assert answer.sources == {"compute"}
    assert "--cloud-key" in answer.note


@pytest.mark.parametrize("arguments", [("--codec", "t4"), ("--context-kv", "q8"), ("--guidance", "mapped")])
def test_what_needs_our_own_layers_is_refused(celslm, model, folder, arguments):
    result = celslm("edge", "--model", model, "--data", folder, "--port", 0, *arguments)
    support.refused(result, arguments[0], "libllama")


def test_the_model_command_shows_its_engine(celslm, model):
    facts = json.loads(celslm("model", model, "--json").stdout)
    assert (facts["engine"], facts["architecture"]) == ("libllama", "internlm2")
    ours = json.loads(celslm("model", models.demo_model("small"), "--json").stdout)
    assert ours["engine"] == "celslm"


def test_answers_keep_to_a_schema(foreign_edge):
    edge = foreign_edge()
    schema = {"type": "object", "properties": {"crate": {"type": "integer"}}, "required": ["crate"],
              "additionalProperties": False}
    body = {"messages": [{"role": "user", "content": "Which crate?"}], "max_tokens": 40,
            "response_format": {"type": "json_schema", "json_schema": {"name": "crate", "schema": schema}}}
    answer = api.request("POST", f"{edge.url}/v1/chat/completions", body, support.PATIENCE_S)
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"])["crate"], int)

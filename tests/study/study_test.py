"""tools/study: the model in PyTorch is the one that celslm runs, and training makes it answer better."""
import math
import random
import subprocess
import sys
import types

import gguf
import pytest
import torch
import torch.nn.functional as F

from bench.lab.models import demo_model
from bench.lab.programs import ROOT, built, celslm, json_lines_of

sys.path.insert(0, str(ROOT / "tools" / "study"))

import language_model  # noqa: E402
import material  # noqa: E402
import reading  # noqa: E402
import studied  # noqa: E402
import tuning  # noqa: E402
import tuning_file  # noqa: E402

MODEL = demo_model("small")
WORLD = ROOT / "models" / "worlds" / "small.json"


def quiet(_):
    pass


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return language_model.LanguageModel(MODEL)


@pytest.fixture(scope="module")
def documents():
    return material.documents([WORLD], MODEL, celslm("release"), language_model.end_of_turn(MODEL))[:2]


@pytest.fixture(scope="module")
def contexts(model, documents):
    return tuning.contexts_of(model, documents, quiet, None)


def asked(documents):
    return [(number, question) for number, document in enumerate(documents) for question in document.asked]


def test_the_model_answers_as_celslm_does(model, documents, contexts, tmp_path):
    from bench import questions
    tasks = tmp_path / "tasks.jsonl"
    worlds = questions.read(WORLD)[:len(documents)]
    tasks.write_text("".join(material.json.dumps(
        {"context": number, "system": world.system, "reads": ["own"],
         "questions": [{"prompt": q.prompt, "gold": q.gold} for q in world.questions]}) + "\n"
        for number, world in enumerate(worlds)), encoding="utf-8")
    lines = json_lines_of(built("celslm_bench_quality", "release", "bench"), "--model", MODEL, "--tasks", tasks)
    engines = [answer["log_p"] / answer["gold_tokens"] for line in lines if "answers" in line for answer in line["answers"]]
    ours = []
    for document, context in zip(documents, contexts):
        batch = material.batch_of(document.asked)
        log_q = reading.predicted(model, context, batch).log_softmax(-1).gather(-1, batch.targets[:, None])[:, 0]
        ours += [each[:-1].mean().item() for each in log_q.split([len(a.answer) for a in document.asked])]
    assert len(ours) == len(engines) > 20
    assert max(abs(a - b) for a, b in zip(ours, engines)) < 0.1
    assert abs(sum(ours) - sum(engines)) / len(ours) < 0.01


def test_a_tuning_learns_what_it_is_taught_and_celslm_reads_its_file(model, documents, contexts, tmp_path):
    options = types.SimpleNamespace(seed=1, shuffle_contexts=False, per_context=8, contexts_per_step=1, budget=160,
                                    rate=0.05, gold=1.0, teacher=0.0, plain=0.3)
    trained = tuning.train(model, documents, contexts, options, quiet)
    before, after = (sum(sum(each) for each in tuning.judged(model, documents, contexts, change)) / len(asked(documents))
                     for change in (None, trained.change()))
    assert after > before + 0.02
    path = tmp_path / "tuning.gguf"
    tuning_file.write(path, material.model_id(celslm("release"), MODEL), "none", {}, trained.constants().detach())
    assert torch.equal(tuning_file.read(path), trained.constants())
    tasks = tmp_path / "tasks.jsonl"
    questions = '"questions": [{"prompt": "?", "gold": "x"}]'
    tasks.write_text('{"context": 0, "system": "A text.", "reads": ["tuned"], ' + questions + "}\n", encoding="utf-8")
    lines = json_lines_of(built("celslm_bench_quality", "release", "bench"), "--model", MODEL, "--tasks", tasks, "--tuning",
                          path)
    assert lines[-1]["reads"] == "tuned"


def test_a_run_that_was_stopped_continues(model, documents, contexts, tmp_path, monkeypatch):
    options = types.SimpleNamespace(seed=1, shuffle_contexts=False, per_context=4, contexts_per_step=1, budget=80,
                                    rate=0.05, gold=1.0, teacher=0.0, plain=0.3)
    monkeypatch.setattr(tuning, "SAVED", 4)
    at_once = tuning.train(model, documents, contexts, options, quiet)

    def stop(text):
        raise KeyboardInterrupt(text)

    state = tmp_path / "run.state"
    with pytest.raises(KeyboardInterrupt):
        tuning.train(model, documents, contexts, options, stop, state)
    with pytest.raises(SystemExit, match="other options"):
        tuning.train(model, documents, contexts, types.SimpleNamespace(**{**vars(options), "rate": 0.1}), quiet, state)
    continued = tuning.train(model, documents, contexts, options, quiet, state)
    assert torch.equal(continued.constants(), at_once.constants())
    assert not state.exists()


def test_what_moves_the_text_itself_costs(model, documents, contexts):
    constants = torch.zeros(2, model.shape.layers, model.shape.kv_width)
    drift = lambda added: tuning.drift(model, documents[0], contexts[0], tuning.adding(added), random.Random(3)).item()
    assert drift(constants) == pytest.approx(0, abs=1e-6)
    little, much = drift(constants + 0.05), drift(constants + 0.5)
    assert 0 < little < much


def test_all_rows_are_the_context(model, documents, contexts):
    context, batch = contexts[0], material.batch_of(documents[0].asked)
    weights = studied.attended(model, context, [batch])
    rows = studied.chosen(model, context, weights, context.tokens)
    assert torch.equal(rows.k[0], context.kv[0][0].float())
    assert torch.allclose(reading.predicted(model, rows, batch), reading.predicted(model, context, batch), atol=1e-3)


def test_few_rows_learn_to_stand_for_all(model, documents, contexts):
    context, document = contexts[0], documents[0]
    batch = material.batch_of(document.asked)
    start = studied.chosen(model, context, studied.attended(model, context, [batch]), context.tokens // 8)
    assert start.k.shape[1] == context.tokens // 8
    options = types.SimpleNamespace(seed=1, passes=12, per_step=8, rate=0.1, gold=1.0, teacher=0.0)
    trained = studied.train(model, context, start, document.asked, options, quiet)
    loss = lambda rows: reading.loss_of(reading.predicted(model, rows, batch), batch, 1.0, 0.0)[1] / len(document.asked)
    assert loss(trained) < loss(start) * 0.8


def test_each_context_gets_a_file(documents, tmp_path):
    train = [sys.executable, ROOT / "tools" / "study" / "train.py", "contexts", "--model", MODEL, "--questions", WORLD,
             "--celslm", celslm("release"), "--kv", tmp_path / "kv", "--rows", "1/4", "--passes", "1",
             "--out", tmp_path / "out"]
    subprocess.run(train, check=True, capture_output=True)
    files = sorted((tmp_path / "out").iterdir())
    assert documents[0].handle + ".gguf" in [file.name for file in files] and len(files) == 3
    contents = gguf.GGUFReader(tmp_path / "out" / (documents[0].handle + ".gguf"))
    shapes = {t.name: list(t.shape) for t in contents.tensors}
    n_rows = round(len(documents[0].context) / 4)
    assert shapes["tokens"] == [len(documents[0].context)]
    assert shapes["layer.1.k"] == [128, n_rows] and shapes["layer.1.positions"] == [n_rows, 4]
    written = [file.stat().st_mtime_ns for file in files]
    subprocess.run(train, check=True, capture_output=True)
    assert written == [file.stat().st_mtime_ns for file in files]


def test_a_divergence_counts_the_tokens_that_are_not_listed():
    log_p = torch.tensor([[0.5, 0.3, 0.2]]).log()
    log_q = torch.tensor([[0.6, 0.2, 0.2]]).log()
    listed = reading.divergence(log_p[:, :2], log_q[:, :2])
    assert listed.item() == pytest.approx(F.kl_div(log_q, log_p, log_target=True, reduction="sum").item(), abs=1e-5)
    assert reading.divergence(log_p, log_p).abs().item() < 1e-5


def test_questions_come_in_turn(documents):
    rng = tuning.random.Random(1)
    groups = list(tuning.drawn(documents, 4, 40, rng))
    assert [number for number, _ in groups[:2]] in ([0, 1], [1, 0])
    first = [id(a) for number, some in groups if number == 0 for a in some]
    assert len(set(first)) == min(len(first), len(documents[0].asked))


def test_only_models_that_are_known(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "gemma3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(SystemExit, match="gemma3"):
        language_model.LanguageModel(tmp_path / "other.gguf")


def test_rope_turns_as_its_formula_says():
    shape = types.SimpleNamespace(interleaved=False)
    halves = language_model.LanguageModel.rotated(types.SimpleNamespace(shape=shape), torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
                                                  (torch.tensor([[math.cos(1), 1.0]]), torch.tensor([[math.sin(1), 0.0]])))
    assert halves[0].tolist() == pytest.approx([math.cos(1), 0, math.sin(1), 0])

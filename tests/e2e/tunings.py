"""Tunings for tests: files that a trainer could have written, with random constants, and gates as `bench quality` writes
them."""
import json

import gguf
import numpy

from bench.lab import api


def write(path, model_id, shape, seed=1, scale=0.3):
    """shape: layers, values of K or V of a token."""
    random = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "celslm-tuning")
    writer.add_uint32("celslm.tuning.version", 1)
    writer.add_string("celslm.tuning.model", model_id)
    writer.add_string("celslm.tuning.teacher", "nobody")
    writer.add_string("celslm.tuning.corpus", f"random numbers, seed {seed}")
    for name in ("k", "v"):
        writer.add_tensor(name, (scale * random.standard_normal(shape)).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model_of(program):
    """Id, and shape of a tuning, of a cloud's first model."""
    hosted = api.request("GET", f"{program.url}/v1/models")["models"][0]
    shape = hosted["fingerprint"]
    return hosted["id"], (shape["n_layers"], shape["n_kv_heads"] * shape["head_dim"])


def change(own, tuned, low, high):
    return {"own": own, "tuned": tuned, "interval": [low, high]}


def gate(tuning_id, model_id, **changed):
    """One that passes."""
    f1, contains = change(0.3, 0.4, 0.05, 0.15), change(0.3, 0.3, -0.02, 0.02)
    return {"version": 1, "state": "passed", "tuning": tuning_id, "model": model_id, "documents": 20, "questions": 40,
            "f1": f1, "contains": contains,
            "sets": [{"set": "all of them", "questions": 40, "f1": f1, "contains": contains}],
            "plain_text": {"documents": 20, "log_p": change(-3.0, -3.0, -0.01, 0.01)}, **changed}


def shown(celslm, path):
    """What `celslm tuning show` prints, and the id in it."""
    result = celslm("tuning", "show", path)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stdout.split()[1]


def judge(celslm, path, model_id, **changed):
    """Puts a gate into the file, which passes unless `changed` makes it another; returns the tuning's id."""
    gate_path = path.with_suffix(".json")
    gate_path.write_text(json.dumps(gate(shown(celslm, path)[1], model_id, **changed)), encoding="utf-8")
    result = celslm("tuning", "judge", path, "--gate", gate_path, "--key", path.with_name("judge.key"))
    assert result.returncode == 0, result.stderr
    return shown(celslm, path)[1]

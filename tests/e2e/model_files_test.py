"""Models in files as people have them: in several parts, with another alignment."""
import json
import subprocess

import gguf
import numpy as np
import pytest


def model_id(celslm, path):
    result = celslm("model", path, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["model_id"]


def aligned(source, path, alignment):
    """The same model with its tensors at multiples of `alignment`."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    writer.data_alignment = alignment
    writer.add_custom_alignment(alignment)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.alignment"):
            continue
        writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_any_alignment_of_the_format(celslm, folder, model, alignment):
    path = folder / "aligned.gguf"
    aligned(model, path, alignment)
    assert gguf.GGUFReader(path).alignment == alignment
    assert model_id(celslm, path) == model_id(celslm, model)


def test_a_model_in_parts_answers_as_the_model_does(celslm, folder, model, start, local_edge, ask):
    done = subprocess.run(["llama-gguf-split", "--split-max-tensors", "8", model, folder / "m"], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = sorted(folder.glob("m-*.gguf"))
    assert len(parts) > 2
    assert model_id(celslm, parts[0]) == model_id(celslm, model)
    assert ask(start("edge", name="split", model=parts[0])).choices == ask(local_edge).choices

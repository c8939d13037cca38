"""Tuning files, as docs/tuning-format.md defines them; 'celslm tuning judge' adds gate and signature."""
import json

import gguf
import numpy as np
import torch


def write(path, model_id, teacher, recipe, constants):
    """constants: [2, layers, kv_width], of K and of V."""
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "celslm-tuning")
    writer.add_uint32("celslm.tuning.version", 1)
    writer.add_string("celslm.tuning.model", model_id)
    writer.add_string("celslm.tuning.teacher", teacher)
    writer.add_string("celslm.tuning.corpus", json.dumps(recipe))
    for name, plane in zip("kv", constants.float().numpy()):
        writer.add_tensor(name, np.ascontiguousarray(plane))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def read(path):
    """The constants; for measuring here. celslm checks such files itself."""
    tensors = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
    return torch.stack([torch.from_numpy(np.array(tensors[name])) for name in "kv"])

"""Studied contexts, as docs/studied-format.md defines them."""
import json

import gguf
import numpy as np


def write(path, model_id, document, rows, recipe):
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "celslm-studied")
    writer.add_uint32("celslm.studied.version", 1)
    writer.add_string("celslm.studied.model", model_id)
    writer.add_string("celslm.studied.context", document.handle)
    writer.add_string("celslm.studied.recipe", json.dumps(recipe))
    writer.add_tensor("tokens", np.array(document.context, np.int32))
    for layer in range(len(rows.k)):
        for name, plane, kind in (("k", rows.k, np.float16), ("v", rows.v, np.float16),
                                  ("positions", rows.positions, np.int32), ("log_mass", rows.log_mass, np.float32)):
            writer.add_tensor(f"layer.{layer}.{name}", np.ascontiguousarray(plane[layer].numpy().astype(kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)

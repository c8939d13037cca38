"""Models that only libllama runs, made from the demo family's."""
import gguf


def under_another_name(source, path, architecture="internlm2", numbers=()):
    """The same weights and tokenizer as a model of an architecture that has the same layers, and that celslm has no graph
    for. numbers: (key, value) pairs of the architecture in addition."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        name = field.name.replace("llama.", f"{architecture}.", 1) if field.name.startswith("llama.") else field.name
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    for key, value in numbers:
        writer.add_uint32(f"{architecture}.{key}", value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        if tensor.name == "token_embd.weight" and all(t.name != "output.weight" for t in reader.tensors):
            writer.add_tensor("output.weight", tensor.data, raw_dtype=tensor.tensor_type)  # which others do not tie
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

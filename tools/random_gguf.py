#!/usr/bin/env python3
"""Writes a GGUF with the exact shape of a published model and random weights, for measuring speed without its weights.

    tools/random_gguf.py qwen2.5-0.5b build/bench-models/qwen2.5-0.5b-f16.gguf
    llama-quantize build/bench-models/qwen2.5-0.5b-f16.gguf build/bench-models/qwen2.5-0.5b-q4_0.gguf Q4_0

Time per token depends on shapes and types, not on values, with one exception: values so large that they become infinities
take slow paths. So weights are normally distributed with the standard deviation of trained models (0.02). The vocabulary is
byte-level BPE (256 bytes, one merge, fillers, ChatML's two control tokens): any text can be tokenized, one token per byte.

Weights are F16; llama-quantize makes the other types. For Q4_0 and shapes with tied embeddings it writes Q4_0 matrices and
a token embedding (which is also the output head) in Q6_K, or in Q8_0 if rows are not a multiple of 256.
"""

import argparse
import dataclasses
import pathlib
import sys

import gguf
import numpy

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ff: int
    vocabulary: int
    rope_base: float
    epsilon: float
    context: int = 32768

    @property
    def head(self) -> int:
        return self.width // self.heads


SHAPES = {
    "tiny": Shape("qwen2", 4, 64, 2, 1, 128, 512, 1e6, 1e-6),  # not a published model: for smoke tests
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 14, 2, 4864, 151936, 1e6, 1e-6),
    "qwen2.5-1.5b": Shape("qwen2", 28, 1536, 12, 2, 8960, 151936, 1e6, 1e-6),
    "smollm2-135m": Shape("llama", 30, 576, 9, 3, 1536, 49152, 1e5, 1e-5, 8192),
}


def byte_tokens() -> list[str]:
    """GPT-2's mapping of the 256 bytes to printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {b: chr(b) for b in printable}
    for i, b in enumerate(b for b in range(256) if b not in spelled):
        spelled[b] = chr(256 + i)
    return [spelled[b] for b in range(256)]


def write_metadata(out: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    out.add_name(f"{name} (random weights)")
    out.add_context_length(shape.context)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.ff)
    out.add_head_count(shape.heads)
    out.add_head_count_kv(shape.kv_heads)
    out.add_layer_norm_rms_eps(shape.epsilon)
    out.add_rope_freq_base(shape.rope_base)
    out.add_rope_dimension_count(shape.head)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def write_tokenizer(out: gguf.GGUFWriter, shape: Shape) -> None:
    tokens = byte_tokens()
    merge = f"{tokens[ord('h')]} {tokens[ord('e')]}"
    tokens.append(merge.replace(" ", ""))
    tokens += [f"<filler{i}>" for i in range(shape.vocabulary - len(tokens) - 2)]
    tokens += ["<|im_start|>", "<|im_end|>"]
    kinds = [gguf.TokenType.NORMAL] * (shape.vocabulary - 2) + [gguf.TokenType.CONTROL] * 2
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges([merge])
    out.add_eos_token_id(shape.vocabulary - 1)
    out.add_bos_token_id(shape.vocabulary - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(CHATML)


def tensors(shape: Shape, seed: int):
    """Yields (name, array). The output head is tied to token_embd, as in the original models."""
    random = numpy.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> numpy.ndarray:
        values = random.standard_normal((rows, columns), dtype=numpy.float32)
        return (values * numpy.float32(0.02)).astype(numpy.float16)

    def ones(n: int) -> numpy.ndarray:
        return numpy.ones(n, numpy.float32)

    yield "token_embd.weight", matrix(shape.vocabulary, shape.width)
    yield "output_norm.weight", ones(shape.width)
    widths = {"q": shape.heads * shape.head, "k": shape.kv_heads * shape.head, "v": shape.kv_heads * shape.head}
    for layer in range(shape.layers):
        p = f"blk.{layer}."
        yield p + "attn_norm.weight", ones(shape.width)
        for part, rows in widths.items():
            yield f"{p}attn_{part}.weight", matrix(rows, shape.width)
            if shape.architecture == "qwen2":
                yield f"{p}attn_{part}.bias", numpy.zeros(rows, numpy.float32)
        yield p + "attn_output.weight", matrix(shape.width, widths["q"])
        yield p + "ffn_norm.weight", ones(shape.width)
        yield p + "ffn_gate.weight", matrix(shape.ff, shape.width)
        yield p + "ffn_up.weight", matrix(shape.ff, shape.width)
        yield p + "ffn_down.weight", matrix(shape.width, shape.ff)


def write(name: str, path: pathlib.Path, seed: int) -> None:
    shape = SHAPES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")  # an interrupted run leaves no incomplete model
    out = gguf.GGUFWriter(unfinished, shape.architecture, use_temp_file=False)
    write_metadata(out, name, shape)
    write_tokenizer(out, shape)
    for tensor, values in tensors(shape, seed):
        out.add_tensor(tensor, values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    unfinished.rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.shape, arguments.path, arguments.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes a GGUF with the exact shape of a published model, or with the layers of an architecture, and random weights, for
measuring speed without its weights.

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
    head_width: int | None = None  # if it is not width / heads
    deviation: float = 0.02  # of weights: that of trained models
    experts: int = 0  # of a layer; their width is ff
    experts_used: int = 2
    attention_every: int = 0  # the last of so many layers has attention, the others are recurrent; 0: all have
    rotated: int | None = None  # dimensions of a head that RoPE turns, if not all
    keys: dict[str, int | float | bool | str] = dataclasses.field(default_factory=dict)  # behind "<architecture>."
    words: bool = False  # most text has 4 bytes a token, as English has: see word_merges()

    @property
    def head(self) -> int:
        return self.head_width or self.width // self.heads

    def is_recurrent(self, layer: int) -> bool:
        return self.attention_every > 0 and (layer + 1) % self.attention_every != 0


# What layers of an architecture have beside those of a Llama, as libllama's loaders want it.
NORMS_BEHIND = ("gemma3", "exaone4")  # of what attention and MLP put out
NO_NORMS_BEFORE = ("exaone4",)
HEAD_NORMS = ("qwen3", "gemma3", "hunyuan-dense", "exaone4", "qwen3moe", "lfm2", "qwen35")
OUTPUT_NORMS = {"lfm2": "token_embd_norm"}
CONVOLUTION = 3  # tokens that a short convolution reads


class DeltaNet:
    """The recurrent layers of qwen35: heads of keys and queries, heads of values, and their width."""

    def __init__(self, width: int):
        self.head = 16 if width < 256 else 128
        self.keys = 2 if width < 256 else width // 128
        self.values = 2 * self.keys
        self.convolution = 4  # tokens

    @property
    def channels(self) -> int:
        return (2 * self.keys + self.values) * self.head

    @property
    def inner(self) -> int:
        return self.values * self.head
FUSED = ("phi3",)
BIASES = ("qwen2", "gpt-oss")
OUTPUT_OF_ITS_OWN = ("gpt-oss",)


def of_one_size(architecture: str, tiny: bool, **more) -> Shape:
    """Shapes that differ by their architecture only: about 120M parameters, or next to nothing."""
    if tiny:
        sizes = {"layers": 4, "width": 64, "heads": 4, "kv_heads": 2, "ff": 96, "vocabulary": 512, "context": 1024,
                 "deviation": 0.125}  # 1 / sqrt(width): what layers add is as large as what they are added to
    else:
        sizes = {"layers": 8, "width": 1024, "heads": 16, "kv_heads": 4, "ff": 2816, "vocabulary": 32768}
    return Shape(architecture, rope_base=1e6, epsilon=1e-6, **sizes | more)


def architectures(tiny: bool) -> dict[str, Shape]:
    def shape(architecture: str, **more) -> Shape:
        return of_one_size(architecture, tiny, **more)

    window = 32 if tiny else 512
    original = 64 if tiny else 4096  # tokens, before the reach was made longer
    wide_heads = {"head_width": 32} if tiny else {"heads": 4, "kv_heads": 1, "head_width": 256}
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 16.0, "rope.scaling.original_context_length": original,
            "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.1}
    experts = {} if tiny else {"ff": 704}
    long = {"rope.scaling.original_context_length": original, "rope.scaling.attn_factor": 1.19}
    scales = {"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 1 / 64, "logit_scale": 8.0}
    return {
        "llama": shape("llama"),
        "qwen2": shape("qwen2"),
        "qwen3": shape("qwen3"),
        "gemma3": shape("gemma3", layers=6, keys={"attention.sliding_window": window}, **wide_heads),
        "smollm3": shape("smollm3"),
        "mistral3": shape("mistral3", keys=yarn),
        "phi3": shape("phi3", rotated=12 if tiny else 48, keys=long),
        "granite": shape("granite", keys=scales),
        "ernie4_5": shape("ernie4_5"),
        "hunyuan-dense": shape("hunyuan-dense"),
        # Its windows are in models of 64 layers only.
        "exaone4": shape("exaone4", **({"layers": 64, "keys": {"attention.sliding_window": window}} if tiny else {})),
        "qwen3moe": shape("qwen3moe", experts=8, **experts),
        "lfm2": shape("lfm2", attention_every=2 if tiny else 4),
        "qwen35": shape("qwen35", attention_every=2 if tiny else 4),
        "gpt-oss": shape("gpt-oss", experts=8, keys={"attention.sliding_window": window}, **experts),
    }


SHAPES = architectures(tiny=False) | {f"tiny-{name}": shape for name, shape in architectures(tiny=True).items()} | {
    "tiny": Shape("qwen2", 4, 64, 2, 1, 128, 512, 1e6, 1e-6),  # not a published model: for smoke tests
    "tiny-deep": Shape("qwen2", 24, 64, 2, 1, 128, 768, 1e6, 1e-6, words=True),  # for edges whose engines are paced
    "qwen2.5-0.5b": Shape("qwen2", 24, 896, 14, 2, 4864, 151936, 1e6, 1e-6),
    "qwen2.5-1.5b": Shape("qwen2", 28, 1536, 12, 2, 8960, 151936, 1e6, 1e-6),
    "smollm2-135m": Shape("llama", 30, 576, 9, 3, 1536, 49152, 1e5, 1e-5, 8192),
}


WORD_LETTERS = "abcdfg"  # without those of the merge that all have


def byte_tokens() -> list[str]:
    """GPT-2's mapping of the 256 bytes to printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {b: chr(b) for b in printable}
    for i, b in enumerate(b for b in range(256) if b not in spelled):
        spelled[b] = chr(256 + i)
    return [spelled[b] for b in range(256)]


def write_metadata(out: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    # Where a model's name has "phi3" in it, libllama takes the vocabulary for Phi-3's, with words that are not in this one.
    out.add_name(f"{name.replace('phi3', 'phi 3')} (random weights)")
    out.add_context_length(shape.context)
    out.add_embedding_length(shape.width)
    out.add_block_count(shape.layers)
    out.add_feed_forward_length(shape.ff)
    out.add_head_count(shape.heads)
    if shape.architecture == "lfm2":
        out.add_head_count_kv([0 if shape.is_recurrent(layer) else shape.kv_heads for layer in range(shape.layers)])
        out.add_shortconv_l_cache(CONVOLUTION)
    else:
        out.add_head_count_kv(shape.kv_heads)
    if shape.architecture == "qwen35":
        write_delta_nets(out, shape)
    out.add_layer_norm_rms_eps(shape.epsilon)
    out.add_rope_freq_base(shape.rope_base)
    out.add_rope_dimension_count(shape.rotated or shape.head)
    if shape.head_width:
        out.add_key_length(shape.head)
        out.add_value_length(shape.head)
    if shape.experts:
        out.add_expert_count(shape.experts)
        out.add_expert_used_count(shape.experts_used)
        out.add_expert_feed_forward_length(shape.ff)
    write = {int: out.add_uint32, float: out.add_float32, bool: out.add_bool, str: out.add_string}
    for key, value in shape.keys.items():
        write[type(value)](f"{shape.architecture}.{key}", value)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def write_delta_nets(out: gguf.GGUFWriter, shape: Shape) -> None:
    net = DeltaNet(shape.width)
    pairs = (shape.rotated or shape.head) // 2
    out.add_full_attention_interval(shape.attention_every)
    out.add_ssm_conv_kernel(net.convolution)
    out.add_ssm_inner_size(net.inner)
    out.add_ssm_state_size(net.head)
    out.add_ssm_time_step_rank(net.values)
    out.add_ssm_group_count(net.keys)
    out.add_rope_dimension_sections([(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0])


def word_merges(space: str) -> list[str]:
    """Merges that make one token of each of " aaa" to " ggg": of the space and their letters, one after the other."""
    beginnings, merges = [space], []
    for _ in range(3):
        merges += [f"{beginning} {letter}" for beginning in beginnings for letter in WORD_LETTERS]
        beginnings = [beginning + letter for beginning in beginnings for letter in WORD_LETTERS]
    return merges


def write_tokenizer(out: gguf.GGUFWriter, shape: Shape) -> None:
    tokens = byte_tokens()
    merges = [f"{tokens[ord('h')]} {tokens[ord('e')]}", *(word_merges(tokens[ord(" ")]) if shape.words else [])]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += [f"<filler{i}>" for i in range(shape.vocabulary - len(tokens) - 2)]
    tokens += ["<|im_start|>", "<|im_end|>"]
    kinds = [gguf.TokenType.NORMAL] * (shape.vocabulary - 2) + [gguf.TokenType.CONTROL] * 2
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_eos_token_id(shape.vocabulary - 1)
    out.add_bos_token_id(shape.vocabulary - 1)
    out.add_add_bos_token(False)
    out.add_chat_template(CHATML)


def tensors(shape: Shape, seed: int):
    """Yields (name, array). The output head is tied to token_embd, as in the original models, where libllama allows it."""
    random = numpy.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> numpy.ndarray:
        values = random.standard_normal((rows, columns), dtype=numpy.float32)
        return (values * numpy.float32(shape.deviation)).astype(numpy.float16)

    def ones(n: int) -> numpy.ndarray:
        return numpy.ones(n, numpy.float32)

    architecture = shape.architecture
    yield "token_embd.weight", matrix(shape.vocabulary, shape.width)
    yield f"{OUTPUT_NORMS.get(architecture, 'output_norm')}.weight", ones(shape.width)
    if architecture in OUTPUT_OF_ITS_OWN:
        yield "output.weight", matrix(shape.vocabulary, shape.width)
    if architecture == "phi3":
        for reach, factor in (("long", 5.0), ("short", 1.2)):
            yield f"rope_factors_{reach}.weight", ones((shape.rotated or shape.head) // 2) * numpy.float32(factor)
    with_gates = 2 if architecture == "qwen35" else 1
    widths = {"q": shape.heads * shape.head * with_gates, "k": shape.kv_heads * shape.head, "v": shape.kv_heads * shape.head}
    for layer in range(shape.layers):
        p = f"blk.{layer}."
        if architecture not in NO_NORMS_BEFORE:
            yield p + "attn_norm.weight", ones(shape.width)
            late = architecture in ("gpt-oss", "qwen35")
            yield p + ("post_attention_norm" if late else "ffn_norm") + ".weight", ones(shape.width)
        if architecture in NORMS_BEHIND:
            yield p + "post_attention_norm.weight", ones(shape.width)
            yield p + "post_ffw_norm.weight", ones(shape.width)
        if shape.is_recurrent(layer) and architecture == "qwen35":
            yield from delta_net(p, shape, matrix)
            yield from mlp(p, shape, matrix)
            continue
        if shape.is_recurrent(layer):
            yield p + "shortconv.in_proj.weight", matrix(3 * shape.width, shape.width)
            yield p + "shortconv.conv.weight", matrix(shape.width, CONVOLUTION).astype(numpy.float32)
            yield p + "shortconv.out_proj.weight", matrix(shape.width, shape.width)
            yield from mlp(p, shape, matrix)
            continue
        for part, rows in {"qkv": sum(widths.values())}.items() if architecture in FUSED else widths.items():
            yield f"{p}attn_{part}.weight", matrix(rows, shape.width)
            if architecture in BIASES:
                yield f"{p}attn_{part}.bias", numpy.zeros(rows, numpy.float32)
        if architecture in HEAD_NORMS:
            yield p + "attn_q_norm.weight", ones(shape.head)
            yield p + "attn_k_norm.weight", ones(shape.head)
        yield p + "attn_output.weight", matrix(shape.width, shape.heads * shape.head)
        if shape.experts:
            yield from experts(p, shape, matrix)
            continue
        yield from mlp(p, shape, matrix)


def delta_net(p: str, shape: Shape, matrix):
    net = DeltaNet(shape.width)
    yield p + "attn_qkv.weight", matrix(net.channels, shape.width)
    yield p + "attn_gate.weight", matrix(net.inner, shape.width)
    yield p + "ssm_conv1d.weight", matrix(net.channels, net.convolution).astype(numpy.float32)
    yield p + "ssm_dt.bias", numpy.zeros(net.values, numpy.float32)
    yield p + "ssm_a", numpy.full(net.values, -0.5, numpy.float32)
    yield p + "ssm_alpha.weight", matrix(net.values, shape.width)
    yield p + "ssm_beta.weight", matrix(net.values, shape.width)
    yield p + "ssm_norm.weight", numpy.ones(net.head, numpy.float32)
    yield p + "ssm_out.weight", matrix(shape.width, net.inner)


def mlp(p: str, shape: Shape, matrix):
    fused = shape.architecture in FUSED
    if not fused:
        yield p + "ffn_gate.weight", matrix(shape.ff, shape.width)
    yield p + "ffn_up.weight", matrix(shape.ff * (2 if fused else 1), shape.width)
    yield p + "ffn_down.weight", matrix(shape.width, shape.ff)


def experts(p: str, shape: Shape, matrix):
    """The MLPs of a layer, and what gpt-oss has beside them."""
    with_biases = shape.architecture == "gpt-oss"
    if with_biases:
        yield p + "attn_sinks.weight", numpy.zeros(shape.heads, numpy.float32)
        yield p + "attn_output.bias", numpy.zeros(shape.width, numpy.float32)
        yield p + "ffn_gate_inp.bias", numpy.zeros(shape.experts, numpy.float32)
    # Larger than other weights, so that rounding does not change who is chosen.
    yield p + "ffn_gate_inp.weight", matrix(shape.experts, shape.width).astype(numpy.float32) * numpy.float32(20)
    for part, rows, columns in (("gate", shape.ff, shape.width), ("up", shape.ff, shape.width),
                                ("down", shape.width, shape.ff)):
        values = matrix(shape.experts * rows, columns)
        yield f"{p}ffn_{part}_exps.weight", values.reshape(shape.experts, rows, columns)
        if with_biases:
            yield f"{p}ffn_{part}_exps.bias", numpy.zeros((shape.experts, rows), numpy.float32)


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

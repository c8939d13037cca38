"""Exports a checkpoint as GGUF in F16: architecture "llama", byte-level BPE ("gpt-2" pre-tokenizer), ChatML template."""
import json
import os

import gguf
import numpy as np

import model as architecture
import tokenizer

CHAT_TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
BLOCK_TENSORS = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
                 "down": "ffn_down"}
DESCRIPTIONS = {"small": "The edge's model of celslm's demo family: one look-up at a time, and plain text",
                "mid": "Between the two of celslm's demo family: chains of look-ups at less depth, and plain text",
                "large": "The cloud's model of celslm's demo family: one to three look-ups in a row, and plain text"}


def add_vocabulary(writer, size):
    with open(tokenizer.PATH) as f:
        saved = json.load(f)
    names = {number: text for text, number in saved["model"]["vocab"].items()}
    added = {a["id"]: a["content"] for a in saved["added_tokens"]}
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([added.get(i) or names.get(i) or f"<unused{i}>" for i in range(size)])
    writer.add_token_types([kinds.CONTROL if i in added else kinds.NORMAL if i in names else kinds.UNUSED
                            for i in range(size)])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in saved["model"]["merges"]])
    end = next(i for i, text in added.items() if text == "<|im_end|>")
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_bos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write(model, name, path):
    s = model.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"celslm-demo-{name}")
    writer.add_description(DESCRIPTIONS[name])
    writer.add_license("MIT")
    writer.add_context_length(s.context)
    writer.add_embedding_length(s.width)
    writer.add_block_count(s.layers)
    writer.add_feed_forward_length(s.ffn)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.heads)
    writer.add_key_length(s.head_size)
    writer.add_value_length(s.head_size)
    writer.add_rope_dimension_count(s.head_size)
    writer.add_rope_freq_base(s.rope_base)
    writer.add_layer_norm_rms_eps(architecture.EPSILON)
    writer.add_vocab_size(s.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_vocabulary(writer, s.vocab)
    f16 = lambda t: t.detach().float().numpy().astype(np.float16)
    f32 = lambda t: t.detach().float().numpy()
    writer.add_tensor("token_embd.weight", f16(model.embedding.weight))
    writer.add_tensor("output_norm.weight", f32(model.norm.weight))
    for i, block in enumerate(model.blocks):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{norm}.weight", f32(getattr(block, norm).weight))
        for ours, theirs in BLOCK_TENSORS.items():
            writer.add_tensor(f"blk.{i}.{theirs}.weight", f16(getattr(block, ours).weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB")

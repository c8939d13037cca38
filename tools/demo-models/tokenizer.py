"""The family's tokenizer: byte-level BPE (llama.cpp's "gpt-2" pre-tokenizer), ChatML specials.

Trained on the family's own text, with the names of the worlds repeated until each is one token, so that a look-up copies
one token. Any other text can be encoded too, byte by byte if necessary.
"""
import functools
import json
import os
import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import grammar
import worlds

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.json")
SPECIALS = ["<|im_start|>", "<|im_end|>"]
VOCAB = 1536  # rows of the embedding; slightly more than the number of tokens


def corpus():
    for number in range(1500):
        rng = worlds.rng_for("tokenizer", number)
        yield grammar.document(rng, 20)
        world = worlds.make(rng, 6)
        pieces = worlds.chat(world.pieces(), rng.sample(world.questions(), 6))
        yield "".join(p.text for p in pieces).replace("<|im_start|>", "").replace("<|im_end|>", "")
    for names in worlds.NAMES:
        for name in names:
            yield f" {name}" * 400


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIALS), special_tokens=[], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens(SPECIALS)
    split = [n for names in worlds.NAMES for n in names if len(tokenizer.encode(" " + n).ids) != 1]
    if split:
        raise SystemExit(f"expected one token per name, but these have more: {split}; enlarge VOCAB")
    tokenizer.save(PATH)
    return tokenizer


@functools.cache
def load():
    return Tokenizer.from_file(PATH)


@functools.cache
def word(text):
    """Token ids of a recurring piece (a word with its space, a template marker); cached."""
    return load().encode(text).ids


def encode(text):
    return load().encode(text).ids


def encode_pieces(pieces):
    """Returns the ids, and for every piece the position of its first token. Equal to encoding the joined text, because every
    piece begins where the pre-tokenizer splits (checked by `self_test`)."""
    ids, starts = [], []
    for piece in pieces:
        starts.append(len(ids))
        ids += encode(piece.text) if piece.role == "remark" else word(piece.text)
    return ids, starts


def self_test():
    for number in range(50):
        rng = worlds.rng_for("tokenizer-test", number)
        world = worlds.make(rng, 5, rng.choice(["downward", "mixed"]), remarks=0.2)
        for style in (worlds.chat, worlds.report):
            pieces = list(style(list(world.pieces()), rng.sample(world.questions(), 5)))
            assert encode_pieces(pieces)[0] == encode("".join(p.text for p in pieces))


if __name__ == "__main__":
    tokenizer = train()
    self_test()
    print(json.dumps({"vocab": tokenizer.get_vocab_size(),
                      "example": tokenizer.encode(worlds.make(random.Random(0), 1).text()).tokens}))

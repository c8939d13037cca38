"""The models that demo, benchmarks and tests run on."""
import argparse
import contextlib
import json
import pathlib
import random
import subprocess

from .programs import ROOT, output_of
from .progress import Progress

CACHE = ROOT / "build" / "bench-models"


def demo_model(size):
    """A trained model of the demo family: 'small' or 'large'."""
    return ROOT / "models" / f"celslm-demo-{size}-f16.gguf"


def demo_map():
    """From the large demo model's KV to the small one's."""
    return ROOT / "models" / "celslm-demo-large-to-small.map"


def demo_worlds():
    """Held-out worlds, smallest first: [{"context", "questions": [{"question", "answer", "steps"}]}]."""
    worlds = []
    for path in (ROOT / "models" / "worlds").glob("*.json"):
        worlds += json.loads(path.read_text(encoding="utf-8"))["worlds"]
    return sorted(worlds, key=lambda world: len(world["context"]))


def few_questions(world, one_step=2):
    """Of a world's questions the first of each number of steps, and more of the direct ones."""
    wanted = {1: one_step, 2: 1, 3: 1}
    out = []
    for question in world["questions"]:
        if wanted.get(question["steps"], 0) > 0:
            wanted[question["steps"]] -= 1
            out.append(question)
    return out


def pretrained_names():
    """The models that `./dev models` knows."""
    return list(json.loads((ROOT / "models" / "pretrained.json").read_text(encoding="utf-8")))


def pretrained(name):
    """The file of a pretrained model; None where it is not here: `./dev models NAME` fetches it."""
    found = subprocess.run([ROOT / "scripts" / "models", "--path", name], capture_output=True, text=True, check=False)
    if found.returncode == 2:
        raise ValueError(found.stderr.strip())
    return pathlib.Path(found.stdout.strip()) if found.returncode == 0 else None


def gguf(text):
    """The file that an argument means: a path, or the name of a pretrained model. For add_argument(type=)."""
    path = pathlib.Path(text)
    if text not in pretrained_names():
        if not path.is_file():
            raise argparse.ArgumentTypeError(
                f"no file {path.absolute()}, and no model of that name: './dev models' lists them. (./dev has an /etc, /usr "
                "and /var of its own; your other folders are visible)")
        return path
    path = pretrained(text)
    if path is None:
        raise argparse.ArgumentTypeError(f"{text} is not here yet: './dev models {text}' fetches it")
    return path


@contextlib.contextmanager
def full_precision(gguf, keep=False):
    """The same weights as f32 (gigabytes), gone at the end of the block if made for it; keep: left for other runs."""
    path = CACHE / f"{gguf.stem}-f32.gguf"
    keep = keep or path.exists()
    try:
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with Progress(f"{gguf.name} as f32"):
                output_of("llama-quantize", "--allow-requantize", gguf, part, "F32")
            part.rename(path)
        yield path
    finally:
        if not keep:
            path.unlink(missing_ok=True)


WIDER_THAN_8_BITS = ("F32", "F16", "BF16")


def has_wide_weights(gguf):
    """Whether the model's matrices are of more than 8 bits a weight."""
    from gguf import GGUFReader
    return any(len(tensor.shape) > 1 and tensor.tensor_type.name in WIDER_THAN_8_BITS for tensor in GGUFReader(gguf).tensors
               if tensor.name.startswith("blk."))


@contextlib.contextmanager
def quantized(gguf, to):
    """The model with weights of another type of llama-quantize, gone at the end of the block."""
    path = CACHE / f"{gguf.stem}-{to.lower()}.gguf"
    try:
        with Progress(f"{gguf.name} as {to}"):
            output_of("llama-quantize", "--allow-requantize", gguf, path, to)
        yield path
    finally:
        path.unlink(missing_ok=True)


def random_model(shape, quantization):
    """A random-weight GGUF of a real shape (speed only), made once and kept."""
    path = CACHE / f"{shape}-random-{quantization.lower()}.gguf"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    plain = CACHE / f"{shape}-random-f16.gguf"
    part = path.with_suffix(".part")
    with Progress(f"making a random-weight model in the shape of {shape} ({quantization}), once"):
        subprocess.run(["python3", ROOT / "tools" / "random_gguf.py", shape, plain], check=True, capture_output=True)
        subprocess.run(["llama-quantize", plain, part, quantization], check=True, capture_output=True)
        plain.unlink()
        part.rename(path)
    return path


def random_text(n_tokens, seed=1):
    """ASCII text of about n_tokens tokens for the byte-level vocabulary of the random models."""
    template_tokens = 12
    letters = random.Random(seed)
    return "".join(letters.choice("abcdfgijklmnopqrstuvwxyz ") for _ in range(max(1, n_tokens - template_tokens)))

"""codec: size, speed and damage of every KV codec, judged by the model's answers; beside llama.cpp's q8_0 and q4_0.

Exact KV of contexts (windows of held-out text, bulletins with questions) goes through each codec; then the model
follows the same words and answers greedily, with exact KV and with what came out. llama.cpp's types are applied by
ggml's own functions to the same KV, K after RoPE, as -ctk and -ctv do: so all are judged by one engine on the same
words (through llama-perplexity, kernels and tokens would differ too). q4 and q4z (after KIVI: K by channel, V by token;
q4z with an ideal entropy coder), c4 and c3 (steps as t4's and t3's without directions, ideal coder) are what lost; they
have no speed. So are t4, t3 and t2 with one thing changed: d (tokens as differences from the one before, where that is
shorter), p (directions calibrated on the other contexts of this run, not sent) and b (steps by how much each layer's K
and V matter, measured on the other contexts). Speed: random weights in a real shape, CPU time of one thread.

The gate: an edge chooses automatically among the codecs that pass it (docs/compression.md). A codec's loss is its KL over
the model's own noise at the same positions: the KL from the same weights as f32 (by llama-quantize, run by libllama) to
our engine with exact KV; where the weights are of more than 8 bits, with the weights as Q8_0. A codec passes whose loss
is at most 4 (--max-codec-loss of an edge) and which does not answer significantly fewer questions.

--json keys:
  machine, context_tokens, speed_shape, speed_tokens
  version                     of what an edge reads of this file: 2
  auto.*                      by model: the codecs that pass the gate
  speed.*.bits_per_value, speed.*.encode_mb_s, speed.*.decode_mb_s    of each of our codecs, on --shape
  codecs[].name, codecs[].model
  codecs[].model_id           what an edge knows the model by: `celslm edge --codec-quality FILE` reads these lines
  codecs[].bits_per_value     all overheads counted (a block's line in the pack's header, too)
  codecs[].encode_mb_s        of the same values as f16, per core, on --shape; null for what is no codec of packs
  codecs[].decode_mb_s
  codecs[].kl                 mean KL divergence from the exact distribution to the codec's, nats a token;
                              teacher-forced, text and answers
  codecs[].top1               share of positions where both have the same likeliest token
  codecs[].greedy64           answers to the questions (up to 64 tokens, ended by the model): share of tokens before the
                              first that differs
  codecs[].greedy64_text      the same for 64 tokens that continue the text: plain text of a small model is full of near-ties
  codecs[].noise_kl           the model's own noise at the same positions; null with --no-noise
  codecs[].loss               kl / noise_kl
  codecs[].auto               whether it passes the gate
  codecs[].accuracy           share of right answers
  codecs[].accuracy_change    that less the share with exact KV, question by question
  codecs[].kl_interval, codecs[].top1_interval, codecs[].greedy64_interval, codecs[].greedy64_text_interval
  codecs[].loss_interval, codecs[].accuracy_change_interval
  codecs[].accuracy_interval  these: 95 %, bootstrap over contexts (1,000 draws)
"""
import argparse
import contextlib
import json
import pathlib

from .. import judge
from ..benchmark import Benchmark, Picture, names
from ..chart import Chart
from ..lab import models
from ..lab.programs import ROOT, built, output_of
from ..lab.progress import Progress, table

DEMO = [models.demo_model("small"), models.demo_model("large")]
TEXT_OF_THE_DEMO_FAMILY = ROOT / "models" / "text" / "heldout-long.txt"
TEXT = ROOT / "models" / "text" / "manual.txt"
TABLE = ROOT / "models" / "codec-quality.json"
OURS = ("f16z", "q8", "t4", "t3", "t2")  # what may be in the table
SUPPORTED = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")  # of ./dev models
VERSION = 2
IN_TABLE = ("model", "model_id", "name", "bits_per_value", "decode_mb_s", "kl", "noise_kl", "loss", "accuracy",
            "accuracy_change", "accuracy_change_interval")
MAX_LOSS = 4.0  # as kMaxCodecLoss in src/serve/load/codec_ladder.h
WORLDS = [ROOT / "models" / "worlds" / f"{size}.json" for size in ("small", "medium", "large")]


class CodecQuality(Benchmark):
    targets = ("celslm_bench_codec_quality",)
    smoke = (("--model", str(models.demo_model("small")), "--worlds", str(WORLDS[0]), "--windows", "2", "--context", "48",
              "--only", "f16,q8,t4,llama.cpp q8_0", "--shape", "tiny", "--tokens", "64", "--threads", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, action="append", metavar="GGUF",
                            help="a file, or a name of ./dev models (default: the demo family)")
        parser.add_argument("--table", action="store_true",
                            help="measure the codecs of packs on the demo family and on all pretrained models that are "
                                 "here (with --model: on that one), and put them into the table that is built into celslm, "
                                 "models/codec-quality.json; lines of other models stay")
        parser.add_argument("--text", type=pathlib.Path,
                            help="plain text that the models have not seen (default: models/text/manual.txt, for the demo "
                                 "family what it was not trained on)")
        parser.add_argument("--worlds", type=pathlib.Path, action="append",
                            help="bulletins with questions (default: the demo family's)")
        parser.add_argument("--noise", action=argparse.BooleanOptionalAction, default=True,
                            help="measure the models' own noise; without it no codec passes the gate")
        parser.add_argument("--keep", action="store_true", help="keep the f32 models in build/bench-models, for other runs")
        parser.add_argument("--only", type=names, default=[], metavar="CODEC,...", help="leave out all others")
        parser.add_argument("--context", type=int, default=960, help="tokens of a window of the text (default: 960)")
        parser.add_argument("--windows", type=int, default=16, help="of the text (default: 16)")
        parser.add_argument("--shape", default="qwen2.5-0.5b",
                            help="for speed: a shape of tools/random_gguf.py; 'none': no speed (default: qwen2.5-0.5b)")
        parser.add_argument("--tokens", type=int, default=2048, help="for speed: context length (default: 2048)")
        parser.add_argument("--threads", type=int, default=2, help="for quality (default: 2); speed is of one thread")

    def measure(self, options):
        codecs, fast = [], {}
        if options.shape != "none":
            with Progress(f"speed, random weights in the shape of {options.shape}"):
                fast = speeds_of(options)
        for model in chosen_models(options):
            with Progress(f"quality, {model.name}"):
                model_id, lines = observe(model, options)
            by_kv = judge.by_kv(lines)
            noise = by_kv.pop("noise", None)
            for name, seen in by_kv.items():
                speed = {key: fast.get(name, {}).get(key) for key in ("encode_mb_s", "decode_mb_s")}
                codecs.append({"name": name, "model": model.name, "model_id": model_id, **figures_of(seen, noise), **speed})
        result = {"version": VERSION, "context_tokens": options.context, "speed_shape": options.shape,
                  "speed_tokens": options.tokens, "speed": fast, "auto": passing(codecs), "codecs": codecs}
        if options.table:
            write_table(codecs)
        return result

    def show(self, result):
        print(result["machine"])
        for model in dict.fromkeys(c["model"] for c in result["codecs"]):
            rows = [[c["name"], f"{c['bits_per_value']:.2f}", figure(c, "kl", 5), figure(c, "loss", 2), figure(c, "top1", 4),
                     figure(c, "greedy64", 3), figure(c, "greedy64_text", 2), figure(c, "accuracy", 3),
                     figure(c, "accuracy_change", 3), "yes" if c["auto"] else "no"]
                    for c in result["codecs"] if c["model"] == model]
            print(f"\n{model}; windows of {result['context_tokens']} tokens, and bulletins with questions")
            noise = next(c["noise_kl"] for c in result["codecs"] if c["model"] == model)
            print("loss: KL over the model's own noise" + (f", {noise:.3g} nats" if noise else ", which was not measured"))
            print(table(rows, ["codec", "bits", "KL, nats", "loss", "top 1", "greedy, answers", "greedy, text", "right",
                               "less exact's", "passes"]))
        if result["speed"]:
            rows = [[name, f"{s['bits_per_value']:.2f}", s["encode_mb_s"], s["decode_mb_s"]]
                    for name, s in result["speed"].items()]
            print(f"\n{result['speed_tokens']} tokens of random weights in the shape of {result['speed_shape']}, "
                  "one thread; MB/s of the same values as f16")
            print(table(rows, ["codec", "bits", "encode", "decode"]))

    def pictures(self):
        return [Picture(("--plot",), "rate against damage", charts_of)]


def run(options, *arguments):
    """The model's id, and observations."""
    out = output_of(built("celslm_bench_codec_quality", options.preset, "bench"), *arguments)
    first, *lines = [json.loads(line) for line in out.splitlines()]
    return first["model_id"], lines


def chosen_models(options):
    if options.model or not options.table:
        return options.model or DEMO
    return [*DEMO, *filter(None, map(models.pretrained, SUPPORTED))]


def observe(model, options):
    argv = ["--model", model, "--context", options.context, "--windows", options.windows, "--threads", options.threads,
            "--text", options.text or (TEXT_OF_THE_DEMO_FAMILY if model.resolve() in DEMO else TEXT)]
    for path in options.worlds or WORLDS:
        argv += ["--worlds", path]
    for name in options.only or (OURS if options.table else ()):
        argv += ["--codec", name]
    if not options.noise:
        return run(options, *argv)
    with contextlib.ExitStack() as files:
        f32 = files.enter_context(models.full_precision(model, keep=options.keep))
        argv += ["--reference", f32]
        if models.has_wide_weights(model):
            argv += ["--noise-model", files.enter_context(models.quantized(f32, "Q8_0"))]
        return run(options, *argv)


def speeds_of(options):
    """{codec: {bits_per_value, encode_mb_s, decode_mb_s}} on KV of random weights over random text."""
    text = models.CACHE / "random-text.txt"
    model = models.random_model(options.shape, "Q4_0")
    text.write_text(models.random_text(options.tokens + 200), encoding="utf-8")
    _, lines = run(options, "--model", model, "--text", text, "--windows", 1, "--context", options.tokens, "--speed-only",
                   "--threads", 1)
    return {line["kv"]: {"bits_per_value": round(line["bits"] / line["values"], 3),
                         "encode_mb_s": round(line["values"] * 2 / line["encode_s"] / 1e6, 1),
                         "decode_mb_s": round(line["values"] * 2 / line["decode_s"] / 1e6, 1)} for line in lines}


def figures_of(lines, noise):
    """Of one codec; noise: what was observed of the model's own, None where it was not measured."""
    sizes = [line for line in lines if "bits" in line]
    seen = [line for line in lines if "kl" in line]
    questions, text = [o for o in seen if o["question"]], [o for o in seen if not o["question"]]
    figures = {"kl": judge.kl(seen), "top1": judge.top1(seen), "greedy64": judge.greedy(questions),
               "greedy64_text": judge.greedy(text), "accuracy": judge.right(questions),
               "accuracy_change": judge.right_change(questions), "loss": judge.loss(seen, noise) if noise else None}
    out = {"bits_per_value": round(sum(o["bits"] for o in sizes) / sum(o["values"] for o in sizes), 3),
           "noise_kl": judge.kl(noise)["value"] if noise else None}
    for key, figure in figures.items():
        out[key] = figure and figure["value"]
        out[key + "_interval"] = figure and [figure["low"], figure["high"]]
    return {**out, "auto": passes(out)}


def passes(codec):
    """The gate, as CodecLadder (src/serve/load/codec_ladder.h) has it."""
    small_enough = codec["loss"] is not None and codec["loss"] <= MAX_LOSS
    return small_enough and (codec["accuracy_change"] is None or codec["accuracy_change_interval"][1] >= 0)


def passing(codecs):
    return {model: [c["name"] for c in codecs if c["model"] == model and c["name"] in OURS and c["auto"]]
            for model in dict.fromkeys(c["model"] for c in codecs)}


def write_table(codecs):
    """Lines of models that were not measured now stay."""
    old = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    kept = old["codecs"] if old.get("version") == VERSION else []
    measured = {c["model_id"] for c in codecs}
    lines = [c for c in kept if c["model_id"] not in measured] + [c for c in codecs if c["name"] in OURS]
    text = ",\n".join("  " + json.dumps({key: short(line[key]) for key in IN_TABLE}) for line in lines)
    TABLE.write_text(f'{{"version": {VERSION}, "codecs": [\n{text}\n]}}\n', encoding="utf-8")


def short(value):
    """Numbers with four digits, for the table."""
    if isinstance(value, list):
        return [short(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def figure(codec, key, digits):
    if codec[key] is None:
        return "-"
    low, high = codec[key + "_interval"]
    return judge.cell({"value": codec[key], "low": low, "high": high}, digits)


def charts_of(result):
    families = (("t4, t3, t2", ("t4", "t3", "t2")), ("q8", ("q8",)), ("llama.cpp", ("llama.cpp q8_0", "llama.cpp q4_0")),
                ("q4, q4z (after KIVI)", ("q4", "q4z")), ("c4, c3: no directions", ("c4", "c3")))
    last = result["codecs"][-1]["model"]
    by_name = {c["name"]: c for c in result["codecs"] if c["model"] == last}
    chart = Chart(f"Rate and damage, {last.removesuffix('.gguf')}", "bits a value", "KL divergence, nats a token",
                  log_y=True)
    for title, members in families:
        points = [by_name[n] for n in members if n in by_name and by_name[n]["kl"] > 0]
        chart.line(title, [(p["bits_per_value"], p["kl"]) for p in points],
                   names=[p["name"].removeprefix("llama.cpp ") for p in points])
    return [chart]

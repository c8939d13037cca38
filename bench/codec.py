"""codec: size, speed and damage of every KV codec, judged by what the model then says; beside llama.cpp's q8_0 and q4_0.

Exact KV of contexts (windows of held-out text, bulletins with questions) goes through each codec; then the model follows the same
words and answers by itself, greedily, with exact KV and with what came out. llama.cpp's types are applied by ggml's own functions to
the same KV, K after RoPE, as -ctk and -ctv do: so all are judged by one engine on the same words (through llama-perplexity, kernels
and tokens would differ too). q4 and q4z (after KIVI: K by channel, V by token; q4z with an ideal entropy coder), c4 and c3 (steps as
t4's and t3's without directions, ideal coder) are what lost; they have no speed. So are t4, t3 and t2 with one thing changed: d (tokens as
differences from the one before, where that is shorter), p (directions calibrated on the other contexts of this run, not sent) and b (steps
by how much each layer's K and V matter, measured on the other contexts). Speed: random weights in a real shape, CPU time of one thread.

--json keys: machine, context_tokens, codecs: [{name, model, model_id, bits_per_value, encode_mb_s, decode_mb_s, kl, top1, greedy64, accuracy, ...}]
  model_id         what an edge knows the model by: `celslm edge --codec-quality FILE` reads these lines
  bits_per_value   all overheads counted (a block's line in the pack's header, too)
  encode_mb_s      of the same values as f16, per core, on --shape; decode_mb_s too; null for what is no codec of packs
  kl               mean KL divergence from the exact distribution to the codec's, nats a token; teacher-forced, text and answers
  top1             share of positions where both have the same likeliest token
  greedy64         answers to the questions (up to 64 tokens, ended by the model): share of tokens before the first that differs
  greedy64_text    the same for 64 tokens that continue the text: plain text of a small model is full of near-ties
  accuracy         share of right answers
  ..._interval     95 %, bootstrap over contexts (1,000 draws)
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from bench.lab import models
from bench.lab.plot import Chart, write
from bench.lab.programs import ROOT
from bench.lab.progress import Progress, machine, table

PROGRAM = ROOT / "build" / "bench" / "bench" / "celslm_bench_codec_quality"
TEXT = ROOT / "models" / "text" / "heldout-long.txt"
WORLDS = [ROOT / "models" / "worlds" / f"{size}.json" for size in ("small", "medium", "large")]
DRAWS = 1000


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench codec", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="rate against damage, as SVG")
    parser.add_argument("--model", type=pathlib.Path, action="append", help="GGUF (default: the demo family)")
    parser.add_argument("--text", type=pathlib.Path, help="plain text that the models have not seen (default: the demo family's)")
    parser.add_argument("--worlds", type=pathlib.Path, action="append", help="bulletins with questions (default: the demo family's)")
    parser.add_argument("--only", type=lambda t: t.split(","), default=[], metavar="CODEC,...", help="leave out all others")
    parser.add_argument("--context", type=int, default=960, help="tokens of a window of the text")
    parser.add_argument("--windows", type=int, default=16, help="of the text")
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="for speed: a shape that tools/random_gguf.py knows; 'none': leave it out")
    parser.add_argument("--tokens", type=int, default=2048, help="for speed: context length")
    return parser.parse_args()


def run(argv):
    """The model's id, and observations."""
    out = subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, text=True, check=True).stdout
    first, *lines = [json.loads(line) for line in out.splitlines()]
    return first["model_id"], lines


def observe(model, options):
    argv = [PROGRAM, "--model", model, "--context", options.context, "--windows", options.windows, "--text", options.text or TEXT]
    for path in options.worlds or ([] if options.model else WORLDS):
        argv += ["--worlds", path]
    for codec in options.only:
        argv += ["--codec", codec]
    return run(argv)


def speeds(options):
    """{codec: {bits_per_value, encode_mb_s, decode_mb_s}} on KV of random weights over random text."""
    text = models.CACHE / "random-text.txt"
    model = models.random_model(options.shape, "Q4_0")
    text.write_text(models.random_text(options.tokens + 200), encoding="utf-8")
    _, lines = run([PROGRAM, "--model", model, "--text", text, "--windows", 1, "--context", options.tokens, "--speed-only", "--threads", 1])
    return {line["codec"]: {"bits_per_value": round(line["bits"] / line["values"], 3),
                            "encode_mb_s": round(line["values"] * 2 / line["encode_s"] / 1e6, 1),
                            "decode_mb_s": round(line["values"] * 2 / line["decode_s"] / 1e6, 1)} for line in lines}


def mean_with_interval(cases, value, weight):
    """cases: lists of observations, one list a context. Mean of value over weight, and its 95 % interval over draws of contexts."""
    sums = [(sum(value(o) for o in case), sum(weight(o) for o in case)) for case in cases]
    sums = [(v, w) for v, w in sums if w]
    if not sums:
        return None, None
    rng = random.Random(1)
    ratio = lambda drawn: sum(v for v, _ in drawn) / sum(w for _, w in drawn)
    draws = sorted(ratio(rng.choices(sums, k=len(sums))) for _ in range(DRAWS))
    return ratio(sums), [draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS)]]


def summarize(lines, codec):
    sizes = [o for o in lines if o["codec"] == codec and "bits" in o]
    seen = {}
    for o in lines:
        if o["codec"] == codec and "kl" in o:
            seen.setdefault(o["case"], []).append(o)
    cases = list(seen.values())
    questions = [case for case in cases if case[0]["source"] == "questions"]
    text = [case for case in cases if case[0]["source"] == "text"]
    greedy = (lambda o: o["greedy"], lambda o: o["greedy_of"])
    figures = {"kl": mean_with_interval(cases, lambda o: o["kl"] * o["positions"], lambda o: o["positions"]),
               "top1": mean_with_interval(cases, lambda o: o["alike"], lambda o: o["positions"]),
               "greedy64": mean_with_interval(questions, *greedy),
               "greedy64_text": mean_with_interval(text, *greedy),
               "accuracy": mean_with_interval(questions, lambda o: o["right"], lambda o: 1)}
    out = {"bits_per_value": round(sum(o["bits"] for o in sizes) / sum(o["values"] for o in sizes), 3)}
    for key, (value, interval) in figures.items():
        out[key] = value
        out[key + "_interval"] = interval
    return out


def measure(options):
    chosen = options.model or [models.demo_model("small"), models.demo_model("large")]
    codecs = []
    fast = {}
    if options.shape != "none":
        with Progress(f"speed, random weights in the shape of {options.shape}"):
            fast = speeds(options)
    for model in chosen:
        with Progress(f"quality, {model.name}"):
            model_id, lines = observe(model, options)
        for name in dict.fromkeys(line["codec"] for line in lines):
            speed = {key: fast.get(name, {}).get(key) for key in ("encode_mb_s", "decode_mb_s")}
            codecs.append({"name": name, "model": model.name, "model_id": model_id, **summarize(lines, name), **speed})
    return {"machine": machine(), "context_tokens": options.context, "speed_shape": options.shape, "speed_tokens": options.tokens,
            "speed": fast, "codecs": codecs}


def figure(value, interval, digits):
    if value is None:
        return "-"
    return f"{value:.{digits}f} ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"


def print_tables(result):
    print(result["machine"])
    for model in dict.fromkeys(c["model"] for c in result["codecs"]):
        rows = [[c["name"], f"{c['bits_per_value']:.2f}", figure(c["kl"], c["kl_interval"], 5), figure(c["top1"], c["top1_interval"], 4),
                 figure(c["greedy64"], c["greedy64_interval"], 3), figure(c["greedy64_text"], c["greedy64_text_interval"], 2),
                 figure(c["accuracy"], c["accuracy_interval"], 3)] for c in result["codecs"] if c["model"] == model]
        print(f"\n{model}; windows of {result['context_tokens']} tokens, and bulletins with questions")
        print(table(rows, ["codec", "bits", "KL, nats", "top 1", "greedy, answers", "greedy, text", "right"]))
    if result["speed"]:
        rows = [[name, f"{s['bits_per_value']:.2f}", s["encode_mb_s"], s["decode_mb_s"]] for name, s in result["speed"].items()]
        print(f"\n{result['speed_tokens']} tokens of random weights in the shape of {result['speed_shape']}, one thread; MB/s of the same values as f16")
        print(table(rows, ["codec", "bits", "encode", "decode"]))


def draw(result, path):
    families = (("t4, t3, t2", ("t4", "t3", "t2")), ("q8", ("q8",)), ("llama.cpp", ("llama.cpp q8_0", "llama.cpp q4_0")),
                ("q4, q4z (after KIVI)", ("q4", "q4z")), ("c4, c3: no directions", ("c4", "c3")))
    last = result["codecs"][-1]["model"]
    by_name = {c["name"]: c for c in result["codecs"] if c["model"] == last}
    chart = Chart(f"Rate and damage, {last.removesuffix('.gguf')}", "bits a value", "KL divergence, nats a token", log_y=True)
    for title, names in families:
        points = [by_name[n] for n in names if n in by_name and by_name[n]["kl"] > 0]
        if points:
            chart.line(title, [(p["bits_per_value"], p["kl"]) for p in points], names=[p["name"].removeprefix("llama.cpp ") for p in points])
    write(path, [chart], result["machine"])


def main():
    options = arguments()
    result = measure(options)
    print_tables(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        draw(result, options.plot)


if __name__ == "__main__":
    main()

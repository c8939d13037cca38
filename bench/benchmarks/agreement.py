"""agreement: how exact the engine is: distributions against f32 and llama.cpp, perplexity, fetched against computed KV.

For each model, on windows of a text, the second half of each judged:
- KL divergences of the next token's distribution, over the same tokens: from the same weights as f32 (made by
  llama-quantize, run by libllama with f32 KV) to ours and to llama.cpp (libllama as it is by default), and from llama.cpp
  to ours. What f32 and an engine differ in is rounding only: the arithmetic noise of this model, and the measure of
  every codec (./dev bench codec).
- Perplexity of the same text as llama-perplexity cuts it, by ours and by llama-perplexity.
- Answers of an edge that fetched a context's f16 KV from a cloud, and of one that computed it: equal means the same
  tokens with the same log-probabilities.
- Chat templates: conversations of all shapes, tokens as llama-server's /apply-template and /tokenize give them.

--json keys:
  machine, text, prompts, prompt_tokens, chunks, chunk_tokens
  skipped                     names of models that are not on this machine (./dev models NAME fetches one)
  models[].name
  models[].template_equal     conversations with the same tokens as llama-server's; null where this was not measured
  models[].template_of
  models[].kl_ours            mean D(f32 || ours), nats a token; null where the model's architecture is not supported
  models[].kl_peer            mean D(f32 || llama.cpp)
  models[].kl_between         mean D(llama.cpp || ours)
  models[].kl_ours_interval, models[].kl_peer_interval, models[].kl_between_interval    95 %, bootstrap over prompts
  models[].kl_ours_median, models[].kl_peer_median, models[].kl_between_median    over all judged positions
  models[].perplexity_ours
  models[].perplexity_peer    llama-perplexity's final estimate
  models[].fetched_equal      questions that both edges answer with the same tokens and log-probabilities
  models[].fetched_of
"""
import math
import os
import pathlib
import re
import sys

from .. import judge, measure, questions
from ..benchmark import Benchmark, names
from ..lab import exactness, models, templates
from ..lab.programs import ROOT, ProgramFailed, built, celslm, json_lines_of, output_of
from ..lab.progress import Progress, table

TEXT = ROOT / "models" / "text" / "manual.txt"
WORLDS = [ROOT / "models" / "worlds" / "small.json"]
DIVERGENCES = ("kl_ours", "kl_peer", "kl_between")
CHUNK_TOKENS = 512  # llama-perplexity's default
OF_ONE_CONTEXT = 8  # questions: fewer contexts take less time
PEER_TRIES = 50
PARTS = ("template", "kl", "perplexity", "fetched")


class Agreement(Benchmark):
    targets = ("celslm", "celslm_bench_agreement")
    smoke = (("--model", str(models.demo_model("small")), "--prompts", "2", "--prompt-tokens", "32", "--chunks", "2",
              "--count", "2", "--threads", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("names", nargs="*", metavar="NAME", help="pretrained models (default: all of ./dev models)")
        parser.add_argument("--model", type=models.gguf, metavar="GGUF", action="append", default=[], help="another GGUF")
        parser.add_argument("--text", type=pathlib.Path, default=TEXT, help="plain text (default: models/text/manual.txt)")
        parser.add_argument("--prompts", type=int, default=40, help="windows of the text for KL (default: 40)")
        parser.add_argument("--prompt-tokens", type=int, default=128, help="tokens of such a window (default: 128)")
        parser.add_argument("--chunks", type=int, default=16, help=f"of {CHUNK_TOKENS} tokens, for perplexity (default: 16)")
        parser.add_argument("--questions", type=pathlib.Path, nargs="+", default=WORLDS, metavar="FILE",
                            help="contexts with questions, as docs/questions.md describes them (default: "
                                 "models/worlds/small.json)")
        parser.add_argument("--count", type=int, default=24, help="of questions (default: 24)")
        parser.add_argument("--only", type=names, default=PARTS, metavar="PART,...", help=f"of {', '.join(PARTS)}")
        parser.add_argument("--keep", action="store_true", help="keep the f32 models in build/bench-models, for other runs")
        parser.add_argument("--threads", type=int, default=2, help="of ours and of the peer (default: 2)")

    def measure(self, options):
        try:
            return self.results(options)
        except (questions.Malformed, ProgramFailed) as e:
            sys.exit(f"agreement: {e}")

    def results(self, options):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nothing is timed: threads that spin only hold up other work
        wanted = {path.name: path for path in options.model}
        chosen = options.names or ([] if options.model else models.pretrained_names())
        pretrained = {name: models.pretrained(name) for name in chosen}
        skipped = [name for name, path in pretrained.items() if path is None]
        wanted |= {name: path for name, path in pretrained.items() if path}
        rows = [measured(name, path, options) for name, path in wanted.items()]
        return {"text": options.text.name, "prompts": options.prompts, "prompt_tokens": options.prompt_tokens,
                "chunks": options.chunks, "chunk_tokens": CHUNK_TOKENS, "skipped": skipped, "models": rows}

    def show(self, result):
        print(result["machine"])
        print(f"{result['text']}; KL: {result['prompts']} windows of {result['prompt_tokens']} tokens, 10^-3 nats a token "
              f"(95 %); perplexity: {result['chunks']} windows of {result['chunk_tokens']}; second halves judged")
        rows = [[m["name"], *(kl_cell(m, key) for key in DIVERGENCES), perplexity_cell(m), of_cell(m, "fetched"),
                 of_cell(m, "template")] for m in result["models"]]
        print(table(rows, ["model", "f32 || ours", "f32 || llama.cpp", "llama.cpp || ours", "perplexity: ours, llama.cpp",
                           "fetched = computed", "template"]))
        for name in result["skipped"]:
            print(f"skipped: {name} is not here; ./dev models {name} fetches it")


def measured(name, path, options):
    row = {"name": name, "template_equal": None, "template_of": None, "perplexity_ours": None, "perplexity_peer": None,
           "fetched_equal": None, "fetched_of": None}
    row |= {key + suffix: None for key in DIVERGENCES for suffix in ("", "_interval", "_median")}
    if "template" in options.only:
        with Progress(f"{name}: chat template"):
            row["template_equal"], row["template_of"] = templates.template_agreement(path, celslm(options.preset))
    try:
        if "kl" in options.only:
            row |= divergences(name, path, options)
        if "perplexity" in options.only:
            row |= perplexities(name, path, options)
        if "fetched" in options.only:
            row["fetched_equal"], row["fetched_of"] = fetched(name, path, options)
    except ProgramFailed as failed:
        if "is not supported" not in str(failed):  # an architecture that only llama.cpp knows yet has a template, too
            raise
    return row


def observed(path, options, *arguments):
    return json_lines_of(built("celslm_bench_agreement", options.preset, "bench"), "--model", path, "--text", options.text,
                         "--threads", options.threads, *arguments)


def divergences(name, path, options):
    observed(path, options, "--windows", 1, "--tokens", 4)  # fails at once where the model is not supported
    with models.full_precision(path, keep=options.keep) as reference, Progress(f"{name}: divergences"):
        seen = observed(path, options, "--reference", reference, "--windows", options.prompts, "--tokens",
                        options.prompt_tokens, "--spread")
    return divergences_of(seen)


def divergences_of(seen):
    """Means, intervals and medians of what celslm_bench_agreement --reference observed."""
    out = {}
    for key in DIVERGENCES:
        figure = judge.mean(seen, key, 1)
        out |= {key: figure["value"], key + "_interval": [figure["low"], figure["high"]],
                key + "_median": measure.median([line[key] for line in seen])}
    return out


def perplexities(name, path, options):
    with Progress(f"{name}: perplexity"):
        ours = observed(path, options, "--windows", options.chunks, "--tokens", CHUNK_TOKENS)
        peer = peer_perplexity(path, options)
    nats = sum(line["surprise"] for line in ours) / sum(line["positions"] for line in ours)
    return {"perplexity_ours": round(math.exp(nats), 4), "perplexity_peer": peer}


def peer_perplexity(path, options):
    """llama-perplexity's final estimate. It prints from a thread of its own, which now and then (one run in 150 of a
    second's work) is ended before the last lines are out, though the run succeeded: then it is run again."""
    for _ in range(PEER_TRIES):
        printed = output_of("llama-perplexity", "-m", path, "-f", options.text, "-c", CHUNK_TOKENS, "--chunks",
                            options.chunks, "-t", options.threads, with_errors=True)
        estimate = re.search(r"Final estimate: PPL = (\S+)", printed)
        if estimate:
            return float(estimate[1])
    raise ProgramFailed(f"llama-perplexity gives no 'Final estimate: PPL' in {PEER_TRIES} runs:\n{printed[-500:]}")


def fetched(name, path, options):
    contexts = questions.sampled(questions.read_all(options.questions), seed=1, questions=OF_ONE_CONTEXT)
    with Progress(f"{name}: fetched and computed answers"):
        return exactness.fetched_as_computed(path, exactness.first_of(contexts, options.count), options.preset,
                                             options.threads)


def kl_cell(model, key):
    if model[key] is None:
        return "-"
    return "{:.3g} ({:.3g} to {:.3g})".format(*(nats * 1e3 for nats in (model[key], *model[key + "_interval"])))


def perplexity_cell(model):
    ours, peer = model["perplexity_ours"], model["perplexity_peer"]
    return "-" if ours is None else f"{ours:.3f}, {peer:.3f} ({(ours / peer - 1) * 100:+.2f} %)"


def of_cell(model, key):
    return "-" if model[key + "_of"] is None else f"{model[key + '_equal']} of {model[key + '_of']}"

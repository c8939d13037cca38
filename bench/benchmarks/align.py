"""align: a layer map judged on held-out texts: the small model's answers behind mapped KV, and what they compare with.

Runs `celslm align report` on a map (default: the demo family's) and makes 95 % intervals of its observations, drawing
documents with replacement 1,000 times: questions about one document share its KV, so the document is the unit. `--from`
takes the file that `celslm align report --json FILE` wrote instead, as well as one of this benchmark's. The gate is the
one that `celslm align report` computes: a point estimate, for which nobody needs Python.

--json keys (each figure is {value, low, high}, or null where there is none):
  machine            absent with --from of a report
  map, fused         the map's id; whether it has trained corrections
  documents, context_tokens
  gate               the verdict, in words
  texts[].kv         whose KV: native, large model, mapped from layer 1 ...; behind it the 64 tokens after a plain text
  texts[].split      the layer from which on it is not the small model's own; absent for native and large model
  texts[].kl         D(native || this), nats a token, on the document's own words
  texts[].kl_large   D(large model || this)
  texts[].perplexity, texts[].greedy      greedy: share of native tokens that come, too, up to the first other
  questions[].kv, questions[].split, questions[].kl, questions[].kl_large, questions[].perplexity, questions[].greedy
                     the same of the right replies to questions
  questions[].right, questions[].right_by_steps    share of right answers; of those that need one, two, three facts
  layers             of each layer: sources of the map, and R^2 and attention-output cosine of each kind of KV
  cka.k, cka.v       linear CKA, [target layer][source layer]
"""
import json
import pathlib
import tempfile

from .. import judge
from ..benchmark import Benchmark, Picture
from ..chart import HeatMap
from ..lab import models
from ..lab.programs import ROOT, celslm, output_of
from ..lab.progress import Progress, table

TEXT = ROOT / "models" / "text" / "heldout-short.txt"
WORLDS = [ROOT / "models" / "worlds" / f"{size}.json" for size in ("small", "medium", "large")]


class Align(Benchmark):
    smoke = (("--questions", str(WORLDS[0]), "--text", str(TEXT), "--splits", "0", "--threads", "1"),)

    def add_arguments(self, parser):
        parser.add_argument("--map", type=pathlib.Path, default=models.demo_map(), help="(default: the demo family's)")
        parser.add_argument("--large", type=models.gguf, default=models.demo_model("large"), metavar="GGUF",
                            help="the map's source (default: the demo family's)")
        parser.add_argument("--small", type=models.gguf, default=models.demo_model("small"), metavar="GGUF",
                            help="the map's target (default: the demo family's)")
        parser.add_argument("--text", type=pathlib.Path, action="append",
                            help="plain text that the map has not seen (default: the demo family's)")
        parser.add_argument("--questions", type=pathlib.Path, action="append",
                            help="bulletins with questions (default: the demo family's)")
        parser.add_argument("--splits", help="judge mapping from these layers on (default: see celslm align report)")
        parser.add_argument("--threads", type=int, default=0, help="(default: one per core)")

    def measure(self, options):
        with tempfile.TemporaryDirectory() as folder, Progress(f"judging {options.map.name}"):
            report = pathlib.Path(folder) / "report.json"
            output_of(celslm(options.preset), *arguments_of(options), "--json", report)
            return summary_of(json.loads(report.read_text(encoding="utf-8")))

    def read(self, options):
        stored = super().read(options)
        return summary_of(stored) if "observations" in stored else stored

    def show(self, result):
        print(f"map {result['map'][:12]}{' (fused)' if result['fused'] else ''}, {result['documents']} held-out documents, "
              f"{result['context_tokens']:.0f} tokens of context; 95 % intervals over documents")
        if result["texts"]:
            rows = [[f["kv"], *(judge.cell(f[key]) for key in ("kl", "kl_large", "perplexity", "greedy"))]
                    for f in result["texts"]]
            print("\nplain text, the 64 tokens after a context")
            print(table(rows, ["KV", "divergence from native, nats", "from the large model", "perplexity",
                               "greedy as native"]))
        if result["questions"]:
            steps = list(result["questions"][0]["right_by_steps"])
            rows = [[f["kv"], judge.cell(f["right"]), *(judge.cell(f["right_by_steps"][n]) for n in steps),
                     judge.cell(f["perplexity"]), judge.cell(f["greedy"])] for f in result["questions"]]
            print("\nquestions")
            print(table(rows, ["KV", "right", *(f"{n} step{'s' if n != '1' else ''}" for n in steps),
                               "perplexity of right replies", "greedy as native"]))
        print(f"\ngate: {result['gate']}")

    def pictures(self):
        return [Picture(("--plot",), "which layers correspond", charts_of)]


def arguments_of(options):
    out = ["align", "report", options.map, "--from", options.large, "--to", options.small, "--threads", options.threads]
    for path in options.text or [TEXT]:
        out += ["--text", path]
    for path in options.questions or WORLDS:
        out += ["--questions", path]
    return [*out, "--splits", options.splits] if options.splits else out


def summary_of(report):
    """Of what `celslm align report --json` wrote."""
    seen = report.pop("observations")
    return {**report, "texts": figures_of([o for o in seen if not o["question"]]),
            "questions": figures_of([o for o in seen if o["question"]])}


def figures_of(observations):
    out = []
    for kv, seen in judge.by_kv(observations).items():
        figures = {"kv": kv, "kl": judge.kl(seen), "kl_large": judge.kl_large(seen), "perplexity": judge.perplexity(seen),
                   "greedy": judge.greedy(seen)}
        if "split" in seen[0]:
            figures["split"] = seen[0]["split"]
        if seen[0]["question"]:
            figures["right"] = judge.right(seen)
            figures["right_by_steps"] = {str(n): judge.right(seen, n) for n in sorted({o["steps"] for o in seen} - {0})}
        out.append(figures)
    return out


def charts_of(result):
    return [HeatMap(f"Linear CKA of {kind.upper()}", "source layer (framed: used by the map)", "target layer",
                    result["cka"][kind],
                    {(target, source) for target, layer in enumerate(result["layers"]) for source in layer[kind]["sources"]})
            for kind in ("k", "v") if result["cka"][kind]]

"""cascade: what quality costs, where a small model answers first and a large one what the small one is uncertain of.

A cloud, an edge with the small model, and an edge with the large one, all on this machine; contexts are registered, and both
edges read them from KV in memory. Every question is put to both, and to the small one once more at temperature 0.7 (for the
agreement of two answers). Contexts are halved by chance: rules (a measure and its threshold, for --share) are fitted to the
questions of one half, and all figures are of the other half's. The curve has quality against the share of questions that the
large model answers, those with the lowest score first; beside it stand a random choice (the mean over all choices: a
straight line), always the small model (share 0) and always the large one (share 1). At the end an edge with the rule of
--measure is asked the same questions ("live"): what it hands over, what it answers, and what that costs.

Seconds are of processor time of each process, for each answer, contexts' KV not included. Joules: with --watts SMALL,LARGE
those times each box's power (a power table: what it takes for a second of one core); otherwise as RAPL counts them for this
machine's package, where that can be read; otherwise none.

--json keys:
  machine, small_model, large_model, seed, reply_tokens
  contexts, questions, fit_questions      questions: held out, those of the figures
  rules[].measure, rules[].threshold, rules[].weights      fitted for the share wanted; weights: of "weighted", else null
  rules[].share_wanted, rules[].share                      share: of the held-out questions
  curve[].by, curve[].share                                by: a measure, or "random"
  curve[].exact, curve[].f1, curve[].contains
  curve[].f1_interval, curve[].contains_interval           95 %, bootstrap over contexts; null for "random"
  cost[].what, cost[].cpu_s, cost[].joules                 for each answer; what: "small", "second answer", "large"
  energy                                                   where joules come from: "power table", "RAPL" or null
  live.measure, live.threshold, live.share, live.failed
  live.exact, live.f1, live.contains
  live.small_cpu_s, live.large_cpu_s, live.joules          for each question
  live.forwarded_bytes                                     for each question handed over, both ways
"""
import json
import os
import pathlib
import random
import re
import sys
import time

from .. import judge, questions, uncertainty
from ..benchmark import Benchmark, Picture, numbers
from ..chart import Chart
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import ROOT, ProgramFailed, Programs, wait_until
from ..lab.progress import Progress, table
from ..scoring import score

WORLDS = [ROOT / "models" / "worlds" / f"{size}.json" for size in ("small", "medium", "large")]
SHARES = [i / 10 for i in range(11)]
FIGURES = ("exact", "f1", "contains")
RANDOM = "random"
RAPL = pathlib.Path("/sys/class/powercap/intel-rapl:0/energy_uj")
SECOND_TEMPERATURE = 0.7  # as src/serve/edge/cascade_answer.cpp


class Cascade(Benchmark):
    smoke = (("--limit-contexts", "4", "--limit-questions", "3", "--threads", "1", "--watts", "5,50"),)

    def add_arguments(self, parser):
        parser.add_argument("--questions", type=pathlib.Path, nargs="+", default=WORLDS, metavar="FILE",
                            help="contexts with questions, docs/questions.md (default: the demo family's bulletins)")
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="the small one: a file, or a name of ./dev models (default: the small demo model)")
        parser.add_argument("--large-model", type=models.gguf, metavar="GGUF",
                            help="(default: the large demo model)")
        parser.add_argument("--limit-contexts", type=int, metavar="N", help="of each file, drawn at random (default: all)")
        parser.add_argument("--limit-questions", type=int, metavar="N", help="about each context, likewise (default: all)")
        parser.add_argument("--context-bytes", type=int, default=24_000, metavar="N",
                            help="skip contexts that are longer (default: 24000)")
        parser.add_argument("--reply-tokens", type=int, default=24, metavar="N", help="at most (default: 24)")
        parser.add_argument("--share", type=float, default=0.4, help="that the large model is to answer (default: 0.4)")
        parser.add_argument("--measure", default="least_probability",
                            choices=(*uncertainty.MEASURES, uncertainty.WEIGHTED),
                            help="of the live run and of --rule (default: least_probability)")
        parser.add_argument("--rule", type=pathlib.Path, metavar="FILE",
                            help="write that measure's rule there, for 'celslm edge --cascade FILE'")
        parser.add_argument("--watts", type=numbers, metavar="SMALL,LARGE",
                            help="power of each box for one busy core, for joules")
        parser.add_argument("--seed", type=int, default=1, help="of what is drawn (default: 1)")
        parser.add_argument("--threads", type=int, default=2, help="of each edge (default: 2)")

    def measure(self, options):
        options.model = options.model or models.demo_model("small")
        options.large_model = options.large_model or models.demo_model("large")
        try:
            with Programs() as programs:
                return measure(chosen_contexts(options), programs, options)
        except (questions.Malformed, ProgramFailed) as e:
            sys.exit(f"cascade: {e}")

    def show(self, result):
        print(f"{result['machine']}; {result['small_model']}, then {result['large_model']}; at most "
              f"{result['reply_tokens']} tokens a reply; {result['questions']} questions, rules fitted to "
              f"{result['fit_questions']} others")
        for figure in ("f1", "contains"):
            print(f"\n{figure}, in percent, by share of questions that the large model answers")
            print(table(curve_rows(result, figure), ["by", *(f"{share:.1f}" for share in SHARES)]))
        print("\nrules")
        print(table([[rule["measure"], f"{rule['threshold']:.4f}", f"{rule['share_wanted']:.2f}", f"{rule['share']:.2f}"]
                     for rule in result["rules"]], ["measure", "threshold", "share wanted", "share held out"]))
        print(f"\nfor each answer (joules: {result['energy'] or 'not known here'})")
        print(table([[row["what"], f"{row['cpu_s']:.3f}", joules(row["joules"])] for row in result["cost"]],
                    ["what", "processor s", "joules"]))
        live = result["live"]
        print(f"\nlive, {live['measure']} below {live['threshold']:.4f}: {100 * live['share']:.0f} % handed over, "
              f"{live['failed']} failed; F1 {100 * live['f1']:.1f}, contains {100 * live['contains']:.1f}; "
              f"{live['small_cpu_s']:.3f} + {live['large_cpu_s']:.3f} processor s and {joules(live['joules'])} J a "
              f"question, {live['forwarded_bytes']:.0f} bytes for each that was handed over")

    def pictures(self):
        return [Picture(("--plot",), "quality by share of questions that the large model answers", charts_of)]


def joules(value):
    return "-" if value is None else f"{value:.2f}"


def chosen_contexts(options):
    """Of each file as many as wanted, and more than one in all: they are halved."""
    drawn = questions.sampled(questions.read_all(options.questions), options.seed, options.limit_questions)
    left = {context.set: options.limit_contexts for context in drawn}
    out = []
    for context in drawn:
        if len(context.system.encode()) > options.context_bytes or left[context.set] == 0:
            continue
        out.append(context)
        left[context.set] = left[context.set] and left[context.set] - 1
    return out if len(out) > 1 else sys.exit("cascade: at least two contexts of at most --context-bytes are needed")


def measure(contexts, programs, options):
    boxes = Boxes(contexts, programs, options)
    seen = ask_all(boxes, options)
    fit, held_out = halves(contexts, seen, options.seed)
    rules = uncertainty.fit_rules(fit, options.share)
    rule = next(rule for rule in rules if rule["measure"] == options.measure)
    if options.rule:
        write_rule(options.rule, rule, boxes.model_id, len(fit))
    live = live_run(boxes, rule, {one["context"] for one in held_out}, options)
    return {"small_model": options.model.name, "large_model": options.large_model.name, "seed": options.seed,
            "reply_tokens": options.reply_tokens, "contexts": len(contexts), "questions": len(held_out),
            "fit_questions": len(fit), "rules": [shown(rule, held_out) for rule in rules],
            "curve": curve_of(held_out, rules), "cost": boxes.costs(), "energy": boxes.energy, "live": live}


class Boxes:
    """The programs, and what they have used so far."""

    def __init__(self, contexts, programs, options):
        self.contexts, self.options = contexts, options
        self.lab = Lab(programs, options.model, threads=options.threads)
        self.cloud = self.lab.cloud("cloud", "--model", options.large_model)
        self.registered = [self.lab.context("context", context.system) for context in contexts]
        for context in self.registered:
            self.lab.put(self.cloud, context)
        large = Lab(programs, options.large_model, threads=options.threads)
        self.large = large.edge("large", "--cloud", self.cloud.url, knows=self.registered)
        self.small = self.edge_with("small")
        self.model_id = api.request("GET", f"{self.small.url}/v1/models")["data"][0]["x_celslm"]["model_id"]
        self.energy = "power table" if options.watts else "RAPL" if os.access(RAPL, os.R_OK) else None
        self.used = {}  # what: [answers, processor seconds, joules]

    def edge_with(self, name, *arguments):
        return self.lab.edge(name, "--cloud", self.cloud.url, "--large", self.large.url, "--policy", "cloud", *arguments,
                             knows=self.registered)

    def warm(self, edge, number):
        """Its context's KV is in memory when this returns."""
        ask(edge.url, self.contexts[number], self.contexts[number].questions[0], 1, policy="edge-only")

    def counted(self, what, edge, watts_of, call):
        """call(), and what it used of the edge's box."""
        before, energy = cpu_s(edge), rapl_joules(self.energy)
        out = call()
        used = self.used.setdefault(what, [0, 0.0, 0.0])
        seconds = cpu_s(edge) - before
        used[0] += 1
        used[1] += seconds
        used[2] += self.joules(seconds, watts_of, energy) or 0.0
        return out

    def joules(self, seconds, watts_of, energy_before):
        if self.energy == "power table":
            return seconds * self.options.watts[watts_of]
        return rapl_joules(self.energy) - energy_before if self.energy else None

    def costs(self):
        return [{"what": what, "cpu_s": seconds / n, "joules": energy / n if self.energy else None}
                for what, (n, seconds, energy) in self.used.items()]


def ask(url, context, question, reply_tokens, temperature=0.0, **extension):
    messages = [{"role": "system", "content": context.system}, {"role": "user", "content": question.prompt}]
    return api.chat(url, messages, max_tokens=reply_tokens, temperature=temperature, seed=1, x_celslm=extension)


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def ask_all(boxes, options):
    """Every question at both edges."""
    out = []
    total = sum(len(context.questions) for context in boxes.contexts)
    with Progress(f"{total} questions, each three times") as progress:
        began = time.monotonic()
        for number, context in enumerate(boxes.contexts):
            boxes.warm(boxes.small, number)
            boxes.warm(boxes.large, number)
            for question in context.questions:
                out.append({"context": number, **both_answers(boxes, context, question, options.reply_tokens)})
            left = (time.monotonic() - began) / len(out) * (total - len(out))
            progress.update(f"{len(out)} of {total}, about {left / 60:.0f} min left")
    return out


def both_answers(boxes, context, question, reply_tokens):
    def at(edge, **fields):
        return ask(edge.url, context, question, reply_tokens, policy="edge-only", **fields)

    small = boxes.counted("small", boxes.small, 0, lambda: at(boxes.small, confidence=True))
    second = boxes.counted("second answer", boxes.small, 0, lambda: at(boxes.small, temperature=SECOND_TEMPERATURE))
    large = boxes.counted("large", boxes.large, 1, lambda: at(boxes.large))
    confidence = small["x_celslm"]["confidence"]
    confidence["agreement"] = uncertainty.agreement(text_of(small), text_of(second))
    return {"confidence": confidence, "document": (context.set, context.id),
            "small": score(context.metric, text_of(small), question.answers),
            "large": score(context.metric, text_of(large), question.answers)}


def halves(contexts, seen, seed):
    """The questions of one half of the contexts and of the other; of every set about as many in each."""
    by_set = {}
    for number in random.Random(seed).sample(range(len(contexts)), len(contexts)):
        by_set.setdefault(contexts[number].set, []).append(number)
    first = set([number for some in by_set.values() for number in some][::2])
    return [one for one in seen if one["context"] in first], [one for one in seen if one["context"] not in first]


def scores_of(rule, seen):
    return [uncertainty.score(rule, one["confidence"]) for one in seen]


def shown(rule, held_out):
    return {"measure": rule["measure"], "threshold": rule["threshold"], "weights": rule.get("weights"),
            "share_wanted": rule["share"], "share": uncertainty.share_below(scores_of(rule, held_out), rule["threshold"])}


def curve_of(seen, rules):
    out = []
    for rule in rules:
        scores = scores_of(rule, seen)
        for share in SHARES:
            large = uncertainty.handed_over(seen, scores, share)
            out.append({"by": rule["measure"], "share": share, **figures_of(seen, large)})
    ends = [figures_of(seen, [large] * len(seen)) for large in (False, True)]
    for share in SHARES:
        mixed = {figure: ends[0][figure] + share * (ends[1][figure] - ends[0][figure]) for figure in FIGURES}
        out.append({"by": RANDOM, "share": share, **mixed, "f1_interval": None, "contains_interval": None})
    return out


def figures_of(seen, large):
    out = {}
    for figure in FIGURES:
        values = uncertainty.values(seen, large, figure)
        found = judge.mean([{"document": one["document"], figure: value} for one, value in zip(seen, values)], figure, 1)
        out[figure] = found["value"]
        if figure != "exact":
            out[f"{figure}_interval"] = [found["low"], found["high"]]
    return out


def write_rule(path, rule, model_id, n_questions):
    """docs/routing.md describes the file."""
    path.write_text(json.dumps({**rule, "model": model_id, "questions": n_questions}, indent=1) + "\n", encoding="utf-8")


def live_run(boxes, rule, numbers_of_contexts, options):
    """The held-out questions at an edge that judges its answers."""
    path = boxes.lab.programs.folder / "rule.json"
    write_rule(path, rule, boxes.model_id, 0)
    edge = boxes.edge_with("cascade", "--cascade", path)
    wait_for_large(edge, boxes.contexts[0])
    for number in numbers_of_contexts:
        boxes.warm(edge, number)
    before = cpu_s(edge), cpu_s(boxes.large), rapl_joules(boxes.energy)
    scored, by, failed = [], [], 0
    with Progress("the held-out questions, at an edge that judges its answers"):
        for number in sorted(numbers_of_contexts):
            context = boxes.contexts[number]
            for question in context.questions:
                try:
                    answer = ask(edge.url, context, question, options.reply_tokens)
                except api.FAILURES:
                    failed += 1
                    continue
                scored.append(score(context.metric, text_of(answer), question.answers))
                # Not judged where the large model was full, or not heard of lately.
                by.append(answer["x_celslm"].get("cascade", {}).get("answered_by", "small"))
    n, n_large = max(len(by), 1), by.count("large")
    small_s, large_s = cpu_s(edge) - before[0], cpu_s(boxes.large) - before[1]
    energy = {"power table": lambda: boxes.joules(small_s, 0, 0) + boxes.joules(large_s, 1, 0),
              "RAPL": lambda: rapl_joules("RAPL") - before[2]}.get(boxes.energy, lambda: None)()
    return {"measure": rule["measure"], "threshold": rule["threshold"], "share": n_large / n, "failed": failed,
            **{figure: sum(one[figure] for one in scored) / n for figure in FIGURES},
            "small_cpu_s": small_s / n, "large_cpu_s": large_s / n, "joules": None if energy is None else energy / n,
            "forwarded_bytes": forwarded_bytes(edge) / max(n_large, 1)}


def wait_for_large(edge, context):
    def known():
        answer = ask(edge.url, context, context.questions[0], 1, policy="fleet")
        return len(answer["x_celslm"]["routing"]["candidates"]) > 1
    wait_until(known, "the edge to hear of the large model")


def forwarded_bytes(edge):
    text = api.request("GET", f"{edge.url}/metrics")
    return sum(float(value) for value in re.findall(r"^celslm_edge_forwarded_bytes_total\S* (\S+)$", text, re.MULTILINE))


def cpu_s(program):
    fields = pathlib.Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rapl_joules(energy):
    return int(RAPL.read_text()) / 1e6 if energy == "RAPL" else 0.0


def curve_rows(result, figure):
    rows = {}
    for point in result["curve"]:
        rows.setdefault(point["by"], []).append(f"{100 * point[figure]:.1f}")
    return [[by, *values] for by, values in rows.items()]


def charts_of(result):
    charts = []
    for figure, title in (("f1", "F1"), ("contains", "Reply contains the answer")):
        chart = Chart(title, "share of questions that the large model answers", "%")
        for by in dict.fromkeys(point["by"] for point in result["curve"]):
            points = [(point["share"], 100 * point[figure]) for point in result["curve"] if point["by"] == by]
            chart.line(by, points, dashed=by == RANDOM, marks=False)
        charts.append(chart)
    return charts

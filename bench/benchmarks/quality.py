"""quality: what a model answers about texts that it reads itself, reads through a codec, or has read by a larger model.

The text is the system message ("Use the text below to answer the user's questions.", an empty line, the text), so that its
KV does not depend on the question. The user's turn is the question and, on a line of its own, "Answer with a few words
only, no explanation."; greedy, --reply-tokens tokens. A context's KV is computed once, and its questions are asked behind it
many at a time. What is read (--reads):
  none         no text: closed book (the user's turn alone)
  own          the text, computed by the model itself
  q8, t4 ...   the same KV after that codec; "llama.cpp q8_0", "llama.cpp q4_0": after one of ggml's types
  mapped       the large model's KV through a layer map (--map)
  cloud        the text, by the large model, which also answers (--cloud-model)
  tuned        own, with a tuning's constants added (--tuning); whether its gate passed does not matter here
  own-teacher  the same with another tuning, whose teacher was the model itself (--own-teacher-tuning)
  match/4 ...  own, condensed to a fourth of the rows: METHOD/N[+reread|+both][+on-policy]; METHOD is match (rows by pursuit,
               masses and values fitted), match-attention, match-effect, match-evenly (rows chosen otherwise), or a control
               that fits nothing: top (rows by attention), evenly, random. Fitted to the questions of --study; +reread: to a
               second reading of the text instead; +both: to both
  studied      what a trainer made of the text: docs/studied-format.md (--studied)
docs/questions.md has the format of files of questions; how a reply is scored is at the end. Figures are of all questions of
a set, and of all sets together ("all"); 95 % intervals by bootstrap over contexts, 1,000 draws, always the same. With
--observations, a run that was interrupted goes on where it stopped.

--json keys:
  machine, model, cloud_model, model_id, cloud_model_id, map
  tuning, own_teacher_tuning, studied, seed, reply_tokens
  tuning_id              of the tuning, before it was judged; null without
  sets[].set, sets[].metric, sets[].contexts, sets[].questions, sets[].tokens    tokens: of all contexts, the model's
  sets[].skipped         contexts that are longer than the models or --context-tokens allow; no figure includes them
  rows[].reads, rows[].set, rows[].n, rows[].contexts      n: questions
  rows[].exact, rows[].exact_interval            share of right answers by the set's metric; an interval is [low, high]
  rows[].f1, rows[].f1_interval
  rows[].contains, rows[].contains_interval      the normalised answer is a phrase of the normalised reply
  rows[].log_p, rows[].log_p_interval            mean log probability a token of the first of the answers, nats
  rows[].f1_more, rows[].f1_more_interval        this less own, question by question; null without own
  rows[].contains_more, rows[].contains_more_interval, rows[].log_p_more, rows[].log_p_more_interval    likewise
  rows[].bits_per_value  of the context's KV on the wire; null for none
  plain_text[].reads, plain_text[].documents, plain_text[].tokens    second halves of plain texts (--plain-text)
  plain_text[].log_p, plain_text[].log_p_interval, plain_text[].log_p_more, plain_text[].log_p_more_interval    nats a token
  gate                   of the tuning (--gate), null without: docs/tuning-format.md
  rows[].kv_s, rows[].answer_s      seconds for the KV (computed, or encoded and decoded), and for prompts, answers and log_p
"""
import hashlib
import json
import pathlib
import sys
import tempfile
import time

from .. import gate, plain_text, questions, scoring
from ..answers import ALL, observations, rows_of
from ..benchmark import Benchmark, Picture, names
from ..chart import Intervals
from ..lab import models
from ..lab.programs import ROOT, ProgramFailed, built, lines_from
from ..lab.progress import Progress, table
from ..recorded import OfAnotherRun, Recorded

WORLDS = [ROOT / "models" / "worlds" / f"{size}.json" for size in ("small", "medium", "large")]
NEED_AN_OPTION = {"tuned": ("tuning", "a tuning file: --tuning FILE"),
                  "own-teacher": ("own_teacher_tuning", "a tuning file: --own-teacher-tuning FILE"),
                  "studied": ("studied", "studied contexts: --studied FOLDER")}


class Quality(Benchmark):
    targets = ("celslm_bench_quality",)
    smoke = (("--questions", str(WORLDS[0]), "--map", str(models.demo_map()),
              "--reads", "none,own,q8,t4,mapped,cloud,match/4,match/4+both+on-policy,random/4", "--study", "half",
              "--plain-text", str(ROOT / "models" / "text" / "heldout-short.txt"),
              "--limit-contexts", "2", "--limit-questions", "4", "--threads", "1"),)

    def add_arguments(self, parser):
        parser.epilog = scoring.__doc__
        parser.add_argument("--questions", type=pathlib.Path, nargs="+", default=WORLDS, metavar="FILE",
                            help="contexts with questions (default: the demo family's bulletins)")
        parser.add_argument("--reads", type=names, metavar="NAME,...",
                            help="what is read (default: none,own,q8,t4,t3,t2, and cloud where there is a large model)")
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="the edge's: a file, or a name of ./dev models (default: the small demo model)")
        parser.add_argument("--cloud-model", type=models.gguf, metavar="GGUF",
                            help="the large one (default: with --model none, else the large demo model)")
        parser.add_argument("--map", type=pathlib.Path, help="for 'mapped': from the large model's KV to the model's")
        parser.add_argument("--tuning", type=pathlib.Path, metavar="FILE", help="for 'tuned': constants for the model's KV")
        parser.add_argument("--own-teacher-tuning", type=pathlib.Path, metavar="FILE", help="for 'own-teacher': likewise")
        parser.add_argument("--studied", type=pathlib.Path, metavar="FOLDER",
                            help="for 'studied': a file for each text, named by the handle of the system message")
        parser.add_argument("--study", type=study_files, metavar="half|FILE,...",
                            help="what 'match/4' and the like are fitted to: of each context every other question, which is "
                                 "then not asked; or the questions of these files about the same texts")
        parser.add_argument("--plain-text", type=pathlib.Path, nargs="+", default=[], metavar="FILE",
                            help="plain texts: also how likely their second halves are behind the KV of the first")
        parser.add_argument("--gate", type=pathlib.Path, metavar="FILE",
                            help="write the gate of --tuning there, for 'celslm tuning judge'; the questions must be of "
                                 "documents that its training did not see. Needs --reads own,tuned and --plain-text")
        parser.add_argument("--limit-contexts", type=int, metavar="N", help="of each file, drawn at random (default: all)")
        parser.add_argument("--limit-questions", type=int, metavar="N", help="about each context, likewise (default: all)")
        parser.add_argument("--context-tokens", type=int, metavar="N",
                            help="skip contexts that take more, with question and reply (default: what the models allow)")
        parser.add_argument("--seed", type=int, default=1, help="of what is drawn for --limit-... (default: 1)")
        parser.add_argument("--reply-tokens", type=int, default=24, metavar="N", help="at most (default: 24)")
        parser.add_argument("--observations", type=pathlib.Path, metavar="FILE",
                            help="keep every answer there, as JSON lines; what is there already is not measured again")
        parser.add_argument("--only-recorded", action="store_true",
                            help="measure nothing more: figures of the contexts that --observations holds complete")
        parser.add_argument("--threads", type=int, default=2, help="(default: 2)")

    def measure(self, options):
        with_defaults(options)
        try:
            contexts = questions.sampled(with_study(questions.read_all(options.questions), options.study), options.seed,
                                         options.limit_questions)
            plain = plain_text.documents(options.plain_text)
            with Recorded(options.observations, run_of(options), by=("set", "id", "reads")) as recorded:
                return measure(contexts, plain, recorded, options)
        except (questions.Malformed, OfAnotherRun, ProgramFailed) as e:
            sys.exit(f"quality: {e}")

    def show(self, result):
        large = f"; large model {result['cloud_model']}" if result["cloud_model"] else ""
        print(f"{result['machine']}; {result['model']}{large}; at most {result['reply_tokens']} tokens a reply")
        print(table([[s["set"], s["metric"], s["contexts"], s["questions"], s["tokens"], s["skipped"]]
                     for s in result["sets"]], ["set", "metric", "contexts", "questions", "tokens", "too long"]))
        together = [row for row in result["rows"] if row["set"] == ALL]
        print("\nall sets, in percent, with 95 % intervals over contexts; log p in nats a token; seconds for KV and answers")
        print(table([summary(row) for row in together],
                    ["reads", "n", "bits", "exact", "F1", "contains", "log p", "F1 less own's", "contains less own's",
                     "log p less own's", "s"]))
        if result.get("plain_text"):
            print("\nplain text, nats a token")
            print(table([plain_summary(row) for row in result["plain_text"]],
                        ["reads", "documents", "tokens", "log p", "less own's"]))
        if result.get("gate"):
            print(f"\ngate: {result['gate']['state']}: {gate.refusal(result['gate']) or 'better, and nothing worse'}")
        for figure, title in (("f1", "F1"), ("contains", "contains")):
            print(f"\n{title} by set")
            print(table(by_set(result, figure), ["set", *(row["reads"] for row in together)]))

    def pictures(self):
        return [Picture(("--plot",), "what is answered by what is read", charts_of)]


def study_files(text):
    return text if text == "half" else [pathlib.Path(name) for name in names(text)]


def with_study(contexts, study):
    """The contexts with the questions that condensed KV is fitted to; those that have none are left out."""
    if study is None:
        return contexts
    if study == "half":
        return [context._replace(questions=context.questions[1::2], study=context.questions[::2])
                for context in contexts if len(context.questions) > 1]
    known = {context.system: context.questions for context in questions.read_all(study)}
    return [context._replace(study=known[context.system]) for context in contexts if context.system in known]


def with_defaults(options):
    """Fills in what depends on other arguments, and refuses what can't be."""
    if not options.model:
        options.cloud_model = options.cloud_model or models.demo_model("large")
        options.model = models.demo_model("small")
    options.reads = options.reads or ["none", "own", "q8", "t4", "t3", "t2", *(["cloud"] if options.cloud_model else [])]
    for name, (option, needed) in NEED_AN_OPTION.items():
        if name in options.reads and not getattr(options, option):
            sys.exit(f"quality: '{name}' needs {needed}")
    for name in options.reads:
        if "/" in name and "+reread" not in name and not options.study:
            sys.exit(f"quality: '{name}' is fitted to questions about the texts: --study half, or --study FILE")
    if options.gate and not ({"own", "tuned"} <= set(options.reads) and options.plain_text):
        sys.exit("quality: --gate needs --reads own,tuned and --plain-text FILE")
    if len(set(options.reads)) < len(options.reads):
        sys.exit(f"quality: a name twice in --reads {','.join(options.reads)}")


def run_of(options):
    """What must be the same for observations to go together. Names of files tell nothing that their contents do not."""
    return {"model": hash_of(options.model), "cloud model": options.cloud_model and hash_of(options.cloud_model),
            "map": options.map and hash_of(options.map), "tuning": options.tuning and hash_of(options.tuning),
            "own teacher's tuning": options.own_teacher_tuning and hash_of(options.own_teacher_tuning),
            "studied": options.studied and {path.stem: hash_of(path) for path in sorted(options.studied.glob("*.gguf"))},
            "questions": [hash_of(path) for path in options.questions],
            "study": [hash_of(path) for path in options.study] if isinstance(options.study, list) else options.study,
            "program": hash_of(built("celslm_bench_quality", options.preset, "bench")), "seed": options.seed,
            "limit of questions": options.limit_questions, "tokens of a reply": options.reply_tokens}


def hash_of(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as e:
        sys.exit(f"quality: {path}: {e.strerror}")


def measure(contexts, plain, recorded, options):
    ids, chosen, skipped = choose(contexts, options)
    if options.only_recorded:
        chosen, plain = (complete(some, recorded, options) for some in (chosen, plain))
    ask([*chosen, *plain], recorded, options)
    answered, read = observations(chosen, recorded, options.reads), plain_text.observations(plain, recorded, options.reads)
    judged = options.gate and gate.gate_of(answered, read, ids["tuning_id"], ids["model_id"])
    if judged:
        gate.write(options.gate, judged)
    return {"model": options.model.name, "cloud_model": options.cloud_model and options.cloud_model.name, **ids,
            "map": options.map and options.map.name, "tuning": options.tuning and options.tuning.name,
            "own_teacher_tuning": options.own_teacher_tuning and options.own_teacher_tuning.name,
            "studied": options.studied and options.studied.name,
            "seed": options.seed, "reply_tokens": options.reply_tokens,
            "sets": sets_of(chosen, skipped, recorded, options),
            "rows": rows_of(answered), "plain_text": plain_text.rows_of(read), "gate": judged}


def choose(contexts, options):
    """The models' ids, the contexts to ask about, and those that are too long."""
    chosen, skipped, wanted = [], [], {context.set: options.limit_contexts for context in contexts}
    counted = [(number, with_longest_question(context)) for number, context in enumerate(contexts)]
    with Progress(f"tokens of {len(contexts)} contexts, until there are enough"):
        lines = run_program(counted, lambda _: options.reads, options, "--count")
        ids = next(lines)
        for context, count in zip(contexts, lines):
            if wanted[context.set] == 0:
                continue
            if count["tokens"] > min(count["limit"], options.context_tokens or count["limit"]):
                skipped.append(context)
                continue
            chosen.append(context)
            if wanted[context.set] is not None:
                wanted[context.set] -= 1
            if not any(left is None or left > 0 for left in wanted.values()):
                break
        lines.close()
    if not chosen:
        sys.exit("quality: each of the contexts is longer than the models or --context-tokens allow: nothing to measure")
    return ids, chosen, skipped


def with_longest_question(context):
    """Whether that fits decides."""
    return context._replace(questions=[max(context.questions, key=lambda q: len(q.prompt) + len(q.gold))])


def run_program(numbered, reads_of_each, options, *more):
    """What celslm_bench_quality prints about these contexts, line by line."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as tasks:
        for number, context in numbered:
            asked, study = ([{"prompt": q.prompt, "gold": q.gold} for q in some]
                            for some in (context.questions, context.study))
            plain = context.metric == plain_text.METRIC
            tasks.write(json.dumps({"context": number, "system": context.system, "plain": plain,
                                    "reads": reads_of_each(context), "questions": asked, "study": study}) + "\n")
        tasks.flush()
        argv = ["--model", options.model, "--tasks", tasks.name, "--threads", options.threads,
                "--limit", options.reply_tokens, *more]
        for option, value in (("--cloud-model", options.cloud_model), ("--map", options.map), ("--tuning", options.tuning),
                              ("--own-teacher-tuning", options.own_teacher_tuning), ("--studied", options.studied)):
            argv += [option, value] if value else []
        for line in lines_from(built("celslm_bench_quality", options.preset, "bench"), *argv):
            yield json.loads(line)


def reads_of(context, options):
    return plain_text.reads_of(options.reads) if context.metric == plain_text.METRIC else options.reads


def ask(chosen, recorded, options):
    """Measures what is not recorded yet."""
    def missing(context):
        return [name for name in reads_of(context, options) if not recorded.has(context.set, context.id, name)]

    work = [(number, context) for number, context in enumerate(chosen) if missing(context)]
    of_all = sum(len(missing(context)) for _, context in work)
    if not work:
        return
    with Progress(f"{len(work)} contexts, {of_all} readings of them") as progress:
        began, done = time.monotonic(), 0
        lines = run_program(work, missing, options)
        next(lines)  # the models
        for line in lines:
            context = chosen[line.pop("context")]
            recorded.add({"set": context.set, "id": context.id, **line})
            done += 1
            left = (time.monotonic() - began) / done * (of_all - done)
            progress.update(f"{done} of {of_all}, about {left / 60:.0f} min left")


def complete(chosen, recorded, options):
    """The contexts of which nothing is missing."""
    out = [context for context in chosen
           if all(recorded.has(context.set, context.id, name) for name in reads_of(context, options))]
    return out if out or not chosen else sys.exit("quality: nothing is recorded of any of these contexts that is complete")


def sets_of(chosen, skipped, recorded, options):
    out = []
    for name in dict.fromkeys(context.set for context in [*chosen, *skipped]):
        some = [context for context in chosen if context.set == name]
        too_long = [context for context in skipped if context.set == name]
        first = next((read for read in options.reads if read != "none"), None)
        out.append({"set": name, "metric": (some or too_long)[0].metric, "contexts": len(some),
                    "questions": sum(len(context.questions) for context in some),
                    "tokens": first and sum(recorded.get(name, context.id, first)["tokens"] for context in some),
                    "skipped": len(too_long)})
    return out


def summary(row):
    return [row["reads"], row["n"], "-" if row["bits_per_value"] is None else f"{row['bits_per_value']:.2f}",
            f"{100 * row['exact']:.1f}", cell(row, "f1"), cell(row, "contains"), f"{row['log_p']:.3f}",
            cell(row, "f1_more", "+"), cell(row, "contains_more", "+"),
            "-" if row["log_p_more"] is None else f"{row['log_p_more']:+.3f}", f"{row['kv_s'] + row['answer_s']:.0f}"]


def plain_summary(row):
    more = "-" if row["log_p_more"] is None else "{:+.4f} [{:+.4f}, {:+.4f}]".format(row["log_p_more"],
                                                                                    *row["log_p_more_interval"])
    return [row["reads"], row["documents"], row["tokens"], f"{row['log_p']:.4f}", more]


def cell(row, figure, sign=""):
    """In percent."""
    if row[figure] is None:
        return "-"
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (row[figure], *row[f"{figure}_interval"]))
    return f"{value} [{low}, {high}]"


def by_set(result, figure):
    out = {}
    for row in result["rows"]:
        if row["set"] != ALL:
            out.setdefault(row["set"], [row["set"]]).append(f"{100 * row[figure]:.1f}")
    return list(out.values())


def charts_of(result):
    together = [row for row in result["rows"] if row["set"] == ALL]
    return [Intervals(title, unit, [(row["reads"], times * row[figure], [times * x for x in row[f"{figure}_interval"]])
                                    for row in together])
            for title, unit, figure, times in (("F1", "%", "f1", 100), ("Reply contains the answer", "%", "contains", 100),
                                               ("Log p of the right answer", "nats a token", "log_p", 1))]

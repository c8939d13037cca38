#!/usr/bin/env python3
"""Trains what a small model reads of contexts; the model itself stays as it is.

  tune       one constant for each channel of K and V, added to the KV of every context (docs/tuning-format.md)
  judge      log p of the answers behind native and tuned KV, question by question
  bulletins  self-study for the demo family, whose large model can't write questions
  contexts   the KV of each context itself, in as many rows or fewer (docs/studied-format.md)

Examples:
  train.py tune --model small.gguf --questions study.jsonl --out small.tuning.gguf
  train.py judge --model small.gguf --questions held-out.jsonl --tuning small.tuning.gguf --json judged.json
  train.py contexts --model small.gguf --questions study.jsonl --rows 1/4 --out studied/
"""
import argparse
import json
import os
import pathlib
import sys
import time

# Its threads spin for each other: one that has no core for a moment holds up products that take a millisecond.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import torch  # noqa: E402

import bulletins  # noqa: E402
import material  # noqa: E402
import studied  # noqa: E402
import studied_file  # noqa: E402
import tuning  # noqa: E402
import tuning_file  # noqa: E402
from language_model import LanguageModel, end_of_turn, vocabulary  # noqa: E402

CELSLM = material.ROOT / "build" / "release" / "celslm"
KV = material.ROOT / "build" / "study" / "kv"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tune = add_command(commands, "tune", "train a tuning")
    tune.add_argument("--out", type=pathlib.Path, required=True, help="the tuning file: neither judged nor signed yet")
    tune.add_argument("--steps-of", type=int, default=4, dest="contexts_per_step", metavar="N",
                      help="contexts in one step (default: 4)")
    tune.add_argument("--per-context", type=int, default=4, metavar="N", help="questions about each of them (default: 4)")
    tune.add_argument("--budget", type=int, default=2000, metavar="N",
                      help="questions to train on, all passes together (default: 2000)")
    tune.add_argument("--rate", type=float, default=0.03, help="of AdamW, falling along a cosine (default: 0.03)")
    tune.add_argument("--gold", type=float, default=1.0, help="weight of the answers' cross entropy (default: 1)")
    tune.add_argument("--teacher", type=float, default=0.6,
                      help="weight of the divergence from the large model, where the files hold it (default: 0.6)")
    tune.add_argument("--plain", type=float, default=0.3,
                      help="weight of the divergence from the model's native expectation where a context's text goes on: "
                           "what is learned of questions shall not make text less likely (default: 0.3)")
    tune.add_argument("--shuffle-contexts", action="store_true",
                      help="a control: each question is read behind the context of another")
    tune.add_argument("--seed", type=int, default=1)
    tune.add_argument("--teacher-name", default="none", metavar="NAME", help="of the large model, for the file")
    judge = add_command(commands, "judge", "log p behind native and tuned KV")
    judge.add_argument("--tuning", type=pathlib.Path, required=True)
    judge.add_argument("--json", type=pathlib.Path, required=True)
    contexts = add_command(commands, "contexts", "train contexts' own KV")
    contexts.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER",
                          help="a file for each context; those that are there already are not made again")
    contexts.add_argument("--rows", type=share, default=1.0, metavar="SHARE", help="of its tokens, e.g. 1/4 (default: 1)")
    contexts.add_argument("--tuning", type=pathlib.Path, metavar="FILE", help="start from KV with this tuning's constants")
    contexts.add_argument("--passes", type=int, default=8, metavar="N", help="over the context's questions (default: 8)")
    contexts.add_argument("--per-step", type=int, default=8, metavar="N", help="questions in one step (default: 8)")
    contexts.add_argument("--rate", type=float, default=0.05, help="of AdamW, falling along a cosine (default: 0.05)")
    contexts.add_argument("--gold", type=float, default=0.3, help="weight of the answers' cross entropy (default: 0.3)")
    contexts.add_argument("--teacher", type=float, default=1.0,
                          help="weight of the divergence from the large model, where the files hold it (default: 1)")
    contexts.add_argument("--seed", type=int, default=1)
    study = commands.add_parser("bulletins", help="self-study for the demo family")
    study.add_argument("--model", type=pathlib.Path, required=True, help="GGUF of its large model")
    study.add_argument("--worlds", type=pathlib.Path, required=True, help="bulletins; their questions are not read")
    study.add_argument("--out", type=pathlib.Path, required=True, help="the same with questions and answers of its own")
    study.add_argument("--celslm", default=CELSLM, metavar="PROGRAM")
    study.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def share(text):
    """1/4, or 0.25."""
    above, _, below = text.partition("/")
    value = float(above) / float(below or 1)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share of the rows: above 0, at most 1")
    return value


def add_command(commands, name, what):
    command = commands.add_parser(name, help=what)
    command.add_argument("--model", type=pathlib.Path, required=True, help="GGUF of the small model")
    command.add_argument("--questions", type=pathlib.Path, nargs="+", required=True, metavar="FILE",
                         help="files of docs/questions.md, or of celslm study")
    command.add_argument("--context-tokens", type=int, metavar="N", help="leave out longer contexts")
    command.add_argument("--celslm", default=CELSLM, metavar="PROGRAM")
    command.add_argument("--kv", type=pathlib.Path, default=KV, metavar="FOLDER",
                         help="where contexts' native KV is kept for other runs (default: build/study/kv)")
    command.add_argument("--threads", type=int, default=1,
                         help="(default: 1; two processes of one thread do more than one of two)")
    return command


def log(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.command == "bulletins":
        return study_bulletins(options)
    model = LanguageModel(options.model)
    documents = material.documents(options.questions, options.model, options.celslm, end_of_turn(options.model),
                                   options.context_tokens)
    if not documents:
        sys.exit("study: no context to use: none has questions, or all are longer than --context-tokens")
    log(f"{len(documents)} contexts, {sum(len(d.asked) for d in documents)} questions about them")
    contexts = tuning.contexts_of(model, documents, log, options.kv)
    {"tune": tune, "judge": judge, "contexts": train_contexts}[options.command](model, documents, contexts, options)


def study_bulletins(options):
    bulletins_of = [world["context"] for world in json.loads(options.worlds.read_text(encoding="utf-8"))["worlds"]]
    studied_ones = bulletins.study(LanguageModel(options.model), options.model, options.celslm, vocabulary(options.model),
                                   end_of_turn(options.model), bulletins_of, log)
    options.out.write_text(json.dumps({"worlds": list(studied_ones)}), encoding="utf-8")


def tune(model, documents, contexts, options):
    began = time.monotonic()
    trained = tuning.train(model, documents, contexts, options, log, options.out.with_suffix(".state"))
    recipe = {key: getattr(options, key) for key in ("budget", "per_context", "contexts_per_step", "rate", "gold", "teacher",
                                                     "plain", "shuffle_contexts", "seed")}
    recipe |= {"sets": sorted({d.set for d in documents}), "contexts": len(documents)}
    tuning_file.write(options.out, material.model_id(options.celslm, options.model), options.teacher_name, recipe,
                      trained.constants().detach())
    log(f"{options.out}: {time.monotonic() - began:.0f} s of training")


def judge(model, documents, contexts, options):
    native = tuning.judged(model, documents, contexts, None)
    tuned = tuning.judged(model, documents, contexts, tuning.adding(tuning_file.read(options.tuning)))
    rows = [{"set": d.set, "context": d.id, "native": n, "tuned": t}
            for d, ns, ts in zip(documents, native, tuned) for n, t in zip(ns, ts)]
    options.json.write_text(json.dumps(rows), encoding="utf-8")
    mean = lambda key: sum(row[key] for row in rows) / len(rows)
    print(f"{len(rows)} questions: log p of the answer {mean('native'):.3f} native, {mean('tuned'):.3f} tuned")


def train_contexts(model, documents, contexts, options):
    options.out.mkdir(parents=True, exist_ok=True)
    change = tuning.adding(tuning_file.read(options.tuning)) if options.tuning else None
    name = material.model_id(options.celslm, options.model)
    recipe = {key: getattr(options, key) for key in ("rows", "passes", "per_step", "rate", "gold", "teacher", "seed")}
    for number, (document, context) in enumerate(zip(documents, contexts)):
        path = options.out / f"{document.handle}.gguf"
        if path.exists():
            continue
        began = time.monotonic()
        batches = [material.batch_of(document.asked[i:i + 16]) for i in range(0, len(document.asked), 16)]
        weights = studied.attended(model, context, batches, change)
        start = studied.chosen(model, context, weights, max(8, round(context.tokens * options.rows)), change)
        rows = studied.train(model, context, start, document.asked, options, log)
        studied_file.write(path, name, document, rows, recipe | {"questions": len(document.asked)})
        log(f"{number + 1} of {len(documents)}: {context.tokens} tokens in {rows.k.shape[1]} rows, {len(document.asked)} "
            f"questions, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains, evaluates and exports celslm's demo models. `train.py COMMAND -h` explains each command.

  tokenizer            train the tokenizer (tools/demo-models/tokenizer.json)
  train MODEL          train "small", "mid" or "large"; --resume continues from the last checkpoint
  eval [MODEL...]      exact match and perplexity on held-out worlds and text; table and JSON
  export [MODEL...]    write the GGUF files to models/
  check [MODEL...]     run the same questions through llama.cpp and compare
  samples              write the example worlds and texts to models/
  split NAME FOLDER    write worlds and texts of a separate split, for example for fitting and judging layer maps
"""
import argparse
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "demo-models")
MODELS = os.path.join(ROOT, "models")

FAMILY = ["small", "mid", "large"]


def use_jemalloc():
    """Restarts this process with jemalloc preloaded and configured to keep freed memory: the C library's allocator returns
    large tensors to the system at every step."""
    if os.environ.get("CELSLM_JEMALLOC") or not sys.platform.startswith("linux"):
        return
    os.environ.update(CELSLM_JEMALLOC="1", LD_PRELOAD="libjemalloc.so.2", MALLOC_CONF="dirty_decay_ms:-1,muzzy_decay_ms:-1")
    os.execv(sys.executable, [sys.executable, *sys.argv])


def checkpoint(name):
    return os.path.join(BUILD, f"{name}.pt")


def command_tokenizer(_):
    import tokenizer
    trained = tokenizer.train()
    tokenizer.self_test()
    print(f"{tokenizer.PATH}: {trained.get_vocab_size()} tokens")


def command_train(options):
    import torch

    import fit
    torch.set_num_threads(options.threads)
    os.makedirs(BUILD, exist_ok=True)
    fit.run(options.model, checkpoint(options.model), os.path.join(BUILD, f"{options.model}.jsonl"), options)


def load(name):
    import model
    loaded, state = model.load(checkpoint(name))
    return loaded.eval(), state


def command_eval(options):
    import torch

    import evaluate
    torch.set_num_threads(options.threads)
    figures = {}
    for name in [n for n in options.models if os.path.exists(checkpoint(n))]:
        started = time.time()
        loaded, state = load(name)
        figures[name] = evaluate.evaluate(loaded, options.worlds, options.questions)
        figures[name].update(training_steps=state["step"], training_cpu_hours=round(state["cpu_seconds"] / 3600, 2),
                             parameters=sum(p.numel() for p in loaded.parameters()))
        print(f"{name}: {time.time() - started:.0f} s", file=sys.stderr)
    print(evaluate.table(figures))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(figures, f, indent=1)
            f.write("\n")


def command_export(options):
    import export
    for name in [n for n in options.models if os.path.exists(checkpoint(n))]:
        loaded, _ = load(name)
        export.write(loaded, name, os.path.join(MODELS, f"celslm-demo-{name}-f16.gguf"))


def command_check(options):
    import check
    for name in [n for n in options.models if os.path.exists(checkpoint(n))]:
        loaded, _ = load(name)
        check.compare(loaded, name, os.path.join(MODELS, f"celslm-demo-{name}-f16.gguf"), options.worlds, options.json)


def command_samples(_):
    import samples
    samples.write(MODELS)


def command_split(options):
    import samples
    if options.name in ("train", "watch"):
        sys.exit(f"the split '{options.name}' is used in training; choose another name")
    samples.write_split(options.folder, options.name, options.documents, options.questions, options.held_out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tokenizer").set_defaults(run=command_tokenizer)
    p = commands.add_parser("train")
    p.add_argument("model", choices=FAMILY)
    p.add_argument("--steps", type=int, help="default: the recipe's")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    p.set_defaults(run=command_train)
    p = commands.add_parser("eval")
    p.add_argument("models", nargs="*", default=FAMILY)
    p.add_argument("--worlds", type=int, default=60)
    p.add_argument("--questions", type=int, default=7, help="questions per world and number of steps")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--json", metavar="FILE")
    p.set_defaults(run=command_eval)
    p = commands.add_parser("export")
    p.add_argument("models", nargs="*", default=FAMILY)
    p.set_defaults(run=command_export)
    p = commands.add_parser("check")
    p.add_argument("models", nargs="*", default=FAMILY)
    p.add_argument("--worlds", type=int, default=12)
    p.add_argument("--json", metavar="FILE")
    p.set_defaults(run=command_check)
    commands.add_parser("samples").set_defaults(run=command_samples)
    p = commands.add_parser("split")
    p.add_argument("name", help="name of the split; it is part of every seed, so that splits share no texts")
    p.add_argument("folder", help="folder for worlds.json and text.txt")
    p.add_argument("--documents", type=int, default=60, help="number of bulletins, and of texts")
    p.add_argument("--questions", type=int, default=4, help="questions per bulletin and number of steps")
    p.add_argument("--held-out", action="store_true", help="only texts that are held out from the models' training")
    p.set_defaults(run=command_split)
    options = parser.parse_args()
    if options.command in ("train", "eval", "check"):
        use_jemalloc()
    options.run(options)


if __name__ == "__main__":
    main()

"""Example worlds with questions, and held-out text, for demos, tests and measurements. Both from held-out seeds."""
import json
import os

import grammar
import worlds

WORLDS = {"small": dict(chains=10), "medium": dict(chains=16, remarks=0.15), "large": dict(chains=24, remarks=0.5)}
TEXTS = {"heldout-short.txt": (1, 40), "heldout-long.txt": (60, 40)}  # documents, sentences each


def example(number, chains, remarks=0.0):
    rng = worlds.rng_for("demo", number)
    world = worlds.make(rng, chains, remarks=remarks, want_held_out=True)
    questions = [q for steps in (1, 2, 3) for q in rng.sample(world.questions([steps]), 4)]
    return {"context": world.text(),
            "questions": [{"question": q.text, "answer": q.path[-1], "reply": q.answer, "steps": q.steps} for q in questions]}


def write(folder):
    os.makedirs(os.path.join(folder, "worlds"), exist_ok=True)
    os.makedirs(os.path.join(folder, "text"), exist_ok=True)
    for number, (name, kind) in enumerate(WORLDS.items()):
        with open(os.path.join(folder, "worlds", f"{name}.json"), "w") as f:
            json.dump({"worlds": [example(3 * number + i, **kind) for i in range(3)]}, f, indent=1)
            f.write("\n")
    for name, (documents, sentences) in TEXTS.items():
        texts = [grammar.document(worlds.rng_for("demo-text", f"{name}/{n}"), sentences, want_held_out=True) for n in range(documents)]
        with open(os.path.join(folder, "text", name), "w") as f:
            f.write("\n\n".join(texts) + "\n")

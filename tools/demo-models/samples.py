"""Example worlds with questions, and plain text, for demos, tests and measurements; all from held-out seeds."""
import json
import os

import evaluate
import grammar
import worlds

WORLDS = {"small": dict(chains=10), "medium": dict(chains=16, remarks=0.15), "large": dict(chains=24, remarks=0.5)}
TEXTS = {"heldout-short.txt": (1, 40), "heldout-long.txt": (60, 40)}  # documents, sentences each


def example(number, chains, remarks=0.0):
    rng = worlds.rng_for("demo", number)
    world = worlds.make(rng, chains, remarks=remarks, want_held_out=True)
    questions = [q for steps in (1, 2, 3) for q in rng.sample(world.questions([steps]), 4)]
    return {"context": world.text(),
            "questions": [{"question": q.text, "answer": q.path[-1], "reply": q.answer, "steps": q.steps}
                          for q in questions]}


def write(folder):
    os.makedirs(os.path.join(folder, "worlds"), exist_ok=True)
    os.makedirs(os.path.join(folder, "text"), exist_ok=True)
    for number, (name, kind) in enumerate(WORLDS.items()):
        with open(os.path.join(folder, "worlds", f"{name}.json"), "w") as f:
            json.dump({"worlds": [example(3 * number + i, **kind) for i in range(3)]}, f, indent=1)
            f.write("\n")
    for name, (documents, sentences) in TEXTS.items():
        texts = [grammar.document(worlds.rng_for("demo-text", f"{name}/{n}"), sentences, want_held_out=True)
                 for n in range(documents)]
        with open(os.path.join(folder, "text", name), "w") as f:
            f.write("\n\n".join(texts) + "\n")


def write_split(folder, split, documents, questions, held_out):
    """Writes bulletins of all sizes and orders, and as many plain texts, for fitting and judging layer maps."""
    os.makedirs(folder, exist_ok=True)
    made = []
    for number in range(documents):
        world, rng = evaluate.test_world(number, split=split, held_out=held_out)
        asked = [q for steps in (1, 2, 3) for q in rng.sample(world.questions([steps]), questions)]
        made.append({"context": world.text(), "order": "mixed" if number % 4 == 3 else "downward",
                     "questions": [{"question": q.text, "answer": q.path[-1], "reply": q.answer, "steps": q.steps}
                                   for q in asked]})
    with open(os.path.join(folder, "worlds.json"), "w") as f:
        json.dump({"worlds": made}, f, indent=1)
        f.write("\n")
    texts = [grammar.document(worlds.rng_for(f"{split}-text", n), 40, want_held_out=held_out) for n in range(documents)]
    with open(os.path.join(folder, "text.txt"), "w") as f:
        f.write("\n\n".join(texts) + "\n")

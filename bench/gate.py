"""The gate of a tuning: whether what it does to answers is good enough to be served. docs/tuning-format.md has the rule and
the JSON; `celslm tuning judge` checks it and stores it in the tuning."""
import json
import pathlib

from . import judge

LEAST_DOCUMENTS = 10


def gate_of(answers, plain, tuning, model):
    """answers, plain: observations with reads own and tuned; tuning, model: ids."""
    sets = [{"set": name, "questions": len(own_of(some)), **figures(some)}
            for name in dict.fromkeys(o["set"] for o in answers) if (some := [o for o in answers if o["set"] == name])]
    out = {"version": 1, "tuning": tuning, "model": model, "documents": len({o["document"] for o in answers}),
           "questions": len(own_of(answers)), **figures(answers), "sets": sets,
           "plain_text": {"documents": len({o["document"] for o in plain}), "log_p": change(plain, "log_p", "gold_tokens")}}
    return {"state": "refused" if refusal(out) else "passed", **out}


def refusal(gate):
    """Why the tuning may not be served, or None."""
    if min(gate["documents"], gate["plain_text"]["documents"]) < LEAST_DOCUMENTS:
        return f"fewer than {LEAST_DOCUMENTS} documents"
    if gate["f1"]["interval"][0] <= 0:
        return "F1 is not better with certainty"
    worse = [one["set"] for one in gate["sets"] if one["f1"]["interval"][1] < 0]
    if worse:
        return f"{worse[0]} is significantly worse in F1"
    if gate["plain_text"]["log_p"]["interval"][1] < 0:
        return "plain text is significantly less likely"
    return None


def own_of(seen):
    return [o for o in seen if o["reads"] == "own"]


def figures(seen):
    return {"f1": change(seen, "f1", 1), "contains": change(seen, "contains", 1)}


def change(seen, figure, whole):
    """Means of both, and the 95 % interval of the difference, over documents; differences are taken one by one."""
    own = {key(o): o for o in own_of(seen)}
    tuned = [o for o in seen if o["reads"] == "tuned"]
    more = judge.mean([{**o, "more": o[figure] - own[key(o)][figure]} for o in tuned], "more", whole)
    return {"own": judge.mean(own.values(), figure, whole)["value"], "tuned": judge.mean(tuned, figure, whole)["value"],
            "interval": [more["low"], more["high"]]}


def key(seen):
    return seen["document"], seen.get("number")


def write(path, gate):
    pathlib.Path(path).write_text(json.dumps(gate, indent=1) + "\n", encoding="utf-8")

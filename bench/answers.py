"""Figures of answers to questions: by what was read, for each set and for all together."""
from . import judge
from .scoring import score

FIGURES = ("exact", "f1", "contains", "log_p")
ALL = "all"


def observations(chosen, recorded, reads):
    """One of each answer, as bench/judge.py takes them; a context's sizes and times are with its first."""
    out = []
    for name in reads:
        for context in chosen:
            seen = recorded.get(context.set, context.id, name)
            for number, (question, answer) in enumerate(zip(context.questions, seen["answers"])):
                first = number == 0
                out.append({"document": (context.set, context.id), "number": number, "reads": name, "set": context.set,
                            **score(context.metric, answer["reply"], question.answers), "log_p": answer["log_p"],
                            "gold_tokens": answer["gold_tokens"], "bits": seen["bits"] if first else None,
                            "values": seen["values"], "kv_s": seen["kv_s"] * first, "answer_s": seen["answer_s"] * first})
    return out


def rows_of(seen):
    """Of each reading: all sets, then each."""
    own = {(o["document"], o["number"]): o for o in seen if o["reads"] == "own"}
    for o in seen:
        if own:
            base = own[o["document"], o["number"]]
            o.update({f"{figure}_more": o[figure] - base[figure] for figure in FIGURES})
    out = []
    for name in [ALL, *dict.fromkeys(o["set"] for o in seen)]:
        for reads in dict.fromkeys(o["reads"] for o in seen):
            some = [o for o in seen if o["reads"] == reads and name in (ALL, o["set"])]
            out.append({"reads": reads, "set": name, **row_of(some)})
    return out


def row_of(some):
    out = {"n": len(some), "contexts": len({o["document"] for o in some})}
    for figure in ("exact", "f1", "contains", "log_p", "f1_more", "contains_more", "log_p_more"):
        found = judge.mean(some, figure, "gold_tokens" if figure.startswith("log_p") else 1)
        out[figure] = found and found["value"]
        out[f"{figure}_interval"] = found and [found["low"], found["high"]]
    sized = [o for o in some if o["bits"] is not None]
    out["bits_per_value"] = sum(o["bits"] for o in sized) / sum(o["values"] for o in sized) if sized else None
    return {**out, **{key: round(sum(o[key] for o in some), 3) for key in ("kv_s", "answer_s")}}

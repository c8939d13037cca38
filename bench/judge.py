"""The one judge of what models answer: C++ programs write down observations, this makes means with intervals of them.

An observation is a dict about one thing said behind one document with one kind of KV. Sums are over `positions` tokens
on which all kinds of KV of that document are judged, teacher-forced: the same words, so that divergences compare.

  document     its number: questions about one document share its KV, so that documents are what the bootstrap draws
  kv           whose KV it was: a codec's name, "native", "mapped from layer 1" ...
  question     whether it was a question, else plain text that goes on
  positions
  kl           sum of D(exact or native || this), nats
  kl_large     the same from the large model's distribution (align only; absent or null where tokens differ)
  surprise     sum of -log p of the token that came (align only)
  alike        positions where both have the same likeliest token (codec only)
  greedy       tokens of the greedy answer before the first that is not the exact or native answer's
  greedy_of    tokens of that answer
  right        whether a question was answered rightly
  exact_right  whether it was behind exact KV (codec only)
  steps        facts that the question needs (align only)
"""
import math
import random

DRAWS = 1000


def bootstrap(documents):
    """{value, low, high} of [(part, whole)], one a document: sum of parts over sum of wholes, and its 95 % interval.

    As many documents as there are, drawn with replacement; the same figures for the same input. None where there is
    nothing to share.
    """
    documents = [(part, whole) for part, whole in documents if whole]
    if not documents:
        return None
    rng = random.Random(1)
    draws = sorted(share_of(rng.choices(documents, k=len(documents))) for _ in range(DRAWS))
    return {"value": share_of(documents), "low": draws[int(0.025 * DRAWS)], "high": draws[int(0.975 * DRAWS)]}


def share_of(documents):
    return sum(part for part, _ in documents) / sum(whole for _, whole in documents)


def mean(observations, part, whole):
    """The bootstrap of a figure: part and whole are names of keys, or 1. Observations without the part do not count."""
    documents = {}
    for seen in observations:
        if seen.get(part) is None:
            continue
        so_far = documents.setdefault(seen["document"], [0.0, 0.0])
        so_far[0] += seen[part]
        so_far[1] += 1 if whole == 1 else seen[whole]
    return bootstrap(documents.values())


def kl(observations):
    """Nats a token."""
    return mean(observations, "kl", "positions")


def kl_large(observations):
    return mean(observations, "kl_large", "positions")


def top1(observations):
    return mean(observations, "alike", "positions")


def greedy(observations):
    """Share of the exact answer's tokens that come, too, up to the first other."""
    return mean(observations, "greedy", "greedy_of")


def right(observations, steps=None):
    """Share of questions; of those that need `steps` facts."""
    return mean([o for o in observations if o["question"] and steps in (None, o.get("steps"))], "right", 1)


def right_change(observations):
    """Share of questions answered rightly, less the share behind exact KV: the same questions."""
    return mean([{**o, "change": o["right"] - o["exact_right"]} for o in observations if o["question"]], "change", 1)


def loss(observations, noise):
    """The divergence in units of the model's own: sum of kl over sum of the noise's kl, at the same positions."""
    documents = {}
    for column, seen in enumerate((observations, noise)):
        for one in seen:
            documents.setdefault(one["document"], [0.0, 0.0])[column] += one["kl"]
    return bootstrap(documents.values())


def perplexity(observations):
    nats = mean(observations, "surprise", "positions")
    return nats and {key: math.exp(value) for key, value in nats.items()}


def by_kv(observations):
    """{kv: its observations}, in the order in which they first came."""
    out = {}
    for seen in observations:
        out.setdefault(seen["kv"], []).append(seen)
    return out


def cell(figure, digits=3):
    """For a table."""
    return "-" if figure is None else "{value:.{d}f} ({low:.{d}f} to {high:.{d}f})".format(**figure, d=digits)

"""When a small model's answers are handed over to a large one: measures, thresholds, and what quality they buy.

An answer seen is a dict with its `confidence` (the measures that an edge reports in x_celslm, docs/routing.md) and, for
each figure, what it came to: `small` and `large`, both {figure: value}.
"""
import math

MEASURES = ("least_probability", "mean_probability", "least_margin", "mean_margin", "first_probability", "agreement")
WEIGHTED = "weighted"
RIDGE = 0.01
STEPS = 2000


def score(rule, confidence):
    """As an edge computes it: the measure, or the sum of weighted ones."""
    if rule["measure"] != WEIGHTED:
        return confidence[rule["measure"]]
    return sum(weight * (1 if name == "bias" else confidence[name]) for name, weight in rule["weights"].items())


def threshold_for(scores, share):
    """Below it are so many of the scores; where several are equal, as near to that as they allow."""
    ordered = sorted(scores)
    n_below = round(share * len(ordered))
    if n_below == len(ordered):
        return math.nextafter(ordered[-1], math.inf)
    without, with_equals = ordered[n_below], math.nextafter(ordered[n_below], math.inf)
    return min((without, with_equals), key=lambda threshold: abs(share_below(scores, threshold) - share))


def share_below(scores, threshold):
    return sum(one < threshold for one in scores) / len(scores)


def handed_over(seen, scores, share):
    """Whether each answer is among the share with the lowest scores; of equal ones the first."""
    order = sorted(range(len(seen)), key=lambda i: scores[i])
    lowest = set(order[:round(share * len(seen))])
    return [i in lowest for i in range(len(seen))]


def values(seen, large, figure):
    """What each answer comes to, where `large` tells which are the large model's."""
    return [one["large" if by_large else "small"][figure] for one, by_large in zip(seen, large)]


def fit_rules(seen, share):
    """A rule for each measure that all answers have, fitted to them: {measure, threshold, share, weights}."""
    present = [name for name in MEASURES if all(one["confidence"].get(name) is not None for one in seen)]
    rules = [{"measure": name} for name in present]
    probabilities = [name for name in present if name != "agreement"]
    rules.append({"measure": WEIGHTED, "weights": fit_weights(seen, probabilities)})
    for rule in rules:
        scores = [score(rule, one["confidence"]) for one in seen]
        rule["threshold"] = threshold_for(scores, share)
        rule["share"] = share
    return rules


def fit_weights(seen, names):
    """Logistic regression, by gradient descent with a ridge, of "the small model's answer is as good as the large one's";
    weights are of the measures themselves, and "bias"."""
    wanted = [float(one["small"]["f1"] >= one["large"]["f1"]) for one in seen]
    means = {name: sum(one["confidence"][name] for one in seen) / len(seen) for name in names}
    spreads = {name: spread([one["confidence"][name] for one in seen], means[name]) for name in names}
    rows = [[1.0, *((one["confidence"][name] - means[name]) / spreads[name] for name in names)] for one in seen]
    weights = [0.0] * (len(names) + 1)
    for _ in range(STEPS):
        off = [sigmoid(dot(weights, row)) - want for row, want in zip(rows, wanted)]
        for i in range(len(weights)):
            slope = dot(off, [row[i] for row in rows]) / len(rows) + (RIDGE * weights[i] if i else 0)
            weights[i] -= 0.5 * slope
    out = {name: weight / spreads[name] for name, weight in zip(names, weights[1:])}
    out["bias"] = weights[0] - sum(out[name] * means[name] for name in names)
    return out


def spread(numbers, mean):
    return math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers)) or 1.0


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def sigmoid(x):
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, x))))


def agreement(a, b):
    """Twice the common words over all words, as an edge counts them (src/serve/route/confidence.cpp)."""
    first, second = words_of(a), words_of(b)
    total = len(first) + len(second)
    common = sum(min(first.count(word), second.count(word)) for word in set(first))
    return 2 * common / total if total else 1.0


def words_of(text):
    """Lower-case words of ASCII letters and digits; whatever is not ASCII belongs to words."""
    kept = "".join(c if ord(c) >= 128 else c.lower() if c.isalnum() else " " for c in text)
    return [word for word in kept.split(" ") if word]

"""How runs are taken and what is made of them: in turn, medians with their spread, failures never left out.

A request that failed or was refused counts as slower than any answer: its time is infinite, so that a percentile or a median
over some failures is the one that users met. In JSON an infinite time is null.
"""
import math
import statistics


def in_turn(subjects, runs, at_most=None, progress=None):
    """Calls every subject once a round, for `runs` rounds; returns {name: results}.

    subjects: {name: function}. Every other round goes the other way round: a machine that slows down or speeds up does so to
    all of them alike. at_most: {name: rounds} for those that need fewer.
    """
    out = {name: [] for name in subjects}
    for number in range(runs):
        if progress:
            progress.update(f"round {number + 1} of {runs}")
        for name in list(subjects)[::1 if number % 2 == 0 else -1]:
            if number < (at_most or {}).get(name, runs):
                out[name].append(subjects[name]())
    return out


def median(values):
    return statistics.median(values)


def spread(values, digits=2):
    """Least and most."""
    return [round(min(values), digits), round(max(values), digits)]


def percentile(values, share):
    """The value that `share` of all values do not reach; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def ratio(part, of, digits=3):
    """None where it has no meaning: nothing was measured, or nothing came."""
    if not of or not part or math.isinf(part) or math.isinf(of):
        return None
    return round(part / of, digits)


def speeds(runs, digits=2):
    """{ours_tps, peer_tps, ratio, ours_spread, peer_spread, self_ratio} of {"ours", "peer", "self": tokens per second}.

    ratio: ours / peer. self_ratio: ours / ours again, measured in the same rounds: what differs although nothing does.
    """
    ours, peer = median(runs["ours"]), median(runs["peer"])
    return {"ours_tps": round(ours, digits), "peer_tps": round(peer, digits), "ratio": ratio(ours, peer),
            "ours_spread": spread(runs["ours"]), "peer_spread": spread(runs["peer"]), "self_ratio": self_ratio(runs)}


def self_ratio(runs):
    return ratio(median(runs["ours"]), median(runs["self"])) if runs.get("self") else None

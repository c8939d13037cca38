"""What counters of nodes came to, over all their starts: a node that is killed begins to count anew."""
import collections
import contextlib
import re

from . import api

LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


class Tally:
    def __init__(self, caller=api.ANYBODY):
        self._caller = caller  # may read /metrics
        self._last = {}  # {(node, process): {(name, labels): value}}

    def read(self, node):
        """To be called before it is killed, and at the end. One that does not answer keeps what was read before."""
        with contextlib.suppress(*api.FAILURES):
            text = api.request("GET", f"{node.url}/metrics", timeout_s=10, caller=self._caller)
            self._last[node.name, node.program.process.pid] = {
                (found[1], found[2] or ""): float(found[3]) for line in text.splitlines() if (found := LINE.fullmatch(line))}

    def total(self, name):
        return sum(value for counters in self._last.values() for (key, _), value in counters.items() if key == name)

    def by(self, label, name):
        """{the label's value: total}"""
        out = collections.Counter()
        for counters in self._last.values():
            for (key, labels), value in counters.items():
                if key == name:
                    out[re.search(rf'\b{label}="([^"]*)"', labels)[1]] += int(value)
        return dict(out)

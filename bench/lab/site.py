"""A cloud that holds the packs of a short and a long context, and neighbouring edges that have read them."""
import dataclasses
import math
import time

from . import api, models
from .lab import Lab

SHORT_TOKENS = 512


@dataclasses.dataclass
class Loaded:
    """What a request behind a context that was not in memory came to, and the same request again with it there."""
    ms: float = math.inf  # to the first token
    extension: dict = dataclasses.field(default_factory=dict)
    resident_ms: float = math.inf


class Site(Lab):
    """Edges measured here load another, short context over the same links first, as edges that run for a while have."""

    def __init__(self, programs, model, n_tokens, n_neighbours, short_tokens=SHORT_TOKENS, **lab):
        super().__init__(programs, model, **lab)
        self.n_tokens = n_tokens
        self.short = self.context("short", models.random_text(short_tokens, seed=2))
        self.long = self.context("long", models.random_text(n_tokens, seed=3))
        self.main_cloud = self.cloud()
        for context in self.contexts:
            self.put(self.main_cloud, context, codecs=["f16"])
        self.neighbours = [self._neighbour(i) for i in range(n_neighbours)]

    @property
    def contexts(self):
        return [self.short, self.long]

    @property
    def local_arguments(self):
        """Of an edge that has the contexts from files, without a cloud."""
        return [part for context in self.contexts for part in ("--context", context.path)]

    def sources(self, n, mbit, rtt_ms):
        """Arguments of an edge with n sources, the cloud first, then neighbours, each behind a link of its own."""
        out = ["--cloud", self.relay(self.main_cloud.url, mbit, rtt_ms).url]
        for neighbour in self.neighbours[:n - 1]:
            out += ["--peer", self.relay(neighbour.url, mbit, rtt_ms).url]
        return out

    def load(self, *arguments):
        """At a fresh edge; infinite times where the request failed."""
        with self.passing_edge("edge", *arguments, knows=self.contexts) as edge:
            try:
                api.first_token(edge.url, self.short.text)
                time.sleep(0.2)  # the short context's pack is being kept
                streamed = api.first_token(edge.url, self.long.text)
                resident_ms = min(api.first_token(edge.url, self.long.text).ms for _ in range(2))
                return Loaded(streamed.ms, streamed.x_celslm or {}, resident_ms)
            except api.FAILURES:
                return Loaded()

    def stop(self):
        for program in [self.main_cloud, *self.neighbours]:
            program.stop()

    def _neighbour(self, number):
        edge = self.edge(f"neighbour{number}", "--cloud", self.main_cloud.url, "--prefer", "energy", knows=self.contexts)
        for context in self.contexts:
            api.first_token(edge.url, context.text)
        return edge

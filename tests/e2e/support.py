"""How the tests talk to edges, and what they look at in an answer."""

from bench.lab import api
from bench.lab.programs import ROOT, wait_until

MODELS = ROOT / "models"
# How long a test waits for something that takes seconds on a quiet machine. Never asserted: beyond it a test counts as hung.
PATIENCE_S = 120
# An edge that computes only what no source gives: on models this small computing would win every race.
FETCH_FIRST = ("--prefer", "energy")


class Answer:
    """The body of a chat completion."""

    def __init__(self, body):
        self.choices = body["choices"]
        self.extension = body["x_celslm"]

    @property
    def text(self):
        return self.choices[0]["message"]["content"]

    @property
    def layers(self):
        return self.extension["layers"]

    @property
    def sources(self):
        """Where most of each layer came from, without repetition."""
        return {layer["source"] for layer in self.layers}

    @property
    def suppliers(self):
        """Where any block came from."""
        return self.sources.union(*(layer.get("blocks", {}) for layer in self.layers))

    @property
    def provenances(self):
        return {layer["provenance"] for layer in self.layers}

    @property
    def note(self):
        return self.extension.get("note", "")


def chat(edge, messages, timeout_s=PATIENCE_S, **fields):
    """A greedy answer with its tokens' probabilities: two are equal only if the KV behind them was."""
    body = {"messages": messages, "temperature": 0, "max_tokens": 16, "logprobs": True, **fields}
    return Answer(api.request("POST", f"{edge.url}/v1/chat/completions", body, timeout_s))


def ask(edge, context, question, **options):
    messages = [{"role": "system", "content": context}, {"role": "user", "content": question}]
    return chat(edge, messages, **options)


def metric(program, name):
    for line in api.request("GET", f"{program.url}/metrics").splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"{program.name} has no metric {name}")


def wait_for_context(edge, handle):
    def known():
        return any(c["id"] == handle for c in api.request("GET", f"{edge.url}/v1/contexts")["contexts"])
    wait_until(known, f"{edge.name} to learn of the context", PATIENCE_S)


def wait_for_kept_pack(edge):
    wait_until(lambda: metric(edge, "celslm_edge_kept_packs") == 1, f"{edge.name} to keep the pack", PATIENCE_S)


def refused(result, *words, code=1):
    """Asserts that a command ended with this exit code and these words on standard error."""
    assert result.returncode == code, result.stderr
    for word in words:
        assert word in result.stderr, f"{word!r} expected in: {result.stderr}"

"""Questions to an edge, and what its answers carry."""
import typing

from ..lab import api

ANSWER_TOKENS = 24


class Reply(typing.NamedTuple):
    text: str
    tokens: list  # the bytes of each: two replies are the same only if these are
    extension: dict  # x_celslm

    @property
    def first_token_ms(self):
        return self.extension["ms"]["first_token"]

    @property
    def note(self):
        """What failed of the sources, if anything did."""
        return self.extension.get("note", "")

    @property
    def sources(self):
        """'cloud x6', or 'compute x2, cloud x4': where the layers came from."""
        counted = {}
        for layer in self.extension.get("layers", []):
            counted[layer["source"]] = counted.get(layer["source"], 0) + 1
        return ", ".join(f"{source} x{n}" for source, n in counted.items()) or "none"


def ask(edge, question, system=None, max_tokens=ANSWER_TOKENS):
    """A greedy reply; `system` is the shared text, if any."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    answer = api.chat(edge.url, messages, temperature=0, max_tokens=max_tokens, logprobs=True)
    choice = answer["choices"][0]
    tokens = [token["bytes"] for token in choice["logprobs"]["content"]]
    return Reply(choice["message"]["content"].strip(), tokens, answer["x_celslm"])

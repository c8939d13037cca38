"""The text that the demo's users ask about, their questions, and whether a reply is right."""
import json
import pathlib
import typing

from ..lab.programs import ROOT
from ..questions import BRIEFLY, SYSTEM
from ..scoring import contains

MANUAL = ROOT / "models" / "manual" / "tidewell.txt"


class Question(typing.NamedTuple):
    text: str
    answers: list[str]  # any one counts

    @property
    def prompt(self):
        return f"{self.text}\n{BRIEFLY}"

    def is_right(self, reply):
        return any(contains(reply, answer) for answer in self.answers)


class Document(typing.NamedTuple):
    title: str
    text: str
    questions: list[Question]

    @property
    def system(self):
        """The message that all users share: what is registered at the cloud."""
        return f"{SYSTEM}\n\n{self.text}"


def read(path):
    """A text file; its questions beside it, in a file that ends in .json: [{"q": ..., "answers": [...]}]."""
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8")
    questions = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Document(text.partition("\n")[0].strip(), text,
                    [Question(question["q"], question["answers"]) for question in questions])

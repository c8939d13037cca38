"""Plain texts for `./dev bench quality`: how likely the second half of a document is behind the KV of its first half.

That is what a change of KV must not spoil while it makes answers better."""
import hashlib
import pathlib
import re

from . import judge
from .questions import Context, Malformed, Question, text_of

METRIC = "plain_text"
WORDS = 240  # of a document, at least
DOCUMENTS = 40  # of a file, at most, evenly spread
NOT_READ = ("none", "cloud", "studied")  # they have no KV of the first half, or another model's tokens


def reads_of(names):
    """Those that are judged on plain text. What is fitted to questions (match/4) has none to be fitted to."""
    return [name for name in names if name not in NOT_READ and "/" not in name]


def documents(paths):
    """Contexts with one question each, which is no question: the text goes on. Raises Malformed for a file that cannot be
    read or is shorter than a document."""
    return [document for path in paths for document in documents_of(pathlib.Path(path))]


def documents_of(path):
    pieces = pieces_of(text_of(path))
    if not pieces:
        raise Malformed(f"{path}: fewer than {WORDS} words, no document of plain text")
    chosen = [pieces[i * len(pieces) // DOCUMENTS] for i in range(DOCUMENTS)] if len(pieces) > DOCUMENTS else pieces
    # What is recorded of a document counts for these words only.
    return [halved(f"plain text: {path.stem}", f"{number} {hashlib.sha256(piece.encode()).hexdigest()[:8]}", piece)
            for number, piece in enumerate(chosen)]


def pieces_of(text):
    """Lines together until they have enough words; what is left at the end is not used."""
    out, lines, words = [], [], 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        words += len(line.split())
        if words >= WORDS:
            out.append("".join(lines).strip())
            lines, words = [], 0
    return out


def halved(name, id, text):
    """The first word of the second half is given, the others are judged."""
    words = list(re.finditer(r"\s*\S+", text))[:2 * WORDS]
    middle = words[len(words) // 2]
    rest = text[middle.end():words[-1].end()]
    return Context(name, id, METRIC, text[:middle.start()], [Question(middle.group(), [], rest)])


def observations(chosen, recorded, reads):
    """One of each document and reading, as bench/judge.py takes them."""
    return [{"document": (one.set, one.id), "reads": name, **recorded.get(one.set, one.id, name)["answers"][0]}
            for name in reads_of(reads) for one in chosen]


def rows_of(seen):
    """Of each reading, over all documents."""
    own = {o["document"]: o["log_p"] for o in seen if o["reads"] == "own"}
    out = []
    for name in dict.fromkeys(o["reads"] for o in seen):
        some = [{**o, "more": o["log_p"] - own[o["document"]] if own else None} for o in seen if o["reads"] == name]
        log_p, more = judge.mean(some, "log_p", "gold_tokens"), judge.mean(some, "more", "gold_tokens")
        out.append({"reads": name, "documents": len(some), "tokens": sum(o["gold_tokens"] for o in some),
                    "log_p": log_p["value"], "log_p_interval": [log_p["low"], log_p["high"]],
                    "log_p_more": more and more["value"], "log_p_more_interval": more and [more["low"], more["high"]]})
    return out

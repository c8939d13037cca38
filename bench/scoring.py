"""Whether a reply answers a question. Its figures are between 0 and 1, each the best over the question's answers.

exact     by the metric of the context:
  squad_em_f1       reply and answer are the same once normalised as SQuAD does: lower case, without punctuation (Unicode's
                    and ASCII's signs), without the words a, an and the, with single spaces
  exact_short       without quotes, backticks and a final full stop the reply is the answer; or its first line contains the
                    answer as a token: not inside a word, a number not as a part of another. Case counts
  multiple_choice   the first letter that stands alone is the answer's
  python_literal    both are Python literals, of the same type and equal; where one is none, the same text without spaces
f1        of the words of the normalised reply and the normalised answer (SQuAD's); multiple_choice: as exact
contains  the normalised answer is a phrase of the normalised reply; multiple_choice: as exact
"""
import ast
import collections
import re
import string
import unicodedata
import warnings

ARTICLES = re.compile(r"\b(a|an|the)\b")
QUOTES = "\"'`\u2018\u2019\u201c\u201d"
LETTERS = "ABCDEFGH"  # of choices; not I, which is a word
LETTER = re.compile(rf"(?<!\w)([{LETTERS}])(?![\w'\u2019])")


def normalised(text):
    """As SQuAD's evaluation does it, with all of Unicode's punctuation."""
    kept = "".join(c for c in text.lower() if not is_punctuation(c))
    return " ".join(ARTICLES.sub(" ", kept).split())


def is_punctuation(character):
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def same_text(reply, answer):
    """Where normalising leaves nothing of the answer ("The", "*"), as it is written."""
    expected = normalised(answer)
    return normalised(reply) == expected if expected else reply.strip() == answer.strip()


def f1(reply, answer):
    got, expected = normalised(reply).split(), normalised(answer).split()
    if not got or not expected:
        return float(same_text(reply, answer))
    common = sum((collections.Counter(got) & collections.Counter(expected)).values())
    return 2 * common / (len(got) + len(expected))


def contains(reply, answer):
    expected = normalised(answer)
    return f" {expected} " in f" {normalised(reply)} " if expected else answer.strip() in reply


def is_short_answer(reply, answer):
    bare = reply.strip().strip(QUOTES).removesuffix(".").strip(QUOTES)
    first_line = reply.strip().partition("\n")[0]
    return bare == answer or token_pattern(answer).search(first_line) is not None


def token_pattern(answer):
    """The answer where it is no part of a word, and a number where it is no part of another: 5 is not in -5 or 2.5."""
    before = r"(?<![\w.\-])" if answer[:1].isdigit() else r"(?<!\w)" if is_word(answer[:1]) else ""
    after = r"(?!\w|\.\d)" if answer[-1:].isdigit() else r"(?!\w)" if is_word(answer[-1:]) else ""
    return re.compile(before + re.escape(answer) + after)


def is_word(character):
    return character.isalnum() or character == "_"


def letter_of(reply):
    found = LETTER.search(reply)
    return found and found[1]


def is_same_literal(reply, answer):
    reply = without_fence(reply)
    try:
        got, expected = literal(reply), literal(answer)
    except NotALiteral:
        return "".join(reply.split()) == "".join(answer.split())
    return type(got) is type(expected) and got == expected


class NotALiteral(Exception):
    pass


def literal(text):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1is 2": what a model writes is no code of ours
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as e:
        raise NotALiteral from e


def without_fence(reply):
    """Models like to write code between backticks."""
    reply = reply.strip()
    if fenced := re.match(r"```\w*\n(.*?)(?:\n?```|$)", reply, re.DOTALL):
        return fenced[1].strip()
    return reply.strip("`").strip()


METRICS = {"squad_em_f1": same_text, "exact_short": is_short_answer, "python_literal": is_same_literal,
           "multiple_choice": lambda reply, answer: letter_of(reply) == answer}


def score(metric, reply, answers):
    """{"exact", "f1", "contains"} of a reply."""
    exact = float(max(METRICS[metric](reply, answer) for answer in answers))
    if metric == "multiple_choice":
        return {"exact": exact, "f1": exact, "contains": exact}
    return {"exact": exact, "f1": max(f1(reply, answer) for answer in answers),
            "contains": float(max(contains(reply, answer) for answer in answers))}

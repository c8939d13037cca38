"""Files of contexts with questions, as docs/questions.md describes them."""
import json
import pathlib
import random
import re
import typing

from .scoring import LETTERS, METRICS

SYSTEM = "Use the text below to answer the user's questions."
BRIEFLY = "Answer with a few words only, no explanation."


class Question(typing.NamedTuple):
    prompt: str  # the user's turn
    answers: list[str]  # any one counts
    gold: str  # the reply whose probability is taken


class Context(typing.NamedTuple):
    set: str  # which file it came from
    id: str
    metric: str  # of bench/scoring.py
    system: str  # the system message
    questions: list[Question]
    study: list[Question] = []  # what condensed KV may be fitted to; never asked


class Malformed(Exception):
    """Which file and line, what was expected, what is there."""


def read(path):
    """The contexts of a file. Raises Malformed for a file that is not of this format."""
    path = pathlib.Path(path)
    text = text_of(path)
    contexts = worlds_of(path, text) if path.suffix == ".json" else lines_of(path, text)
    if not contexts:
        raise Malformed(f"{path}: no contexts: expected one JSON object a line, with a context and its questions")
    repeated = [id for number, id in enumerate(c.id for c in contexts) if id in {c.id for c in contexts[:number]}]
    if repeated:
        raise Malformed(f"{path}: id '{repeated[0]}' twice: each context needs one of its own")
    return contexts


def text_of(path):
    """A file's text. Raises Malformed."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise Malformed(f"{path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise Malformed(f"{path}: not UTF-8 text: byte {e.start} is {e.object[e.start]:#04x}") from e


def read_all(paths):
    sets = {}
    for path in map(pathlib.Path, paths):
        if path.stem in sets:
            raise Malformed(f"{path}: a file '{path.stem}' was given before; results are listed by this name")
        sets[path.stem] = read(path)
    return [context for contexts in sets.values() for context in contexts]


def lines_of(path, text):
    out = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as e:
            raise Malformed(f"{where}: not JSON: {e}") from e
        out.append(context_of(where, path.stem, number, row))
    return out


def context_of(where, name, number, row):
    require(isinstance(row, dict), where, "expected an object with 'context', 'metric' and 'questions'", row)
    text = field(where, row, "context", str)
    metric = field(where, row, "metric", str)
    require(metric in METRICS, where, f"'metric' must be one of {', '.join(METRICS)}", metric)
    items = field(where, row, "questions", list)
    require(items, where, "'questions' must not be empty", items)
    briefly = "" if row.get("plain") is True else f"\n{BRIEFLY}"
    questions = [question_of(f"{where}: questions[{i}]", metric, item, briefly) for i, item in enumerate(items)]
    system = field(where, row, "system", str) if "system" in row else f"{SYSTEM}\n\n{text}"
    return Context(name, str(row.get("id", number)), metric, system, questions)


def question_of(where, metric, item, briefly):
    require(isinstance(item, dict), where, "expected an object with 'q' and 'answers'", item)
    text = field(where, item, "q", str)
    answers = field(where, item, "answers", list)
    require(answers and all(isinstance(a, str) and a.strip() for a in answers), where,
            "'answers' must be a list of texts, at least one, none empty", answers)
    for answer in answers:
        require_text(where, "answers", answer)
    if metric == "multiple_choice":
        text = with_choices(where, text, field(where, item, "choices", list), answers)
    return Question(f"{text}{briefly}", answers, answers[0])


def with_choices(where, text, choices, answers):
    require(2 <= len(choices) <= len(LETTERS) and all(isinstance(c, str) for c in choices), where,
            f"'choices' must be 2 to {len(LETTERS)} texts", choices)
    for choice in choices:
        require_text(where, "choices", choice)
    letters = LETTERS[:len(choices)]
    require(all(answer in list(letters) for answer in answers), where,
            f"'answers' must be letters from A to {letters[-1]}", answers)
    listed = "\n".join(f"{letter}) {choice}" for letter, choice in zip(letters, choices))
    return f"{text}\n{listed}\nAnswer with the letter only."


def worlds_of(path, text):
    """The demo family's bulletins (models/worlds). They are asked as these models were trained: nothing but the question."""
    try:
        worlds = json.loads(text)["worlds"]
        return [Context(path.stem, str(number), "squad_em_f1", world["context"],
                        [Question(q["question"], [q["answer"]], q.get("reply") or q["answer"]) for q in world["questions"]])
                for number, world in enumerate(worlds)]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Malformed(f"{path}: not a file of bulletins as in models/worlds ({type(e).__name__}: {e}); "
                        "a file of contexts and questions has one JSON object a line and is called .jsonl") from e


def field(where, row, name, kind):
    require(name in row, where, f"no '{name}'", ", ".join(map(str, row)) or "nothing")
    require(isinstance(row[name], kind), where, f"'{name}' must be a {'text' if kind is str else 'list'}", row[name])
    if kind is str:
        require_text(where, name, row[name])
    return row[name]


def require_text(where, name, text):
    """What no tokenizer takes."""
    require("\0" not in text, where, f"'{name}' must not hold a NUL character", ascii(text))
    require(not re.search("[\ud800-\udfff]", text), where, f"'{name}' must not hold half of a surrogate pair", ascii(text))


def require(condition, where, expected, got):
    if not condition:
        shown = got if isinstance(got, str) else json.dumps(got, ensure_ascii=False)
        raise Malformed(f"{where}: {expected}; there is: {shown if len(shown) <= 100 else shown[:97] + '...'}")


def sampled(contexts, seed, questions=None):
    """The contexts in a random order, the sets in turn, so that any number of the first are of all sets; of each at most
    so many questions. The same for the same seed, whatever else is in the files' list."""
    by_set = {}
    for context in contexts:
        by_set.setdefault(context.set, []).append(context)
    shuffled = [random.Random(f"{seed} {name}").sample(some, len(some)) for name, some in by_set.items()]
    turns = [[some[i] for some in shuffled if i < len(some)] for i in range(max(map(len, shuffled), default=0))]
    return [with_few_questions(context, seed, questions) for turn in turns for context in turn]


def with_few_questions(context, seed, most):
    if most is None or len(context.questions) <= most:
        return context
    kept = sorted(random.Random(f"{seed} {context.set} {context.id}").sample(range(len(context.questions)), most))
    return context._replace(questions=[context.questions[i] for i in kept])

"""What is trained on: contexts with questions and answers, in one model's tokens.

Files are those of docs/questions.md; where `celslm study` wrote or annotated them, questions carry the large model's
distribution at each token of the answer ("teacher", docs/study.md).
"""
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import questions  # noqa: E402


@dataclasses.dataclass
class Asked:
    prompt: list[int]            # what follows the context, up to the answer
    answer: list[int]            # ends with the token that ends the turn
    teacher: list | None         # for each token of the answer [(id, log p), ...]; None: only the answer is known


@dataclasses.dataclass
class Document:
    set: str
    id: str
    handle: str                  # of the registered text
    context: list[int]
    asked: list[Asked]


def chats_of(context):
    """Of each question the conversation up to the answer, and the one that holds it."""
    for question in context.questions:
        system, user = {"role": "system", "content": context.system}, {"role": "user", "content": question.prompt}
        yield [system, user]
        yield [system, user, {"role": "assistant", "content": question.gold}]


def asked_of(celslm, *arguments):
    """The JSON lines that a celslm command prints."""
    done = subprocess.run([celslm, *arguments, "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"study: celslm {arguments[0]}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def model_id(celslm, model):
    return asked_of(celslm, "model", model)[0]["model_id"]


def tokens_of(celslm, model, chats):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps({"messages": chat}) + "\n" for chat in chats)
        file.flush()
        return asked_of(celslm, "tokens", file.name, "--model", model)


def answer_between(prompt, complete):
    """What a conversation with the answer has more than the one up to it; None where the template writes that one anew."""
    common = next((i for i, (a, b) in enumerate(zip(prompt, complete)) if a != b), min(len(prompt), len(complete)))
    return complete[common:] if common == len(prompt) else None


def documents(paths, model, celslm, end_of_turn, limit=None):
    """The documents of some files. Contexts longer than `limit` tokens are left out."""
    out = []
    for path in map(pathlib.Path, paths):
        taught = teachers(path)
        contexts = questions.read(path)
        lines = iter(tokens_of(celslm, model, [chat for context in contexts for chat in chats_of(context)]))
        for number, context in enumerate(contexts):
            document = Document(context.set, context.id, "", [], [])
            for index, _ in enumerate(context.questions):
                prompt, complete = next(lines), next(lines)
                n = prompt["n_context"]
                answer = answer_between(prompt["tokens"], complete["tokens"])
                if n == 0 or answer is None or end_of_turn not in answer:
                    continue
                answer = answer[:answer.index(end_of_turn) + 1]
                teacher = taught.get((number, index))
                if teacher and teacher["tokens"] != answer:
                    teacher = None
                document.handle, document.context = prompt["context"], prompt["tokens"][:n]
                document.asked.append(Asked(prompt["tokens"][n:], answer, teacher and teacher["top"]))
            if document.asked and (limit is None or len(document.context) <= limit):
                out.append(document)
    return out


def teachers(path):
    """(number of the context, of the question) -> its "teacher", where the file has one."""
    text = path.read_text(encoding="utf-8")
    lines = (json.loads(text)["worlds"] if path.suffix == ".json" else
             [json.loads(line) for line in text.splitlines() if line.strip()])
    return {(number, index): question["teacher"] for number, line in enumerate(lines)
            for index, question in enumerate(line["questions"]) if question.get("teacher")}


@dataclasses.dataclass
class Batch:
    """Questions about one context, one a row, filled up at the end."""
    ids: torch.Tensor        # [batch, n]
    rows: torch.Tensor       # [answers' tokens] of ids.flatten(): where each is predicted
    targets: torch.Tensor    # [answers' tokens]
    top: torch.Tensor | None       # [answers' tokens, k] ids of the teacher's likeliest tokens
    log_p: torch.Tensor | None     # [answers' tokens, k]
    weight: torch.Tensor     # [answers' tokens] such that each question counts 1
    lengths: torch.Tensor    # [batch] tokens that are not filling

    def real(self):
        """[batch, n]: which are not filling."""
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]


def batch_of(asked):
    n = max(len(a.prompt) + len(a.answer) - 1 for a in asked)
    ids = torch.zeros(len(asked), n, dtype=torch.long)
    rows, targets, weight = [], [], []
    for i, a in enumerate(asked):
        tokens = a.prompt + a.answer[:-1]
        ids[i, :len(tokens)] = torch.tensor(tokens)
        rows += [i * n + len(a.prompt) - 1 + j for j in range(len(a.answer))]
        targets += a.answer
        weight += [1 / len(a.answer)] * len(a.answer)
    top = log_p = None
    if all(a.teacher for a in asked):
        k = min(len(t) for a in asked for t in a.teacher)
        pairs = torch.tensor([t[:k] for a in asked for t in a.teacher], dtype=torch.float64)
        top, log_p = pairs[..., 0].long(), pairs[..., 1].float()
    return Batch(ids, torch.tensor(rows), torch.tensor(targets), top, log_p, torch.tensor(weight),
                 torch.tensor([len(a.prompt) + len(a.answer) - 1 for a in asked]))

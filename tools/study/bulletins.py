"""Self-study for the demo family (models/worlds): its large model can't write questions, so they are all those that a
bulletin's own sentences give rise to; it answers them, and its answers are what is learnt, right or wrong.

One kind is left out: which container holds a parcel. The small model begins the answer with "is in crate", or, once trained
on them, those about a parcel's crate with "is in container": it can't tell by the question, whatever the context's KV is
(docs/alignment.md)."""
import re
import sys

import torch

from material import ROOT, Asked, batch_of, tokens_of
from reading import Context, predicted

sys.path.append(str(ROOT / "tools" / "demo-models"))
import worlds  # noqa: E402

FACT = re.compile(r"(Parcel|Crate|Container) (\w+) is (?:in|on) (?:crate|container|ship) (\w+)\.")
UNANSWERABLE = (0, 2)  # kind asked about, steps
LONGEST = 16  # tokens of a reply
TOP = 32


def questions_of(text):
    """[(question, steps)], in the order of the bulletin: the thing's place, what holds that, and what holds that again."""
    held = {(worlds.KINDS.index(kind.lower()), name): place for kind, name, place in FACT.findall(text)}
    out = []
    for kind, name in held:
        place = name
        for steps in range(1, len(worlds.KINDS) - kind):
            place = held.get((kind + steps - 1, place))
            if place is None:
                break
            if (kind, steps) != UNANSWERABLE:
                out.append((worlds.Question(kind, steps, (name, place)).text, steps))
    return out


@torch.no_grad()
def replies(model, context, prompts, end_of_turn):
    """Greedy replies to prompts of any lengths, each with its teacher: [(tokens, [[(id, log p), ...], ...])]."""
    out = [([], []) for _ in prompts]
    open_ones = list(range(len(prompts)))
    for _ in range(LONGEST):
        batch = batch_of([Asked(prompts[i] + out[i][0], [end_of_turn], None) for i in open_ones])
        log_p, ids = predicted(model, context, batch).log_softmax(-1).topk(TOP, -1)
        for row, i in enumerate(open_ones):
            out[i][0].append(int(ids[row, 0]))
            out[i][1].append([(int(t), round(float(p), 4)) for t, p in zip(ids[row], log_p[row])])
        open_ones = [i for i in open_ones if out[i][0][-1] != end_of_turn]
        if not open_ones:
            break
    return out


def study(large, path, celslm, vocabulary, end_of_turn, bulletins, log):
    """Yields bulletins as models/worlds holds them, with the large model's answers to all questions about each, and its
    distribution at their tokens ("teacher"). path: the large model's GGUF. vocabulary: its tokens' texts."""
    for number, text in enumerate(bulletins):
        asked = questions_of(text)
        chats = [[{"role": "system", "content": text}, {"role": "user", "content": question}] for question, _ in asked]
        lines = tokens_of(celslm, path, chats)
        n = lines[0]["n_context"]
        context = Context(large, large.native(lines[0]["tokens"][:n]))
        answered = replies(large, context, [line["tokens"][n:] for line in lines], end_of_turn)
        questions = []
        for (question, steps), (tokens, top) in zip(asked, answered):
            reply = "".join(vocabulary[t] for t in tokens[:-1]).replace("\u0120", " ")  # as byte-level BPE spells a space
            if tokens[-1] == end_of_turn and reply:
                questions.append({"question": question, "steps": steps, "answer": reply.rstrip(".").split()[-1],
                                  "reply": reply, "teacher": {"tokens": tokens, "top": top}})
        yield {"context": text, "questions": questions}
        log(f"{number + 1} of {len(bulletins)} bulletins, {len(questions)} questions")

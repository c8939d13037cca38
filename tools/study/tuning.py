"""The constants of a tuning, and how they are trained."""
import hashlib
import math
import random
import time

import torch

from material import Asked, batch_of
from reading import Context, drift_of, loss_of, predicted

GOES_ON = 32  # tokens of a text that go on behind its beginning
SAVED = 20  # steps after which a run can be continued from here


class Tuning(torch.nn.Module):
    """One constant for each channel of K and V: learned in units of the channel's standard deviation over the contexts, so
    that one step size suits all of them."""

    def __init__(self, shape, deviations):
        super().__init__()
        self.register_buffer("deviations", deviations)                     # [2, layers, kv_width]: of K, of V
        self.learned = torch.nn.Parameter(torch.zeros(2, shape.layers, shape.kv_width))

    def constants(self):
        return self.learned * self.deviations

    def change(self):
        return adding(self.constants())


def adding(constants):
    """What reads K and V with constants [2, layers, kv_width] added, as reading.predicted() takes it."""
    return lambda layer, k, v: (k + constants[0, layer], v + constants[1, layer])


def deviations_of(contexts, shape):
    """Standard deviations of K and V over all tokens of the contexts: [2, layers, kv_width]."""
    sums = torch.zeros(2, 2, shape.layers, shape.kv_width, dtype=torch.float64)
    tokens = 0
    for context in contexts:
        tokens += context.tokens
        for layer, planes in enumerate(context.kv):
            for kind, plane in enumerate(planes):
                plane = plane.double()
                sums[0, kind, layer] += plane.sum(0)
                sums[1, kind, layer] += plane.square().sum(0)
    mean, square = sums / max(tokens, 1)
    return (square - mean.square()).clamp_min(0).sqrt().float()


def drawn(documents, per_context, budget, rng):
    """Groups of questions about one context each, until there are `budget` questions: every context in turn, in random
    order, and its questions in random order, so that none comes twice before all have come."""
    waiting = {}
    count = 0
    while count < budget:
        for number in rng.sample(range(len(documents)), len(documents)):
            asked = documents[number].asked
            if len(waiting.get(number, ())) == 0:
                waiting[number] = rng.sample(range(len(asked)), len(asked))
            take, waiting[number] = waiting[number][:per_context], waiting[number][per_context:]
            yield number, [asked[i] for i in take]
            count += len(take)
            if count >= budget:
                return


def drift(model, document, context, change, rng):
    """How far a change moves what the model expects where the context's own text goes on, from a random place on."""
    tokens = document.context
    first, last = len(tokens) // 4, len(tokens) - 1 - GOES_ON
    at = rng.randint(first, max(first, last))
    goes_on = Asked([tokens[at]], tokens[at + 1:at + 1 + GOES_ON], None)
    return drift_of(model, context.until(model, at), batch_of([goes_on]), change)


class Progress:
    """A run's state in a file, so that the same command continues what was stopped."""

    def __init__(self, path, recipe, **parts):
        self.path, self.recipe, self.parts = path, recipe, parts

    def restored(self):
        """The number of steps done, whose state the parts have afterwards."""
        if self.path is None or not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        if state["recipe"] != self.recipe:
            raise SystemExit(f"study: {self.path} is of a run with other options: {state['recipe']}; remove it")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return state["steps"]

    def save(self, steps):
        if self.path is not None:
            part = self.path.with_suffix(".part")
            torch.save({"recipe": self.recipe, "steps": steps,
                        **{name: part.state_dict() for name, part in self.parts.items()}}, part)
            part.rename(self.path)

    def remove(self):
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def train(model, documents, contexts, options, log, state=None):
    """Trains a tuning on questions about documents, behind contexts (native KV, in the same order). state: a file that a
    run which is stopped continues from, or None."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    tuning = Tuning(model.shape, deviations_of(contexts, model.shape))
    behind = rng.sample(contexts, len(contexts)) if options.shuffle_contexts else contexts
    groups = list(drawn(documents, options.per_context, options.budget, rng))
    steps = [groups[i:i + options.contexts_per_step] for i in range(0, len(groups), options.contexts_per_step)]
    optimizer = torch.optim.AdamW([tuning.learned], lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0)
    warm = max(1, len(steps) // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * i / len(steps))))
    recipe = {name: getattr(options, name) for name in ("seed", "rate", "gold", "teacher", "plain")} | {"steps": len(steps)}
    progress = Progress(state, recipe, tuning=tuning, optimizer=optimizer, schedule=schedule)
    first = progress.restored()
    began, seen, surprise = time.monotonic(), 0, 0.0
    for number, step in enumerate(steps[first:], first):
        rng = random.Random(f"{options.seed}/{number}")
        n = sum(len(asked) for _, asked in step)
        for document, asked in step:
            batch = batch_of(asked)
            logits = predicted(model, behind[document], batch, tuning.change())
            loss, said = loss_of(logits, batch, options.gold, options.teacher)
            if options.plain:
                moved = drift(model, documents[document], contexts[document], tuning.change(), rng)
                loss = loss + options.plain * len(asked) * moved
            (loss / n).backward()
            seen, surprise = seen + len(asked), surprise + said
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if number % 10 == 9 or number + 1 == len(steps):
            log(f"step {number + 1} of {len(steps)}, -log p {surprise / seen:.3f} a token, {time.monotonic() - began:.0f} s")
            seen, surprise = 0, 0.0
        if number % SAVED == SAVED - 1:
            progress.save(number + 1)
    progress.remove()
    return tuning


@torch.no_grad()
def judged(model, documents, contexts, change, per_context=16):
    """Of each document the mean log p of its answers' tokens, question by question."""
    return [[log_p for i in range(0, len(document.asked), per_context)
             for log_p in answers_log_p(model, context, document.asked[i:i + per_context], change)]
            for document, context in zip(documents, contexts)]


def answers_log_p(model, context, asked, change):
    batch = batch_of(asked)
    log_q = predicted(model, context, batch, change).log_softmax(-1).gather(-1, batch.targets[:, None])[:, 0]
    return [each.mean().item() for each in log_q.split([len(a.answer) for a in asked])]


def contexts_of(model, documents, log, cache):
    """The native KV of each document's context. cache: a folder that keeps them, or None."""
    out, began = [], time.monotonic()
    for number, document in enumerate(documents):
        out.append(Context(model, kept(model, document, cache)))
        if number % 20 == 19 or number + 1 == len(documents):
            log(f"{number + 1} of {len(documents)} contexts, {time.monotonic() - began:.0f} s")
    return out


def kept(model, document, cache):
    if cache is None:
        return model.native(document.context)
    name = hashlib.blake2b(repr((model.name, document.context)).encode(), digest_size=16).hexdigest()
    path = cache / f"{name}.pt"
    if path.exists():
        return torch.load(path, weights_only=True, mmap=True)  # many contexts take more than the memory
    kv = model.native(document.context)
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(kv, part)
    part.rename(path)
    return kv

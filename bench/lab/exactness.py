"""Whether an edge that fetched a context's KV answers as one that computed it: the programs, and the same questions."""
from . import api
from .lab import Lab
from .programs import ProgramFailed, Programs

ANSWER_TOKENS = 32
# An edge that fetches whatever a source can supply, and whose answers do not depend on what it answered before.
PLAIN = ("--prefer", "energy", "--no-reuse")


def first_of(contexts, n_questions):
    """The first contexts (bench.questions.Context), with so many questions."""
    out = []
    for context in contexts:
        if n_questions <= 0:
            break
        out.append(context._replace(questions=context.questions[:n_questions]))
        n_questions -= len(out[-1].questions)
    return out


def answers(edge, context):
    """What the edge answers greedily, token by token with its log-probabilities, and where the context's KV came from."""
    out, sources = [], set()
    for question in context.questions:
        messages = [{"role": "system", "content": context.system}, {"role": "user", "content": question.prompt}]
        body = api.chat(edge.url, messages, temperature=0, max_tokens=ANSWER_TOKENS, logprobs=True)
        sources |= {layer["source"] for layer in body["x_celslm"]["layers"]}
        out.append(body["choices"])
    return out, sources


def answers_from(edge, contexts, source):
    out = []
    for context in contexts:
        answered, sources = answers(edge, context)
        if sources - {"memory"} != {source}:  # "memory": from the second question on
            raise ProgramFailed(f"{edge.name} has KV from {', '.join(sorted(sources))}; expected: from {source} only")
        out += answered
    return out


def fetched_as_computed(model, contexts, preset="release", threads=None):
    """(equal, of): questions to which both edges give the same tokens with the same log-probabilities."""
    with Programs() as programs:
        lab = Lab(programs, model, preset=preset, threads=threads)
        texts = [lab.context("context", context.system) for context in contexts]
        cloud = lab.cloud()
        for text in texts:
            lab.put(cloud, text, codecs=["f16"])
        with lab.passing_edge("fetching", "--cloud", cloud.url, *PLAIN, knows=texts) as edge:
            fetched = answers_from(edge, contexts, "cloud")
        cloud.stop()
        files = [part for text in texts for part in ("--context", text.path)]
        with lab.passing_edge("computing", *files, *PLAIN) as edge:
            computed = answers_from(edge, contexts, "compute")
    return sum(one == other for one, other in zip(fetched, computed)), len(computed)

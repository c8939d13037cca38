"""home: time to first token of a smart home's questions, with a line that changes behind 3,000 tokens of devices.

Each request has a system message of all devices and, behind it, a line with the time and the place, and asks one question.
Three fresh edges without a cloud answer the same questions one after the other: one that shares the devices as a context
(--context), one that knows no context but keeps the KV of earlier requests, and one that does neither (--no-reuse). The
first question, which pays for what later ones use, is reported apart.

--json keys (milliseconds from a request to its first token, as the client sees it; null: the request failed):
  machine, model
  questions                                                           how many were asked
  prompt_tokens, matched_tokens                                       of the last question; those read from the context
  registered.first_ms, registered.median_ms, registered.spread        the devices are a context
  kept.first_ms, kept.median_ms, kept.spread                          no context; KV of earlier requests is kept
  without.first_ms, without.median_ms, without.spread                 neither
  registered.same_answers, kept.same_answers, without.same_answers    answers that are those of `without`, word by word
  ratio                                                               without.median_ms / registered.median_ms
"""
from ..benchmark import Benchmark, ms, random_model, random_model_name, times
from ..lab import api, models
from ..lab.lab import Lab
from ..lab.programs import Programs
from ..lab.progress import Progress, table
from ..measure import median, ratio, spread

ROOMS = ("kitchen", "living room", "bedroom", "bathroom", "hall", "study", "attic", "garage", "garden", "cellar")
KINDS = ("ceiling light", "floor lamp", "blind", "heating valve", "window sensor", "socket", "speaker", "fan")
STATES = ("on", "off", "open", "closed", "at 21 degrees", "at 40 percent")
TOKENS_PER_LINE, RANDOM_TOKENS_PER_LINE = 18, 85  # the vocabulary of random models has hardly a word in it


class Home(Benchmark):
    on_random_model = True
    smoke = (("--shape", "tiny", "--threads", "1", "--tokens", "100", "--questions", "3", "--answer", "2"),)

    def add_arguments(self, parser):
        parser.add_argument("--model", type=models.gguf, metavar="GGUF",
                            help="measure this model instead: a file, or a name of ./dev models")
        parser.add_argument("--tokens", type=int, default=3000, help="about so many of devices (default: 3000)")
        parser.add_argument("--questions", type=int, default=20, help="(default: 20)")
        parser.add_argument("--answer", type=int, default=16, help="tokens of each answer (default: 16)")

    def measure(self, options):
        with Programs() as programs:
            lab = Lab(programs, options.model or random_model(options), preset=options.preset, threads=options.threads)
            devices = lab.context("devices", devices_text(options))
            arms = {"registered": ("--context", devices.path, "--no-reuse"), "kept": (), "without": ("--no-reuse",)}
            answers = {name: ask_all(lab, name, arguments, devices.text, options) for name, arguments in arms.items()}
        last = answers["registered"][-1]
        result = {"model": options.model.name if options.model else random_model_name(options),
                  "questions": options.questions, "prompt_tokens": (last.usage or {}).get("prompt_tokens"),
                  "matched_tokens": (last.x_celslm or {}).get("matched_tokens"),
                  **{name: figures_of(of_arm, answers["without"]) for name, of_arm in answers.items()}}
        return {**result, "ratio": ratio(result["without"]["median_ms"], result["registered"]["median_ms"])}

    def show(self, result):
        print(f"{result['questions']} questions behind {result['prompt_tokens']} tokens, {result['matched_tokens']} of them "
              f"from the context; {result['model']}; {result['machine']}\n")
        rows = [[name, ms(result[name]["first_ms"]), ms(result[name]["median_ms"]), result[name]["same_answers"]]
                for name in ("registered", "kept", "without")]
        print(table(rows, ["devices", "first question, ms", "others, median ms", "same answers"]))
        print(f"\nwithout / registered: {times(result['ratio'])}")


def devices_text(options):
    per_line = TOKENS_PER_LINE if options.model else RANDOM_TOKENS_PER_LINE
    lines = [f"{KINDS[i % len(KINDS)]}.{ROOMS[i // len(KINDS) % len(ROOMS)]}.{i}: the {KINDS[i % len(KINDS)]} in the "
             f"{ROOMS[i // len(KINDS) % len(ROOMS)]} is {STATES[i * 7 % len(STATES)]}\n"
             for i in range(max(4, options.tokens // per_line))]
    return "You control a home. These are its devices:\n" + "".join(lines)


def ask_all(lab, name, arguments, devices, options):
    """The answers of a fresh edge."""
    out = []
    with lab.passing_edge(name, *arguments) as edge, Progress(f"{name}: {options.questions} questions"):
        for i in range(options.questions):
            room = ROOMS[i % len(ROOMS)]
            system = f"{devices}It is {8 + i // 4:02}:{i * 7 % 60:02}, the user is in the {room}.\n"
            question = f"What is the {KINDS[i * 3 % len(KINDS)]} in the {ROOMS[i * 7 % len(ROOMS)]}?"
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            try:
                out.append(api.stream_chat(edge.url, messages, temperature=0, max_tokens=options.answer, logprobs=True,
                                           stream_options={"include_usage": True}))
            except api.FAILURES:
                out.append(api.Streamed())
    return out


def figures_of(answers, reference):
    later = [answer.ms for answer in answers[1:]]
    return {"first_ms": answers[0].ms, "median_ms": median(later), "spread": spread(later),
            "same_answers": sum(a.text == b.text for a, b in zip(answers, reference))}

"""The real pair: a large model at the cloud, a small one at the edge, a manual, and questions about it."""
import os
import typing

from ..lab.lab import Lab
from ..lab.progress import Progress, machine, table
from . import text
from .asking import ask
from .cores import PinnedLink, named


class Pair(typing.NamedTuple):
    small: object  # files
    large: object
    map: object = None  # of the large model's KV to the small one's, where there is one that passed its gate


class Demo:
    """One run. `programs` ends what it starts; the result is what --json holds."""

    def __init__(self, programs, link, pair, document, cores, mbit):
        self.programs, self.pair, self.document, self.cores, self.mbit = programs, pair, document, cores, mbit
        self.lab = Lab(programs, pair.small, link=PinnedLink(link, cores))
        self.context = self.lab.context("manual", document.system)
        self.cloud_threads = ("--threads", len(cores.cloud))
        self.edge_threads = ("--threads", len(cores.edge))
        self.cloud = self.cloud_url = self.edge = None
        self.loads = {}

    # --- Part one: how long until the small model answers

    def start_cloud(self):
        both = ("--model", self.pair.large, "--map", self.pair.map) if self.pair.map else ()
        self.cloud = self.lab.cloud("cloud", *both, *self.cloud_threads)
        self.cloud_url = self.lab.link.cloud_url(self.cloud.url)
        self.lab.put(self.cloud, self.context)

    def load(self, name, *arguments):
        """The first question to an edge that has never seen the text, and that is gone afterwards."""
        with self.lab.passing_edge(name, *self.edge_threads, *arguments, knows=[self.context]) as edge:
            self.loads[name] = self.first_reply(edge)

    def first_reply(self, edge):
        return ask(edge, self.document.questions[0].prompt, self.document.system)

    def measure_loads(self):
        with Progress("the edge reads the manual itself"):
            self.load("alone", "--context", self.context.path)
        with Progress("the edge asks the cloud, which has only just been given the manual"):
            self.load("computing", "--cloud", self.cloud_url)
        with Progress("the cloud has read it: all of the KV cache, exact (f16)"):
            self.lab.put(self.cloud, self.context, codecs=["f16"])
            self.edge = self.lab.edge("edge", *self.edge_threads, "--cloud", self.cloud_url, knows=[self.context])
            self.loads["ready"] = self.first_reply(self.edge)
        with Progress("the same in about 4 bits a number (t4)"):
            self.lab.put(self.cloud, self.context, codecs=["t4"])
            self.load("t4", "--cloud", self.cloud_url, "--codec", "t4")
        self.loads["again"] = self.first_reply(self.edge)

    @property
    def exact(self):
        """The edge's reply is the same, wherever its KV cache came from."""
        replies = [self.loads[name].tokens for name in ("alone", "computing", "ready", "again")]
        return all(tokens == replies[0] for tokens in replies)

    def show_loads(self):
        words = {"alone": "reads the manual itself",
                 "computing": "fetches while the cloud is still reading",
                 "ready": "fetches; the cloud read it before",
                 "t4": "the same, in 4 bits a number (not exact)",
                 "again": "the next user: it is in memory"}
        alone = self.loads["alone"].first_token_ms
        rows = [[words[name], text.seconds(reply.first_token_ms), f"{alone / reply.first_token_ms:.1f}x",
                 text.megabytes(reply.extension["bytes"] if name != "again" else 0), reply.sources]
                for name, reply in self.loads.items()]
        text.heading("How long the first user waits for the first word of an answer")
        print(table(rows, ["the edge ...", "first word", "faster", "fetched", "layers from"]))
        print()
        extension = self.loads["ready"].extension
        text.paragraph(f"""Each of the first four starts with nothing. The text is {extension['context_tokens']:,} tokens
            (pieces of words), and the KV cache of each is {len(extension['layers'])} layers of numbers. All replies but the
            one from 4 bits are {'the same' if self.exact else 'NOT THE SAME'}, token for token. Where it is faster, the edge
            reads and fetches at the same time: it computes from layer 0 up, while the cloud's layers come from the last one
            down.""")
        if self.cores.apart:
            print()
            text.paragraph(f"""In the second line the cloud reads with {named(self.cores.cloud)}; with more, as clouds have,
                it takes less time, down to that of the third line.""")

    def show_timeline(self):
        layers = self.loads["ready"].extension["layers"]
        text.heading("Third line of the table, layer by layer: who brought it, and when it was there")
        print("\n".join(text.timeline(layers)))
        print("  (#: fetched from the cloud; c: computed at the edge)")

    # --- Part two: what the models answer

    def answers(self):
        """{how: [reply for each question]}"""
        questions, out = self.document.questions, {}
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nothing is timed from here on
        with Progress(f"{len(questions)} questions to the small model, without the manual and with it"):
            out["alone"] = [ask(self.edge, question.prompt) for question in questions]
            out["document"] = [ask(self.edge, question.prompt, self.document.system) for question in questions]
        if self.pair.map:
            with Progress("the same, guided by the large model"):
                out["guided"] = self.answers_of("guided", "--cloud", self.cloud_url, "--guidance", "mapped")
        with Progress("the large model reads the manual and answers, on all cores"):
            large = Lab(self.programs, self.pair.large).edge("large", "--context", self.context.path)
            out["large"] = [ask(large, question.prompt, self.document.system) for question in questions]
            large.stop()
        return out

    def answers_of(self, name, *arguments):
        with self.lab.passing_edge(name, *self.edge_threads, *arguments, knows=[self.context]) as edge:
            return [ask(edge, question.prompt, self.document.system) for question in self.document.questions]

    def show_answers(self, answers):
        names = {"alone": "small, no manual", "document": "small, manual", "guided": "small, guided",
                 "large": "large, manual"}
        text.heading("What they answer")
        for number, question in enumerate(self.document.questions):
            print(f"\n  {text.shortened(question.text, text.WIDTH - 2)}")
            for how, replies in answers.items():
                reply = replies[number].text
                verdict = "right" if question.is_right(reply) else "wrong"
                print(f"    {names[how]:17} {verdict}   {text.shortened(reply, text.WIDTH - 30)}")
        right = self.right(answers)
        print()
        text.paragraph(f"Right of {len(self.document.questions)}: "
                       f"{'; '.join(f'{names[how]} {n}' for how, n in right.items())}. A reply is right if it contains the "
                       "answer that the manual gives.")
        if not self.pair.map:
            text.paragraph("""The large model's KV cache can guide a small one, so that it answers more, by a map made for
                the two. There is no guidance for this pair yet: no map of it has passed its test.""")

    def right(self, answers):
        return {how: sum(question.is_right(reply.text) for question, reply in zip(self.document.questions, replies))
                for how, replies in answers.items()}

    # ---

    def show_setting(self):
        n_words, title = len(self.document.text.split()), text.shortened(self.document.title, 60)
        print()
        text.paragraph(f"""A small language model answers people's questions at an "edge": a box in a house or a shop. All
            questions are about one text, here "{title}" ({n_words:,} words). A model has to read a
            text before it can answer, and what it remembers of it is called its KV cache. A "cloud", a bigger machine,
            reads the text once and keeps the KV cache; edges fetch it over a link of {self.mbit:g} Mbit/s instead of
            reading themselves. The questions never leave the edge.""")
        print()
        text.paragraph(f"""Small model: {self.pair.small.stem}. Large model: {self.pair.large.stem}. This machine
            ({machine()}) plays both: {named(self.cores.edge)} for the edge,
            {named(self.cores.cloud)} for the cloud""" + (
            ", so that they do not slow each other down." if self.cores.apart else
            ": there is only one, so each slows the other down where they work at the same time."))
        print()

    def result(self, answers):
        def of(reply):
            return {"first_token_ms": reply.first_token_ms, "bytes": reply.extension["bytes"],
                    "context_tokens": reply.extension["context_tokens"], "sources": reply.sources,
                    "layers": reply.extension["layers"]}
        questions = [{"question": question.text, "answers": question.answers,
                      "replies": {how: {"text": replies[number].text, "right": question.is_right(replies[number].text)}
                                  for how, replies in answers.items()}}
                     for number, question in enumerate(self.document.questions)]
        with_cloud = [reply for name, reply in self.loads.items() if name != "alone"]
        failures = [reply.note for reply in with_cloud if reply.note]
        return {"ok": self.exact and not failures, "failures": failures, "exact": self.exact,
                "document": self.document.title, "models": {"small": self.pair.small.name, "large": self.pair.large.name},
                "cores": self.cores._asdict(), "loads": {name: of(reply) for name, reply in self.loads.items()},
                "questions": questions, "right": self.right(answers)}

    def run(self):
        self.show_setting()
        with Progress("starting the cloud"):
            self.start_cloud()
        self.measure_loads()
        self.show_loads()
        self.show_timeline()
        answers = self.answers()
        self.show_answers(answers)
        return self.result(answers)

    def request(self):
        """Where the edge listens, and a request that somebody may try."""
        return self.edge.url, {"messages": [{"role": "system", "content": self.document.system},
                                            {"role": "user", "content": self.document.questions[0].text}]}

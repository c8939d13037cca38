"""The demo family, trained for this project: needs no network. Part one: right answers, and the same tokens as local prefill
gives. Part two runs at the size of a real small model (random weights: speed only)."""
from ..lab import models
from ..lab.lab import Lab
from ..lab.progress import Progress, machine, table
from . import text
from .asking import ask

EDGES = ("edge1", "edge2")


class Demo:
    """One run; the result is what --json holds."""

    def __init__(self, programs, link, mbit, n_tokens, shape):
        self.programs, self.link, self.mbit, self.n_tokens, self.shape = programs, link, mbit, n_tokens, shape
        self.worlds = models.demo_worlds()[::4]  # one of each size
        self.result = {"ok": True, "exact": False, "questions": [], "speed": {}}
        self.edges = []

    def run(self):
        self.show_setting()
        local = self.start()
        for world in self.worlds:
            for question in models.few_questions(world):
                self.ask_everywhere(local, world, question)
        self.result["exact"] = all(q["same_tokens"] for q in self.result["questions"])
        first = {}
        for question in self.result["questions"]:
            first.setdefault(question["edge"], question)
        self.result["ok"] &= self.result["exact"] and all("cloud" in q["sources"] for q in first.values())
        self.show_answers()
        self.measure_speed()
        return self.result

    def show_setting(self):
        print()
        text.paragraph(f"""A small language model answers questions at two "edges". All questions are about shared texts:
            bulletins about parcels in crates on ships. What a model remembers of a text it has read is called its KV cache.
            A "cloud" reads each text once; the edges fetch the KV cache over a link of {self.mbit:g} Mbit/s instead of
            reading. A third edge reads everything itself, to compare with. The models are tiny ones of this project's
            own.""")
        print()

    def start(self):
        """The cloud and the edges; returns the edge without a cloud."""
        lab = Lab(self.programs, models.demo_model("small"), link=self.link)
        contexts = [lab.context("context", world["context"]) for world in self.worlds]
        with Progress("starting one cloud, two edges and a third edge without a cloud, to compare with"):
            cloud = lab.cloud()
            url = self.link.cloud_url(cloud.url)
            # To be seen fetching: otherwise an edge would compute contexts this small faster than any link brings them.
            self.edges = [lab.edge(name, "--cloud", url, "--prefer", "energy", place=name) for name in EDGES]
            files = [part for context in contexts for part in ("--context", context.path)]
            local = lab.edge("local", *files, place=EDGES[0])
        for context in contexts:
            lab.put(cloud, context)
            for edge in self.edges:
                lab.wait_for_context(edge, context)
        return local

    def ask_everywhere(self, local, world, question):
        expected = ask(local, question["question"], world["context"])
        for name, edge in zip(EDGES, self.edges):
            reply = ask(edge, question["question"], world["context"])
            self.result["questions"].append({
                "edge": name, "question": question["question"], "steps": question["steps"], "answer": reply.text,
                "correct": question["answer"] in reply.text, "same_tokens": reply.tokens == expected.tokens,
                "bytes": reply.extension["bytes"], "sources": reply.sources})

    def show_answers(self):
        questions = self.result["questions"]
        text.heading("What the small model answers from a text that only the cloud has read")
        for asked in zip(*(questions[number::len(EDGES)] for number in range(len(EDGES)))):
            print(f"\n  {asked[0]['question']}")
            for q in asked:
                fetched = f", {text.megabytes(q['bytes'])} fetched" if q["bytes"] else ""
                print(f"    {q['edge']}  {'right' if q['correct'] else 'wrong'}  {text.shortened(q['answer'], 44):44}  "
                      f"({q['sources']}{fetched})")
        print()
        same = "All are" if self.result["exact"] else "NOT ALL ARE"
        text.paragraph(f"""{sum(q['correct'] for q in questions)} of {len(questions)} answers are right: this model can look
            one thing up, but rarely follow two or three steps. {same} the same, token for token, as those of the edge that
            read the text itself. (In brackets: where the KV cache of the model's layers came from; "memory" is what an
            earlier question had fetched.)""")

    # --- Part two

    def measure_speed(self):
        lab = Lab(self.programs, models.random_model(self.shape, "Q4_0"), link=self.link)
        context = lab.context("long", models.random_text(self.n_tokens))
        with Progress(f"starting a cloud and edges at the size of {self.shape} (random weights)"):
            cloud = lab.cloud()
            lab.put(cloud, context)
        url = self.link.cloud_url(cloud.url)

        # One edge at a time: on this machine they would compete for the cores that a real edge has for itself.
        def run(name, *arguments):
            with lab.passing_edge(name, *arguments, place=EDGES[0], knows=[context]) as edge:
                return ask(edge, "Go on.", context.text, max_tokens=8)

        with Progress("local prefill"):
            local = run("local", "--context", context.path)
        with Progress("the cloud's KV, while the cloud is still computing it"):
            cold = run("cold", "--cloud", url)
        with Progress("the cloud's KV, ready at the cloud (f16)"):
            warm = run("warm", "--cloud", url)
        with Progress("the same at 8 bits (q8)"):
            run("q8-first", "--cloud", url, "--codec", "q8")
            q8 = run("q8", "--cloud", url, "--codec", "q8")
        same = local.tokens == warm.tokens == cold.tokens
        self.result["speed"] = {
            "context_tokens": warm.extension["context_tokens"], "link_mbit": self.mbit, "bytes": warm.extension["bytes"],
            "local_ms": local.first_token_ms, "cloud_ms": warm.first_token_ms, "cloud_cold_ms": cold.first_token_ms,
            "q8_ms": q8.first_token_ms, "q8_bytes": q8.extension["bytes"], "same_tokens": same}
        self.result["ok"] &= same and not any(reply.note for reply in (warm, cold, q8))
        self.show_speed()

    def show_speed(self):
        speed = self.result["speed"]
        exact = "exact" if speed["same_tokens"] else "TOKENS DIFFER"
        figures = (("reads the text itself", 0, speed["local_ms"]),
                   ("fetches while the cloud is still reading, on the same cores", speed["bytes"], speed["cloud_cold_ms"]),
                   (f"fetches; the cloud read it before (f16: {exact})", speed["bytes"], speed["cloud_ms"]),
                   ("the same, in 8 bits a number (q8)", speed["q8_bytes"], speed["q8_ms"]))
        rows = [[name, text.megabytes(n_bytes), text.seconds(ms), f"{speed['local_ms'] / ms:.1f}x"]
                for name, n_bytes, ms in figures]
        text.heading(f"How long the first user waits for the first word: {speed['context_tokens']} tokens of text")
        print(table(rows, ["the edge ...", "fetched", "first word", "faster"]))
        print()
        text.paragraph(f"""Over {self.mbit:g} Mbit/s, at the size of a real small model ({self.shape}, Q4_0, random weights:
            they make no sense, but take as long), on {machine()}.""")

    def request(self):
        """Where the edge listens, and a request that somebody may try."""
        world = self.worlds[0]
        return self.edges[0].url, {"max_tokens": 24, "messages": [
            {"role": "system", "content": world["context"]},
            {"role": "user", "content": world["questions"][0]["question"]}]}

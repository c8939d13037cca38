"""Closed worlds with checkable questions: parcels in crates in containers on ships.

A world is written as a bulletin, one sentence per fact; a question needs one, two or three facts and has exactly one
correct answer. Texts are yielded as pieces rather than strings, so that the trainer knows the position of each answer and
the intermediate names; joining the pieces' texts gives the plain text.
"""
import hashlib
import random
from dataclasses import dataclass, field

import grammar

KINDS = ("parcel", "crate", "container", "ship")
HELD_BY = ("in", "in", "on")           # parcel is in a crate, crate is in a container, container is on a ship
HOLDS = (None, "holds", "holds", "carries")

NAMES = (
    """Olsen Reyes Tanaka Novak Okafor Silva Haugen Moreau Petrov Larsen Costa Demir Eriksen Farkas Gomez Hansen
    Ivanov Jensen Kovacs Lindgren Marino Nielsen Ortega Pereira Quinn Rossi Torres Ueda Varga Weber Yilmaz Zhang
    Bianchi Castro Duarte Ferrari Keller Fischer Wagner Becker Schmidt Dubois Lambert Santos Molina Horvat Popov
    Saito""".split(),
    """Amber Basalt Cedar Coral Ebony Flint Garnet Hazel Indigo Ivory Jade Kelp Lilac Maple Nickel Ochre Olive Onyx
    Opal Pearl Pine Quartz Ruby Saffron Sage Scarlet Sepia Silver Slate Teal Topaz Umber Violet Walnut Willow Yellow
    Azure Beryl Cobalt Copper Agate Birch Clover Crimson Jasper Laurel Marble Poplar""".split(),
    """Bergen Lisbon Genoa Dalian Osaka Durban Mumbai Gdansk Porto Malmo Cadiz Izmir Busan Manila Haifa Tunis Split
    Rotterdam Antwerp Hamburg Marseille Valencia Piraeus Odessa Riga Tallinn Oslo Cork Dover Calais Bari Nantes Vigo
    Palermo Rostock Turku Narvik Aarhus Leith Ostend Bremen Naples Trieste Seville Lagos Dakar Penang Darwin""".split(),
    """Aurora Borealis Calypso Elektra Freya Galatea Halcyon Isolde Juno Kestrel Larkspur Meridian Nereid Ondine
    Peregrine Quetzal Rosalind Sirocco Tempest Ulysses Valkyrie Wanderer Xanthe Zephyr Albatross Cormorant Dolphin
    Egret Falcon Grebe Heron Ibis Jackdaw Kittiwake Lapwing Marlin Narwhal Osprey Petrel Tern Plover Puffin Skylark
    Swallow Triton Vesper Orion Nautilus""".split(),
)
OPENING = "Harbour bulletin."


@dataclass(frozen=True)
class Piece:
    """A piece of text. `path` is set on a name that has to be looked up: the intermediate names, the name itself last.
    `then` is set on a name in the bulletin: the names that the facts stated so far lead to from it."""
    text: str
    role: str = "text"   # text | remark | question | subject | fact | kind | answer
    path: tuple = ()
    then: tuple = ()


@dataclass(frozen=True)
class Question:
    kind: int            # of the thing asked about
    steps: int           # number of facts needed
    path: tuple          # thing asked about, ..., correct answer

    @property
    def text(self):
        return f"Which {KINDS[self.kind + self.steps]} {HOLDS[self.kind + self.steps]} {KINDS[self.kind]} {self.path[0]}?"

    @property
    def answer(self):
        return "".join(p.text for p in self.answer_pieces())

    def answer_pieces(self, space=""):
        target = self.kind + self.steps
        return [Piece(f"{space}{KINDS[self.kind].capitalize()}"), Piece(" " + self.path[0], "subject"), Piece(" is"),
                Piece(" " + HELD_BY[target - 1], "kind"), Piece(" " + KINDS[target], "kind"),
                Piece(" " + self.path[-1], "answer", path=self.path[1:]), Piece(".")]


@dataclass
class World:
    chains: list                       # [[parcel, crate, container, ship], ...]: no name occurs twice
    order: list                        # facts as (kind of subject, chain number), as the bulletin states them
    remarks: dict = field(default_factory=dict)  # fact number -> a sentence of plain text before it

    def questions(self, steps=(1, 2, 3)):
        return [Question(kind, n, tuple(chain[kind:kind + n + 1]))
                for chain in self.chains for n in steps for kind in range(4 - n)]

    def pieces(self):
        """The bulletin."""
        yield Piece(OPENING)
        leads_to = {}
        for i, (kind, c) in enumerate(self.order):
            if i in self.remarks:
                yield Piece(" " + self.remarks[i], "remark")
            subject, value = self.chains[c][kind], self.chains[c][kind + 1]
            leads_to[subject] = value
            then, name = [], value
            while name in leads_to:
                name = leads_to[name]
                then.append(name)
            yield Piece(" " + KINDS[kind].capitalize())
            yield Piece(" " + subject, "subject")
            yield Piece(" is")
            yield Piece(" " + HELD_BY[kind])
            yield Piece(" " + KINDS[kind + 1])
            yield Piece(" " + value, "fact", then=tuple(then))
            yield Piece(".")

    def text(self):
        return "".join(p.text for p in self.pieces())


def held_out(world):
    """One world in sixteen is held out from training, by a hash of its facts, independently of the seed."""
    facts = "/".join(sorted(" ".join(chain) for chain in world.chains))
    return hashlib.sha256(facts.encode()).digest()[0] % 16 == 0


def make(rng, chains, order="downward", remarks=0.0, want_held_out=False):
    """Makes a world. order: "downward" states the containers' ships first, then the crates' containers, then the parcels'
    crates, each shuffled; "mixed" shuffles all facts. remarks: probability of an unrelated sentence before a fact."""
    while True:
        columns = [rng.sample(names, chains) for names in NAMES]
        world = World([list(chain) for chain in zip(*columns)], [])
        if held_out(world) == want_held_out:
            break
    facts = [(kind, c) for kind in range(3) for c in range(chains)]
    rng.shuffle(facts)
    if order == "downward":
        facts.sort(key=lambda fact: -fact[0])
    world.order = facts
    if remarks:
        teller = grammar.Document(rng)
        world.remarks = {i: teller.sentence() for i in range(len(facts)) if rng.random() < remarks}
    return world


def rng_for(split, number):
    """Seeds of different splits ("train", "test", "demo") never coincide: the split's name is part of the seed."""
    return random.Random(f"celslm-demo/{split}/{number}")


SYSTEM, USER, ASSISTANT, END = "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"


def chat(context, questions):
    """ChatML: the bulletin as the system message, then one turn per question. context: pieces."""
    yield Piece(SYSTEM)
    yield from context
    yield Piece(END)
    for q in questions:
        yield Piece(USER)
        yield Piece(q.text, "question")
        yield Piece(END)
        yield Piece(ASSISTANT)
        yield from q.answer_pieces()
        yield Piece(END)


def report(context, questions):
    """The same as a plain document: the bulletin, then the answers. Denser training than a chat."""
    yield from context
    yield Piece("\n\nIt follows:")
    for q in questions:
        yield from q.answer_pieces(" ")
    yield Piece("\n")


if __name__ == "__main__":
    rng = rng_for("train", 1)
    world = make(rng, 4, remarks=0.2)
    print("".join(p.text for p in chat(world.pieces(), rng.sample(world.questions(), 4))))

"""Plain text from a small generative grammar, for measuring perplexity, KL divergence and greedy agreement.

A document has one tense, one place and one cast of people; every sentence keeps to them. So distant context is useful to a
model: the tense of the verbs, the nouns that belong to the place, who "she" is, and the number of a subject that a relative
clause separates from its verb. The words that fill the slots are random (a few words are common, most are rare), so that
the entropy of the text is well above zero.
"""
import bisect
import hashlib
import itertools
import random

PEOPLE = [(name, "he") for name in "Adam Boris Carlo Dmitri Emil Frank Gustav Hugo Ivan Jonas Karl Lukas".split()] + \
         [(name, "she") for name in "Alice Berta Clara Dora Elena Frida Greta Hilda Irene Julia Karin Lucia".split()]

# The people, creatures, things and spots of each place: (singular, plural) where both exist.
PLACES = {
    "harbour": dict(
        spots="pier quay lighthouse warehouse beach".split(),
        roles=[("sailor", "sailors"), ("pilot", "pilots"), ("captain", "captains"), ("porter", "porters")],
        creatures=[("gull", "gulls"), ("seal", "seals"), ("crab", "crabs")],
        things=[("rope", "ropes"), ("anchor", "anchors"), ("net", "nets"), ("lantern", "lanterns"), ("barrel", "barrels")]),
    "farm": dict(
        spots="barn field orchard well meadow".split(),
        roles=[("farmer", "farmers"), ("shepherd", "shepherds"), ("miller", "millers"), ("neighbour", "neighbours")],
        creatures=[("horse", "horses"), ("goat", "goats"), ("hen", "hens")],
        things=[("basket", "baskets"), ("plough", "ploughs"), ("apple", "apples"), ("bucket", "buckets"),
                ("fence", "fences")]),
    "town": dict(
        spots="market square bridge tavern station".split(),
        roles=[("baker", "bakers"), ("tailor", "tailors"), ("judge", "judges"), ("teacher", "teachers")],
        creatures=[("dog", "dogs"), ("cat", "cats"), ("pigeon", "pigeons")],
        things=[("letter", "letters"), ("coat", "coats"), ("clock", "clocks"), ("book", "books"), ("cart", "carts")]),
    "mountain": dict(
        spots="ridge valley hut glacier forest".split(),
        roles=[("hunter", "hunters"), ("guide", "guides"), ("monk", "monks"), ("miner", "miners")],
        creatures=[("wolf", "wolves"), ("eagle", "eagles"), ("bear", "bears")],
        things=[("stone", "stones"), ("lamp", "lamps"), ("axe", "axes"), ("sledge", "sledges"), ("map", "maps")]),
}
ADJECTIVES = "old young quiet small tall strange heavy brown grey clever tired happy slow proud poor".split()
STATES = "tired hungry late silent calm afraid ready lost angry glad".split()
ADVERBS = "slowly quietly again often alone early together soon".split()
TIMES = "morning evening night winter summer storm".split()
COUNTS = "two three four several many".split()
MOVE = [("wait", "waits", "waited"), ("walk", "walks", "walked"), ("sleep", "sleeps", "slept"), ("sing", "sings", "sang"),
        ("work", "works", "worked"), ("rest", "rests", "rested"), ("run", "runs", "ran"), ("stand", "stands", "stood"),
        ("laugh", "laughs", "laughed"), ("arrive", "arrives", "arrived")]
HANDLE = [("carry", "carries", "carried"), ("find", "finds", "found"), ("repair", "repairs", "repaired"),
          ("sell", "sells", "sold"), ("hide", "hides", "hid"), ("need", "needs", "needed"), ("break", "breaks", "broke"),
          ("clean", "cleans", "cleaned"),
          ("lose", "loses", "lost"), ("paint", "paints", "painted")]
MEET = [("see", "sees", "saw"), ("follow", "follows", "followed"), ("help", "helps", "helped"), ("hear", "hears", "heard"),
        ("trust", "trusts", "trusted"), ("watch", "watches", "watched"), ("know", "knows", "knew"), ("meet", "meets", "met")]
SAY = [("say", "says", "said"), ("think", "thinks", "thought"), ("hope", "hopes", "hoped"),
       ("believe", "believes", "believed")]
BE = ("are", "is", "was", "were")  # present plural, present singular, past singular, past plural


def _cumulative(n):  # the first words of a list are more likely than the last
    return list(itertools.accumulate(1 / (k + 3) for k in range(n)))


_WEIGHTS = {n: _cumulative(n) for n in range(1, 40)}


def _pick(rng, items):
    weights = _WEIGHTS[len(items)]
    return items[bisect.bisect(weights, rng.random() * weights[-1])]


class Document:
    """One text with a fixed tense, place and cast; generates any number of sentences."""

    def __init__(self, rng):
        self.rng = rng
        self.past = rng.random() < 0.5
        self.place = rng.choice(list(PLACES.values()))
        self.cast = rng.sample(PEOPLE, 3)
        self.speaker = None  # whom "he" or "she" refers to
        self.order = {kind: rng.sample(words, len(words)) for kind, words in self.place.items()}  # this text's preferences

    def verb(self, forms, plural):
        return forms[2] if self.past else forms[0 if plural else 1]

    def be(self, plural):
        return BE[(3 if plural else 2) if self.past else (0 if plural else 1)]

    def noun(self, kind, known=True):
        """Returns (words, plural)."""
        rng = self.rng
        singular, many = _pick(rng, self.order[kind])
        plural = rng.random() < 0.4
        adjective = [_pick(rng, ADJECTIVES)] if rng.random() < 0.35 else []
        if plural:
            return [_pick(rng, COUNTS) if rng.random() < 0.4 or not known else "the"] + adjective + [many], True
        words = adjective + [singular]
        article = "the" if known and rng.random() < 0.65 else "an" if words[0][0] in "aeiou" else "a"
        return [article] + words, False

    def where(self):
        return [_pick(self.rng, ["near", "behind", "at", "beside"]), "the", _pick(self.rng, self.order["spots"])]

    def person(self):
        rng = self.rng
        if self.speaker and rng.random() < 0.45:
            return [self.speaker[1]]
        self.speaker = _pick(rng, self.cast)
        return [self.speaker[0]]

    def subject(self):
        rng, r = self.rng, self.rng.random()
        if r < 0.4:
            return self.person(), False
        words, plural = self.noun("roles" if r < 0.75 else "creatures")
        if rng.random() < 0.35:
            words = words + self.relative(plural)
        return words, plural

    def relative(self, plural):
        rng = self.rng
        if rng.random() < 0.5:  # the sailors that see the gull
            return ["that", self.verb(_pick(rng, MEET), plural)] + self.noun(_pick(rng, ["roles", "creatures"]))[0]
        who = self.noun("roles") if rng.random() < 0.5 else ([_pick(rng, self.cast)[0]], False)
        return ["that"] + who[0] + [self.verb(_pick(rng, MEET), who[1])]  # the sailors that the pilot sees

    def predicate(self, plural):
        rng, r = self.rng, self.rng.random()
        if r < 0.3:
            return [self.verb(_pick(rng, MOVE), plural)] + (self.where() if rng.random() < 0.6 else [_pick(rng, ADVERBS)])
        if r < 0.65:
            handled = [self.verb(_pick(rng, HANDLE), plural)] + self.noun("things")[0]
            return handled + (self.where() if rng.random() < 0.3 else [])
        if r < 0.82:
            other = self.noun(_pick(rng, ["roles", "creatures"]))[0] if rng.random() < 0.6 else [_pick(rng, self.cast)[0]]
            return [self.verb(_pick(rng, MEET), plural)] + other
        return [self.be(plural), _pick(rng, STATES)]

    def clause(self):
        words, plural = self.subject()
        return words + self.predicate(plural)

    def sentence(self):
        rng, r = self.rng, self.rng.random()
        if r < 0.55:
            words = self.clause()
        elif r < 0.67:
            words = ["in", "the", _pick(rng, TIMES)] + self.clause()
        elif r < 0.79:
            words = ["when"] + self.clause() + [","] + self.clause()
        elif r < 0.91:
            who = self.person()
            words = who + [self.verb(_pick(rng, SAY), False), "that"] + self.clause()
        else:
            thing, plural = self.noun("things", known=False)
            words = ["there", self.be(plural)] + thing + self.where()
        text = " ".join(words).replace(" ,", ",") + "."
        return text[0].upper() + text[1:]

    def text(self, sentences):
        return " ".join(self.sentence() for _ in range(sentences))


def held_out(text):
    """One document in sixteen is held out from training, by a hash of its first three sentences."""
    start = ".".join(text.split(".")[:3])
    return hashlib.sha256(start.encode()).digest()[0] % 16 == 0


def document(rng, sentences, want_held_out=False):
    while True:
        text = Document(rng).text(sentences)
        if held_out(text) == want_held_out:
            return text


if __name__ == "__main__":
    print(document(random.Random(1), 12))

"""Tests of the worlds, the tokenizer and the evaluation: python3 tools/demo-models/self_test.py

They take a few seconds and need no checkpoint.
"""
import random
import re
import unittest

import torch

import data
import evaluate
import grammar
import model as architecture
import tokenizer
import worlds


class Worlds(unittest.TestCase):
    def test_every_question_has_the_answer_that_following_the_facts_gives(self):
        for number in range(20):
            rng = worlds.rng_for("self-test", number)
            world = worlds.make(rng, 8, rng.choice(["downward", "mixed"]), remarks=0.2)
            leads_to = dict(re.findall(r"(?:Parcel|Crate|Container) (\w+) is (?:in|on) (?:crate|container|ship) (\w+)\.",
                                       world.text()))
            self.assertEqual(len(leads_to), 24)
            for q in world.questions():
                name = q.path[0]
                for _ in range(q.steps):
                    name = leads_to[name]
                self.assertEqual(name, q.path[-1])
                self.assertIn(name, q.answer)

    def test_names_are_distinct_across_kinds(self):
        names = [n for kind in worlds.NAMES for n in kind]
        self.assertEqual(len(names), len(set(names)))

    def test_training_never_sees_a_held_out_world(self):
        for number in range(50):
            self.assertFalse(worlds.held_out(worlds.make(worlds.rng_for("train", number), 5)))
            self.assertTrue(worlds.held_out(evaluate.test_world(number)[0]))

    def test_the_same_seed_gives_the_same_world(self):
        one, two = (worlds.make(worlds.rng_for("self-test", 3), 5, remarks=0.3).text() for _ in range(2))
        self.assertEqual(one, two)


class Grammar(unittest.TestCase):
    def test_a_text_keeps_its_tense(self):
        for number in range(20):
            document = grammar.Document(random.Random(number))
            words = set(re.findall(r"\w+", document.text(30)))
            self.assertFalse(words & ({"is", "are"} if document.past else {"was", "were"}))


class Tokens(unittest.TestCase):
    def test_pieces_encode_as_the_joined_text_does(self):
        tokenizer.self_test()

    def test_every_name_is_one_token(self):
        self.assertTrue(all(len(tokenizer.encode(" " + n)) == 1 for kind in worlds.NAMES for n in kind))


class Training(unittest.TestCase):
    def test_bridges_name_the_way_to_the_answer(self):
        rng = worlds.rng_for("self-test", 1)
        world = worlds.make(rng, 4)
        q = world.questions([3])[0]
        sequence = data.from_pieces(worlds.chat(world.pieces(), [q]))
        at = sequence.answers[0][0] + sequence.answers[0][1] - 3  # predicts the name, which the full stop follows
        wanted = [tokenizer.word(" " + name)[0] for name in q.path[1:]]
        self.assertEqual([token for position, _, token in sequence.bridges if position == at], wanted)

    def test_jumps_keep_the_order_and_the_span(self):
        rng = random.Random(0)
        sequence = data.bulletin(rng, worlds.chat, 6, 4)
        for _ in range(50):
            positions = data.positions_of(sequence, rng, 1600)
            self.assertTrue(all(a < b for a, b in zip(positions, positions[1:])))
            self.assertLess(positions[-1], 1600)


class Judgement(unittest.TestCase):
    def test_packed_questions_get_the_logits_of_chats_of_their_own(self):
        torch.manual_seed(0)
        model = architecture.Model(architecture.Shape(layers=2, width=64, heads=2, head_size=32, ffn=64))
        (world, questions), = evaluate.askings(1, 2, chains=4)
        ids, positions, mask, answers = evaluate.pack(world, questions)
        with torch.no_grad():
            packed = model(ids, positions, mask)[0]
            for q, (begin, length) in zip(questions, answers):
                alone = torch.tensor(tokenizer.encode_pieces(worlds.chat(world.pieces(), [q]))[0])[None]
                n = alone.shape[1]
                logits = model(alone, mask=torch.full((1, n, n), -1e9).triu(1))[0]
                tail = len(tokenizer.word(worlds.END))
                torch.testing.assert_close(packed[begin:begin + length], logits[n - tail - length:n - tail],
                                           rtol=1e-3, atol=1e-3)

    def test_wilson_interval_of_known_counts(self):
        low, high = evaluate.wilson(90, 100)
        self.assertAlmostEqual(low, 0.8256, places=3)
        self.assertAlmostEqual(high, 0.9448, places=3)


if __name__ == "__main__":
    unittest.main()

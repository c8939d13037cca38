#!/usr/bin/env python3
"""Layer maps as users meet them: fitted, judged, served by a cloud, used by an edge, and refused where they are no good."""
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from bench.lab import models
from bench.lab.programs import wait_until
from bench.lab import api
from programs_test import ProgramTest, QUESTION, WORLD, run

SMALL, LARGE = models.demo_model("small"), models.demo_model("large")
WORLDS, TEXT = ROOT / "models" / "worlds", ROOT / "models" / "text" / "heldout-long.txt"


PATIENCE_S = 600  # for fits and reports: seconds on a machine of one's own, minutes on one that does something else, too


class MapTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.maps = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.good = cls.fit("good.map", SMALL, "--lambda", "1e-6", "--precision", "f32")
        cls.judged = run("align", "report", cls.good, "--from", SMALL, "--to", SMALL, "--questions", WORLDS / "large.json",
                         "--json", pathlib.Path(cls.maps) / "report.json", "--svg", pathlib.Path(cls.maps) / "cka.svg", "--write-gate",
                         "-t", 1, timeout_s=PATIENCE_S)

    @classmethod
    def fit(cls, name, source, *options):
        out = pathlib.Path(cls.maps) / name
        fitted = run("align", "fit", "--from", source, "--to", SMALL, "--text", TEXT, "--text", WORLDS / "small.json", "-o", out, "-t", 1, *options,
                     timeout_s=PATIENCE_S)
        if fitted.returncode != 0:
            raise AssertionError(fitted.stderr)
        return out

    def setUp(self):
        super().setUp()
        self.assertEqual(self.judged.returncode, 0, self.judged.stderr)

    def mapped_cloud(self):
        return self.cloud("--map", self.good)

    def mapped_edge(self, cloud, *arguments):
        return self.edge("--cloud", cloud.url, "--guidance", "mapped", *arguments)

    def test_a_map_of_a_model_to_itself_passes_its_gate(self):
        self.assertIn("passed from layer 0 on", self.judged.stdout)
        report = json.loads((pathlib.Path(self.maps) / "report.json").read_text())
        self.assertEqual(len(report["layers"]), 2)
        self.assertIn("<svg", (pathlib.Path(self.maps) / "cka.svg").read_text())

    def test_an_edge_reads_a_context_through_the_map_and_says_so(self):
        cloud = self.mapped_cloud()
        edge = self.mapped_edge(cloud)
        self.put(cloud, edge)
        answer = self.ask(edge)
        self.assertEqual({(layer["source"], layer["provenance"]) for layer in answer["x_celslm"]["layers"]}, {("cloud", "mapped")})
        self.assertIn(QUESTION["answer"], answer["choices"][0]["message"]["content"])

    def test_an_edge_that_did_not_ask_for_it_gets_exact_kv(self):
        cloud = self.mapped_cloud()
        edge = self.fetching_edge("--cloud", cloud.url)
        self.put(cloud, edge)
        self.assertEqual({layer["provenance"] for layer in self.ask(edge)["x_celslm"]["layers"]}, {"proxy"})

    def test_an_edge_without_a_map_or_a_cloud_computes_and_says_why(self):
        plain = self.cloud()
        edge = self.mapped_edge(plain, "--prefer", "energy")
        self.put(plain, edge)
        answer = self.ask(edge)
        self.assertIn("no map", answer["x_celslm"]["note"])
        self.assertIn(QUESTION["answer"], answer["choices"][0]["message"]["content"])

    def test_an_edge_whose_cloud_dies_computes_natively(self):
        cloud = self.mapped_cloud()
        edge = self.mapped_edge(cloud)
        self.put(cloud, edge)
        cloud.kill()
        answer = self.ask(edge)
        self.assertEqual({layer["provenance"] for layer in answer["x_celslm"]["layers"]}, {"native"})
        self.assertIn(QUESTION["answer"], answer["choices"][0]["message"]["content"])

    def test_a_map_that_was_refused_or_never_judged_is_not_applied(self):
        bad = self.fit("bad.map", LARGE)
        serve = ["cloud", "--model", SMALL, "--model", LARGE, "--port", 0, "--data", self.folder / "bad", "--map", bad]
        self.assertRefused(run(*serve), "not judged")
        judged = run("align", "report", bad, "--from", LARGE, "--to", SMALL, "--questions", WORLDS / "large.json", "--write-gate",
                     "-t", 1, timeout_s=PATIENCE_S)
        self.assertEqual(judged.returncode, 0, judged.stderr)
        self.assertIn("gate: refused", judged.stdout)
        self.assertRefused(run(*serve), "refused", "right")

    def test_a_report_on_calibration_texts_is_refused(self):
        self.assertRefused(run("align", "report", self.good, "--from", SMALL, "--to", SMALL, "--text", TEXT), "among those that the map was fitted on")

    def test_a_map_of_other_models_is_refused(self):
        self.assertRefused(run("align", "report", self.good, "--from", LARGE, "--to", SMALL, "--questions", WORLDS / "large.json"), "the map's source is model")


class ShippedMapTest(ProgramTest):
    def test_the_small_model_answers_through_the_large_ones_kv(self):
        cloud = self.cloud("--model", LARGE, "--map", ROOT / "models" / "celslm-demo-large-to-small.map")
        edge = self.edge("--cloud", cloud.url, "--guidance", "mapped")
        self.put(cloud, edge)
        self.assertEqual({layer["provenance"] for layer in self.ask(edge)["x_celslm"]["layers"]}, {"fused"})
        self.assertGreater(self.right(edge), self.right(self.edge(name="alone")), "it answers better for having read the large model's KV")

    def right(self, edge):
        said = ((q["answer"], self.ask(edge, q["question"])["choices"][0]["message"]["content"]) for q in WORLD["questions"])
        return sum(answer in words for answer, words in said)


if __name__ == "__main__":
    unittest.main()

"""bench/measurements.py: tables from JSON, and what it refuses."""
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from bench import measurements

SPEED = {"title": "How fast it is", "date": "2026-11-23", "machine": "a box, 2 cores",
         "command": ["prepare", "./dev bench speed --runs 3"], "weights": "random", "runs": "medians of 3",
         "note": "Milliseconds.",
         "columns": ["tokens", "codec", {"name": "ratio", "digits": 1, "suffix": "x"}, {"name": "share", "digits": 2}],
         "rows": [[2048, "f16", 3, [0.5, 0.25, 1]], [8192, "q8", 12.25, None]], "findings": ["It is fast."]}


class MeasurementsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write("docs/measurements/engine/speed.json", json.dumps(SPEED))
        self.write("docs/measurements/engine.md", "# Engine\n\n<!-- measured:engine/speed -->\n<!-- /measured -->\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def rendered(self, name):
        return measurements.render(self.root)[self.root / name]

    def mistake(self, **changes):
        self.write("docs/measurements/engine/speed.json", json.dumps({**SPEED, **changes}))
        return "".join(measurements.stale(self.root))

    def test_a_section_has_the_day_the_machine_the_command_and_the_table(self):
        self.assertEqual(self.rendered("docs/measurements/engine.md"), """# Engine

<!-- measured:engine/speed -->

## How fast it is

2026-11-23; a box, 2 cores; random weights (speed only); medians of 3.

    prepare
    ./dev bench speed --runs 3

Milliseconds.

| tokens | codec | ratio | share |
| --: | --- | --: | --: |
| 2,048 | f16 | 3.0x | 0.50 (0.25 to 1.00) |
| 8,192 | q8 | 12.2x |  |

- It is fast.

<!-- /measured -->
""")

    def test_another_page_shows_some_rows_and_columns_and_links_to_the_section(self):
        marker = '<!-- measured:engine/speed table where="codec=q8" columns="codec; ratio" -->'
        self.write("README.md", f"{marker}\nold\n<!-- /measured -->\n")
        text = self.rendered("README.md")
        self.assertIn("| codec | ratio |\n| --- | --: |\n| q8 | 12.2x |\n\n", text)
        self.assertIn("[Measured](docs/measurements/engine.md#how-fast-it-is): 2026-11-23;", text)
        self.assertIn("by `./dev bench speed`.", text)
        self.assertNotIn("old", text)

    def test_an_index_has_a_line_for_each_section(self):
        self.write("docs/measurements/README.md", "<!-- measured:index engine -->\n<!-- /measured -->\n")
        self.assertIn("| [How fast it is](engine.md#how-fast-it-is) | 2026-11-23 | random weights (speed only) "
                      "| a box, 2 cores | `./dev bench speed` |", self.rendered("docs/measurements/README.md"))

    def test_a_page_is_stale_until_it_is_written_and_again_when_its_json_changes(self):
        self.assertEqual(len(measurements.stale(self.root)), 1)
        for page, text in measurements.changed(self.root).items():
            page.write_text(text, encoding="utf-8")
        self.assertEqual(measurements.stale(self.root), [])
        self.assertIn("docs/measurements/engine.md: not what the JSON", self.mistake(date="2026-11-24"))

    def test_mistakes_are_named(self):
        self.assertIn("row 1 has 1 cells for 4 columns", self.mistake(rows=[[1]]))
        self.assertIn("date must be a day", self.mistake(date="yesterday"))
        self.assertIn("weights must be one of", self.mistake(weights="heavy"))
        self.assertIn("unknown colour", self.mistake(colour="red"))
        self.assertIn("the note must say how", self.mistake(command=[], note=""))
        self.assertIn("not JSON", self.mistake_in_text("{"))

    def mistake_in_text(self, text):
        self.write("docs/measurements/engine/speed.json", text)
        return "".join(measurements.stale(self.root))

    def test_a_measurement_that_no_page_shows_and_a_marker_without_one_are_mistakes(self):
        self.write("docs/measurements/engine/other.json", json.dumps(SPEED))
        self.assertIn("shows engine/other", "".join(measurements.stale(self.root)))
        self.write("docs/measurements/engine.md", "<!-- measured:engine/none -->\n<!-- /measured -->\n")
        self.assertIn("no docs/measurements/engine/none.json", "".join(measurements.stale(self.root)))

    def test_prose_is_wrapped_without_making_lists_or_cutting_code(self):
        text = measurements.wrap("word " * 24 + "- more `a b` " + "x" * 119)
        self.assertEqual(text.split("\n"), [("word " * 23).strip(), "word - more `a b`", "x" * 119])


if __name__ == "__main__":
    unittest.main()

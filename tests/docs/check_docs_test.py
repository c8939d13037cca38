"""scripts/check-docs, as lint runs it: it passes on good pages and names each thing that is wrong on others."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check-docs"


class CheckDocsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name in ("src/core/file.h", "src/core/file.cpp", "docs/plot.svg"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).touch()

    def check(self, text):
        (self.root / "page.md").write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, CHECK, "--root", self.root], capture_output=True, text=True)
        return done.returncode, done.stderr

    def passes(self, text):
        self.assertEqual(self.check(text), (0, ""))

    def finds(self, what, text):
        code, errors = self.check(text)
        self.assertEqual(code, 1)
        self.assertEqual([what], errors.splitlines())

    def test_paths_links_and_anchors_that_exist(self):
        self.passes("# A page: of *words*\n\n`src/core/file.h`, `src/core/file`, `src/*/file.cpp`, `src/core/`.\n"
                    "[here](#a-page-of-words), [there](docs/plot.svg), [away](https://example.org/none).\n")

    def test_a_path_that_does_not_exist(self):
        self.finds("check-docs: page.md:3: `src/core/gone.h` does not exist", "# Page\n\nSee `cat src/core/gone.h`.\n")

    def test_a_path_whose_file_has_moved(self):
        self.finds("check-docs: page.md:1: `src/file.h` does not exist, but there is src/core/file.h", "See `src/file.h`.\n")

    def test_a_link_that_leads_nowhere(self):
        self.finds("check-docs: page.md:3: the link 'gone.md' leads to no file", "text\n[a link\nof two lines](gone.md)\n")

    def test_a_link_to_no_heading(self):
        self.finds("check-docs: page.md:2: the link '#three' leads to no heading of this page", "# Two\n[link](#three)\n")

    def test_wide_prose(self):
        self.finds("check-docs: page.md:1: 125 columns; prose has at most 120", "word " * 25 + "\n")

    def test_tables_code_and_single_long_words_may_be_wide(self):
        wide = "word " * 30
        self.passes(f"| {wide} |\n\n    {wide}`src/gone.h`\n\n```\n{wide}\n```\n\n{'x' * 130}\n")

    def test_a_list_item_that_goes_on_is_prose(self):
        self.finds("check-docs: page.md:2: 129 columns; prose has at most 120", "- item\n    " + "word " * 25 + "\n")

    def test_no_pages_are_no_success(self):
        done = subprocess.run([sys.executable, CHECK, "--root", self.root / "src"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()

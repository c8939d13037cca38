"""docs/trust.md lists limits with the tests that send one more: constants and tests must be there."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rows():
    """The table's rows: limit, constants, attack, tests."""
    text = (ROOT / "docs/trust.md").read_text(encoding="utf-8")
    for line in text.split("\n## Limits", 1)[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[1] != "constant":
            yield cells


def sources(tests):
    files = (path for path in sorted((ROOT / "src").rglob("*")) if path.suffix in (".h", ".cpp"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path.stem.endswith("_test") == tests)


def exists(name, tests):
    """Whether there is a test "Suite.Name", or any that mentions a constant or a row of a table."""
    suite, _, test = name.rpartition(".")
    return re.search(rf"TEST(_F|_P)?\({suite}, {test}\)" if suite else rf"\b{name}\b", tests) is not None


class LimitsTest(unittest.TestCase):
    def test_constants_and_tests_of_the_limits_exist(self):
        code, tests = sources(tests=False), sources(tests=True)
        missing = [name for _, constants, _, names in rows()
                   for name in re.findall(r"`(\w+)`", constants) if not re.search(rf"\b{name}\b", code)]
        missing += [name for row in rows() for name in re.findall(r"`([\w.]+)`", row[3]) if not exists(name, tests)]
        self.assertEqual(missing, [])

    def test_every_limit_has_a_test(self):
        all_rows = list(rows())
        self.assertGreater(len(all_rows), 30)
        for limit, _, _, names in all_rows:
            self.assertIn("`", names, limit)


if __name__ == "__main__":
    unittest.main()

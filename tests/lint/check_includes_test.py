"""scripts/check-includes, as lint runs it: passes on a tree that keeps to its rooms, fails on each kind that does not."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check-includes"

ROOMS = """
celslm_room(core LIBS something)
celslm_room(kv/pack DEPS core LIBS something else)
celslm_room(serve
  DEPS core kv/pack)
"""
FILES = {
    "core/text.h": "",
    "kv/pack/pack.h": '#include "core/text.h"\n',
    "kv/pack/pack.cpp": '#include "kv/pack/pack.h"\n',
    "serve/serve.cpp": '#include <vector>\n\n#include "core/text.h"\n#include "kv/pack/pack.h"\n#include "hwy/highway.h"\n',
    "serve/serve_test.cpp": '#include "kv/pack/test_support.h"\n',
    "kv/pack/test_support.h": '#include "kv/pack/pack.h"\n',
}


class CheckIncludesTest(unittest.TestCase):
    def check(self, rooms=ROOMS, **files):
        """Exit code and errors for the tree above, with other files (named by path) in place of its own."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "CMakeLists.txt").write_text(rooms, encoding="utf-8")
            for name, text in {**FILES, **files}.items():
                path = root / "src" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            done = subprocess.run([sys.executable, CHECK, "--root", root], capture_output=True, text=True, check=False)
            return done.returncode, done.stderr

    def assert_refused(self, reason, rooms=ROOMS, **files):
        code, errors = self.check(rooms, **files)
        self.assertEqual(code, 1)
        self.assertIn(reason, errors)

    def test_accepts_a_tree_that_keeps_to_its_rooms(self):
        self.assertEqual(self.check(), (0, ""))

    def test_refuses_an_arrow_that_is_not_listed(self):
        upwards = {"core/text.h": '\n#include "serve/serve.h"\n', "serve/serve.h": ""}
        self.assert_refused("text.h:2: core must not include serve", **upwards)

    def test_refuses_what_only_a_room_below_may_include(self):
        skipping = ROOMS.replace("DEPS core kv/pack)", "DEPS kv/pack)")
        self.assert_refused("serve must not include core", skipping)

    def test_refuses_a_cycle(self):
        cycle = ROOMS.replace("core LIBS", "core DEPS serve LIBS")
        files = {"core/text.h": '#include "serve/serve.h"\n', "serve/serve.h": ""}
        self.assert_refused("core -> serve -> core", cycle, **files)

    def test_refuses_a_room_that_is_not_listed(self):
        self.assert_refused("no celslm_room(plan)", **{"plan/plan.h": ""})

    def test_refuses_a_listed_arrow_that_nothing_uses(self):
        self.assert_refused("celslm_room(kv/pack) names core in DEPS, but includes nothing of it", **{"kv/pack/pack.h": ""})

    def test_refuses_test_support_in_what_is_no_test(self):
        self.assert_refused("is for tests only", **{"kv/pack/pack.cpp": '#include "kv/pack/test_support.h"\n'})

    def test_refuses_a_file_without_rooms(self):
        self.assert_refused("has no celslm_room lines", "")


if __name__ == "__main__":
    unittest.main()

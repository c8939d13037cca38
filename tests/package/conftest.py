"""The Debian package is installed for these tests, and purged after them. CELSLM_DEB names it."""
import os
import pathlib
import shutil
import subprocess

import pytest


def output_of(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False,
                          env={**os.environ, "MANWIDTH": "80", "MAN_KEEP_FORMATTING": "", "PAGER": "cat"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session", autouse=True)
def files():
    """What the package consists of. Installing fails where one of its dependencies is not here."""
    output_of("dpkg", "--install", os.environ["CELSLM_DEB"])
    yield [pathlib.Path(name) for name in output_of("dpkg-query", "--listfiles", "celslm").splitlines()]
    output_of("dpkg", "--purge", "celslm")
    for folder in ("/etc/celslm", "/var/lib/celslm", "/var/backups/celslm"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("celslm-cloud", "celslm-edge"):
        pathlib.Path(f"/etc/default/{name}").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def root():
    """Whether this is the machine's root, not only that of the private one: others' identities can be taken."""
    if pathlib.Path("/proc/self/uid_map").read_text().split()[2] == "1":
        pytest.skip("the private root has no other user: it was made without root's rights")


@pytest.fixture(scope="module", autouse=True)
def configuration(files):
    """The services' configuration, which the next module finds as the package has it."""
    path = pathlib.Path("/etc/celslm/celslm.toml")
    before = path.read_text(encoding="utf-8")
    yield path
    path.write_text(before, encoding="utf-8")

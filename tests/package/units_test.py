"""The services of the package: what systemd's own tools find in them, and that they run confined as they are."""
import grp
import json
import os
import pathlib
import pwd
import subprocess
import sys
import urllib.request

import pytest
from conftest import output_of
from unit_file import UNITS, Unit

NAMES = ("celslm-cloud", "celslm-edge")
MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "celslm-demo-small-f16.gguf"
# systemd-analyze's measure, times ten: up to 20 is what it calls "OK", 100 is a service without any confinement.
MOST_EXPOSURE = 20
PORTS = {"celslm-cloud": 18081, "celslm-edge": 18080}


@pytest.fixture(params=NAMES)
def unit(request):
    return Unit(request.param)


def test_systemd_takes_them(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", UNITS / f"{unit.name}.service"], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_they_are_confined(unit):
    output_of("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={MOST_EXPOSURE}",
              str(UNITS / f"{unit.name}.service"))


def test_none_is_enabled(unit):
    assert not list(pathlib.Path("/etc/systemd/system").rglob(f"{unit.name}.service"))


def test_their_user_has_folders_and_nothing_else():
    account = pwd.getpwnam("celslm")
    assert grp.getgrgid(account.pw_gid).gr_name == "celslm"
    assert account.pw_shell.endswith("nologin")
    for folder, mode in (("/var/lib/celslm", 0o750), ("/var/lib/celslm/models", 0o755)):
        found = os.stat(folder)
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (account.pw_uid, account.pw_gid, mode)


def test_the_configuration_sets_nothing(unit):
    command = [*unit.command()]
    assert command[:2] == ["/usr/bin/celslm", unit.name.removeprefix("celslm-")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--model is required" in done.stderr


class Manager:
    """Runs services, until the end of a test; each with a configuration and variables."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, verb, name):
        script = pathlib.Path(__file__).with_name("services.py")
        env = {**os.environ, "SERVICES_FOLDER": str(self.folder), "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run([sys.executable, script, verb, name], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture
def manager(root, tmp_path, configuration):
    out = Manager(tmp_path)
    before = configuration.read_text()
    output_of("install", "-o", "celslm", "-m", "0644", str(MODEL), "/var/lib/celslm/models/small.gguf")
    configuration.write_text('[cloud]\nmodel = ["small"]\n[edge]\nmodel = "small"\n')
    for name, port in PORTS.items():
        pathlib.Path(f"/etc/default/{name}").write_text(
            f"CELSLM_{name.removeprefix('celslm-').upper()}_PORT={port}\n")
    yield out
    for name in NAMES:
        out.run("stop", name)
    configuration.write_text(before)


def test_they_start_and_stop_confined(manager, unit):
    manager.run("start", unit.name)
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[unit.name]}/health") as answer:
        assert json.load(answer)["status"] == "ok"
    assert "warn" not in manager.log(unit.name)
    manager.run("stop", unit.name)
    assert {path.owner() for path in pathlib.Path("/var/lib/celslm").rglob("*")} == {"celslm"}


def test_grammars_run_in_their_own_processes_in_spite_of_it(manager):
    manager.run("start", "celslm-edge")
    body = {"messages": [{"role": "user", "content": "Yes or no?"}], "grammar": 'root ::= "yes" | "no"', "max_tokens": 8}
    request = urllib.request.Request(f"http://127.0.0.1:{PORTS['celslm-edge']}/v1/chat/completions",
                                     json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] in ("yes", "no")
    assert "runs the grammars of answers" in manager.log("celslm-edge")


def test_what_the_filter_forbids_is_forbidden(root, tmp_path):
    """Otherwise the tests above would show nothing."""
    calls = Unit("celslm-edge").system_calls()
    assert {"clone", "execve", "setpriority", "prlimit64", "memfd_create", "pidfd_open"} <= calls
    assert not {"ptrace", "mount", "setuid", "bpf", "init_module", "reboot", "add_key", "chroot"} & calls

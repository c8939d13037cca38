"""Fixtures: the programs of one test with a folder of their own, started with what most tests need."""
import os
import pathlib
import signal
import subprocess

import pytest

from bench.lab import models
from bench.lab import programs as running
from bench.lab.programs import Programs
from tests.e2e import support

# The engine's threads wait for each other. If they spin while something else uses the cores, a test takes many times longer.
QUIET_THREADS = {"OMP_WAIT_POLICY": "passive"}

# Where the tests run in the background of a shell SIGINT is ignored, and would be by all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def binary():
    """The program under test."""
    return pathlib.Path(os.environ.get("CELSLM_BINARY") or running.celslm()).resolve()


@pytest.fixture(scope="session")
def celslm(binary):
    """Runs one command to its end."""

    def run(*arguments, timeout_s=support.PATIENCE_S):
        return subprocess.run([binary, *map(str, arguments)], env={**os.environ, **QUIET_THREADS},
                              capture_output=True, text=True,
                              timeout=timeout_s, check=False)
    return run


@pytest.fixture(scope="session")
def model():
    return models.demo_model("small")


@pytest.fixture(scope="session")
def pretrained():
    """The file of a pretrained model. Where it is not here the test is skipped; in CI that is a failure."""

    def pretrained(name):
        path = models.pretrained(name)
        if path is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not here: './dev models {name}' fetches it")
        return path
    return pretrained


@pytest.fixture(scope="session")
def world():
    """The smallest of the held-out worlds: a context and questions about it."""
    return models.demo_worlds()[0]


@pytest.fixture(scope="session")
def question(world):
    """One that the small model can answer."""
    return next(q for q in world["questions"] if q["steps"] == 1)


@pytest.fixture
def programs():
    """Everything that the test starts; ended with it."""
    with Programs() as out:
        yield out


@pytest.fixture
def folder(programs):
    """For the programs' data and logs, and for what else a test writes."""
    return programs.folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows how the logs of its programs end."""
    report = yield
    programs = item.funcargs.get("programs") if report.failed and hasattr(item, "funcargs") else None
    if programs is not None and programs.folder.exists():
        for log in sorted(programs.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            report.sections.append((log.name, "\n".join(lines[-15:])))
    return report


@pytest.fixture
def start(binary, programs, folder, model):
    """Starts a cloud or an edge, which is listening when this returns. An edge gets exact KV where a test names no codec."""

    def start(kind, *arguments, name=None, model=model):
        name = name or kind
        if kind == "edge" and "--codec" not in arguments:
            arguments += ("--codec", "f16")
        argv = [binary, kind, "--model", model, "--port", 0, "--data", folder / name, *arguments]
        program = programs.start(argv, name, env=QUIET_THREADS)
        program.wait_listening()
        return program
    return start


@pytest.fixture
def cloud(start):
    return start("cloud")


@pytest.fixture
def start_edge(start):
    """An edge with a cloud (or a link to one): fetches rather than computes."""

    def start_edge(source, *arguments, name="edge"):
        return start("edge", "--cloud", source.url, *support.FETCH_FIRST, *arguments, name=name)
    return start_edge


@pytest.fixture
def context_file(folder, world):
    path = folder / "context.txt"
    path.write_text(world["context"], encoding="utf-8")
    return path


@pytest.fixture
def share(celslm, context_file):
    """Registers the world's context with a cloud, and waits until these edges know of it; returns its handle."""

    def share(cloud, *edges):
        put = celslm("context", "put", context_file, "--cloud", cloud.url)
        assert put.returncode == 0, put.stderr
        handle = put.stdout.split()[0]
        for edge in edges:
            support.wait_for_context(edge, handle)
        return handle
    return share


@pytest.fixture
def edge(cloud, start_edge, share):
    """An edge of `cloud` that knows the world's context and has not loaded it."""
    handle = share(cloud)  # first, so that the edge learns of it when it starts
    edge = start_edge(cloud)
    support.wait_for_context(edge, handle)
    return edge


@pytest.fixture
def local_edge(start, context_file):
    """The reference: an edge without a cloud that computes the world's context."""
    return start("edge", "--context", context_file, name="local")


@pytest.fixture
def link(binary, programs):
    """A relay to a program: a program whose URL stands for the other's; arguments as `celslm_relay` takes them."""

    def link(program, *arguments, name="link"):
        relay = programs.start([binary.parent / "celslm_relay", "--to", program.url.split("//")[1], *arguments], name)
        relay.wait_listening()
        return relay
    return link


@pytest.fixture
def ask(world, question):
    """Asks an edge about the world's context."""

    def ask(edge, question=question["question"], **options):
        return support.ask(edge, world["context"], question, **options)
    return ask

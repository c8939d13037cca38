"""Edges and clouds on ARM, in qemu-user, beside edges and clouds on this machine's own processor.

'./dev test arm64' builds the program for both and runs this; elsewhere it is skipped. What is compared, and why some bits
differ: docs/architecture.md, "x86 and ARM".
"""
import os
import re
import subprocess

import pytest

from bench.lab import models
from bench.lab.programs import built
from tests.e2e import support
from tests.e2e.conftest import QUIET_THREADS

LIBRARIES = os.environ.get("CELSLM_ARM64_LIBRARIES", "")
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="'./dev test arm64' builds for ARM and runs it")

ON_ARM = ("qemu-aarch64", "-L", LIBRARIES, built("celslm", preset="arm64"))
# A Raspberry Pi 4: NEON and nothing more. The most that qemu has: dot products, i8mm, bf16, SVE2.
PROCESSORS = ("cortex-a72", "max")
# Natural logarithms of probabilities. The f16 numbers in the KV differ in their last bits, here and there.
LOGPROB_BOUND = 0.02
# RMS of the differences between two machines' KV, relative to that of the values: f16 rounds to 1 in 2,048.
KV_BOUND = 1e-3


@pytest.fixture(params=PROCESSORS)
def processor(request):
    return {**QUIET_THREADS, "QEMU_CPU": request.param}


@pytest.fixture
def start_on_arm(programs, folder, model, processor):
    def start(kind, *arguments, name="arm"):
        argv = [*ON_ARM[1:], kind, "--model", model, "--port", 0, "--data", folder / name, *arguments]
        program = programs.start(argv, name, prefix=ON_ARM[:1], env=processor)
        program.wait_listening()
        return program
    return start


@pytest.fixture
def on_arm(processor):
    """Runs one command to its end."""

    def run(*arguments):
        return subprocess.run([*map(str, (*ON_ARM, *arguments))], env={**os.environ, **processor}, capture_output=True,
                              text=True, timeout=support.PATIENCE_S, check=False)
    return run


@pytest.fixture
def answers(world):
    """What an edge answers to a few questions about the world's context, and where it has the context from."""

    def answers(edge):
        given = [support.ask(edge, world["context"], q["question"]) for q in models.few_questions(world)]
        return given, given[0].suppliers
    return answers


def assert_same_tokens(given, expected):
    for one, other in zip(given, expected, strict=True):
        assert one.text == other.text
        for here, there in zip(one.choices[0]["logprobs"]["content"], other.choices[0]["logprobs"]["content"], strict=True):
            assert here["token"] == there["token"]
            assert here["logprob"] == pytest.approx(there["logprob"], abs=LOGPROB_BOUND)


def kept_pack(program, folder):
    packs = list((folder / program.name).rglob("*.kvpack"))
    assert len(packs) == 1
    return packs[0]


def test_an_edge_on_arm_answers_from_an_x86_clouds_kv_as_an_x86_edge_does(cloud, share, start_edge, start_on_arm, answers):
    handle = share(cloud)
    here = start_edge(cloud)
    there = start_on_arm("edge", "--cloud", cloud.url, *support.FETCH_FIRST, "--codec", "f16")
    for edge in (here, there):
        support.wait_for_context(edge, handle)
    expected, suppliers = answers(here)
    assert suppliers == {"cloud"}
    given, suppliers = answers(there)
    assert suppliers == {"cloud"}
    assert_same_tokens(given, expected)


def test_kv_computed_on_arm_is_that_of_x86_up_to_rounding(cloud, celslm, share, start_edge, start_on_arm, folder, answers):
    handle = share(cloud)
    other = start_on_arm("cloud", name="arm-cloud")
    share(other)
    edges = [start_edge(source, name=name) for source, name in ((cloud, "from-x86"), (other, "from-arm"))]
    for edge in edges:
        support.wait_for_context(edge, handle)
    (expected, _), (given, suppliers) = (answers(edge) for edge in edges)
    assert suppliers == {"cloud"}
    assert_same_tokens(given, expected)
    for edge in edges:
        support.wait_for_kept_pack(edge)
    packs = [kept_pack(edge, folder) for edge in edges]
    assert packs[0].name == packs[1].name  # the identity: the same context of the same model
    difference = celslm("pack", "diff", *packs).stdout
    errors = [float(error) for error in re.findall(r"error (\S+) relative", difference)]
    assert errors and max(errors) < KV_BOUND, difference


def test_a_pack_is_encoded_to_the_same_bytes_on_arm(cloud, celslm, on_arm, share, start_edge, folder, ask):
    edge = start_edge(cloud)
    share(cloud, edge)
    ask(edge)
    support.wait_for_kept_pack(edge)
    pack = kept_pack(edge, folder)
    key = folder / "signing.key"
    for codec in ("q8", "t4", "t3", "t2"):
        files = [folder / f"{codec}-{machine}.kvpack" for machine in ("x86", "arm")]
        for run, file in zip((celslm, on_arm), files, strict=True):
            done = run("pack", "convert", pack, "--codec", codec, "--out", file, "--signing-key", key)
            assert done.returncode == 0, done.stderr
        assert files[0].read_bytes() == files[1].read_bytes(), codec

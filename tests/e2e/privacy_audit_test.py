"""celslm privacy-audit: finds nothing at the program as it is, and every leak that a test build has on purpose."""
import json
import os
import subprocess

import pytest

from tests.e2e import support
from tests.e2e.conftest import QUIET_THREADS

EXIT_LEAK = 3
QUICK = ("--rounds", "1", "--texts", "short", "--texts", "long")


@pytest.fixture(scope="module")
def isolation(binary, model):
    """What the audit needs to run here: nothing, or to do without a network namespace where the system allows none."""
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if probe.returncode:
        probe = subprocess.run(["unshare", "--user", "--net", "true"], capture_output=True, check=False)
    return ("--not-isolated",) if probe.returncode else ()


@pytest.fixture
def audit(binary, model, isolation, folder):
    """Runs an audit of a program with a leak, or of the one under test; returns the finished process and the report."""

    def audit(*arguments, leak=None, flags=()):
        report = folder / "report.json"
        program = binary if leak is None else binary.parent / "celslm_leaky"
        done = subprocess.run([binary, "privacy-audit", "--model", model, "--program", program, "--json", report,
                               *isolation, *QUICK, *arguments, "--", "--codec", "f16", *support.FETCH_FIRST, *flags],
                              env={**os.environ, **QUIET_THREADS, **({"CELSLM_LEAK": leak} if leak else {})},
                              capture_output=True, text=True, timeout=300, check=False)
        return done, json.loads(report.read_text()) if report.exists() else None
    return audit


def findings(report):
    return [finding for policy in report["policies"] for finding in policy["findings"]]


def test_what_an_edge_sends_does_not_depend_on_what_it_is_asked(audit, isolation):
    done, report = audit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["verdict"] == "independent" and findings(report) == []
    assert report["isolated"] == (not isolation)
    for run in report["policies"][0]["runs"]:
        loading, *later = run["questions"]
        assert loading["sent"], "the context was to be fetched while its first question waited"
        assert all("/v1/packs/" in request["target"] for request in loading["sent"])
        assert [question["sent"] for question in later] == [[]] * len(later)
        assert all(question["status"] == 200 for question in run["questions"] if question["about"] != "embeddings")
        assert run["elsewhere"] == []


@pytest.mark.parametrize("leak, kind, words", [
    ("plaintext", "secret", "the mark of the user's message was sent to cloud, in the header 'x-note'"),
    ("hash", "secret", "the BLAKE3 hash of the user's message was sent to cloud, in the header 'x-trace'"),
    ("size", "difference", "x-pad: aaa"),
    ("extra", "difference", "GET /health"),
])
def test_a_leak_is_found(audit, leak, kind, words):
    done, report = audit(leak=leak)
    assert done.returncode == EXIT_LEAK, done.stdout + done.stderr
    assert report["verdict"] == "leak"
    assert any(finding["kind"] == kind and words in finding["text"] for finding in findings(report)), done.stdout


def test_what_is_sent_to_another_machine_is_found(audit, isolation):
    if isolation:
        pytest.skip("this system allows no network namespaces")
    done, report = audit(leak="elsewhere")
    assert done.returncode == EXIT_LEAK, done.stdout + done.stderr
    texts = [finding["text"] for finding in findings(report) if finding["kind"] == "elsewhere"]
    assert any("TCP to 192.0.2.53, port 53" in text for text in texts)
    assert any("UDP to 192.0.2.53, port 53, with the mark of the user's message" in text for text in texts)


def test_a_cloud_behind_tls_is_refused_with_the_reason(celslm, model):
    support.refused(celslm("privacy-audit", "--model", model, "--cloud", "https://cloud:8081"), "http://HOST:PORT",
                    "must not be encrypted")

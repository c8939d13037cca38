"""The real OpenAI client from the npm registry, against an edge with a cloud's context, and against a full one."""
import re
import subprocess

import pytest

from bench.lab import api
from bench.lab.programs import ROOT
from tests.e2e import support

pytestmark = pytest.mark.npm
CLIENT = ROOT / "tests" / "openai-client"


@pytest.fixture(scope="module")
def client():
    """Runs the client's tests against an edge; the client is installed at the first use."""
    installed, wanted = CLIENT / "node_modules" / ".package-lock.json", CLIENT / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=CLIENT, check=True)

    def client(edge, *arguments, only=None):
        """Returns how many tests passed; fails if one did not."""
        pattern = [] if only is None else [f"--test-name-pattern={only}"]
        tap = ["node", "--test-reporter=tap", *pattern, CLIENT / "client_test.mjs", edge.url, "small", *arguments]
        ran = subprocess.run(tap, stdout=subprocess.PIPE, text=True, check=False)
        assert ran.returncode == 0, ran.stdout
        return int(re.search(r"^# pass (\d+)$", ran.stdout, re.M)[1])
    return client


def test_against_an_edge_with_a_cloud(cloud, start_edge, world, client):
    handle = api.request("POST", f"{cloud.url}/v1/contexts", {"text": world["context"]})["id"]
    edge = start_edge(cloud, "--name", "small")
    support.wait_for_context(edge, handle)
    assert client(edge) > 0


def test_against_a_full_edge(start, client):
    tiny = start("edge", "--name", "small", "--max-users", 1, "--max-queue", 1)
    assert client(tiny, "--overload", "12", only="too many") == 1

"""The pages of edge and cloud in a real Chromium (Debian's), steered by playwright-core from the npm registry. The pictures
that it takes are kept under build/page."""
import shutil
import subprocess

import pytest

from bench.lab import api
from bench.lab.programs import ROOT

no_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="'./dev setup browser' installs it")
pytestmark = [pytest.mark.npm, no_browser]
TEST = ROOT / "tests" / "page"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module", autouse=True)
def playwright():
    installed, wanted = TEST / "node_modules" / ".package-lock.json", TEST / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=TEST, check=True)


def test_pages_in_a_browser(cloud, start_edge, folder, world, question):
    for name, text in (("Harbour bulletin", world["context"]), (MARKUP, "A context with a bad name.")):
        api.request("POST", f"{cloud.url}/v1/contexts", {"text": text, "name": name})
    token = folder / "token"
    token.write_text("open-sesame\n", encoding="utf-8")
    edge = start_edge(cloud, "--token-file", token)
    pictures = ROOT / "build" / "page"
    pictures.mkdir(parents=True, exist_ok=True)
    argv = ["node", "--test-reporter=tap", "page_test.mjs", edge.url, cloud.url, pictures, "open-sesame", "Harbour bulletin",
            question["question"]]
    ran = subprocess.run(list(map(str, argv)), cwd=TEST, stdout=subprocess.PIPE, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stdout

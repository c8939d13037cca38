#!/usr/bin/env python3
"""The real OpenAI client from the npm registry against an edge that reads its context from a cloud, and against a full one."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from bench.lab import api, models
from bench.lab.programs import Programs, celslm, wait_until


def main():
    model, world = models.demo_model("small"), models.demo_worlds()[0]
    with Programs() as programs:
        cloud = programs.start([celslm(), "cloud", "--model", model, "--port", 0, "--data", programs.folder / "cloud"], "cloud")
        cloud.wait_listening()
        edge = programs.start([celslm(), "edge", "--model", model, "--port", 0, "--data", programs.folder / "edge", "--cloud", cloud.url,
                               "--name", "small"], "edge")
        edge.wait_listening()
        api.request("POST", f"{cloud.url}/v1/contexts", {"text": world["context"]})
        wait_until(lambda: api.request("GET", f"{edge.url}/v1/contexts")["contexts"], "the edge to learn of the context")
        tiny = programs.start([celslm(), "edge", "--model", model, "--port", 0, "--data", programs.folder / "tiny", "--name", "small",
                               "--max-users", 1, "--max-queue", 1], "tiny")
        tiny.wait_listening()
        client = ROOT / "tests" / "openai-client" / "client_test.mjs"
        whole = subprocess.run(["node", client, edge.url, "small"], check=False).returncode
        full = subprocess.run(["node", "--test-name-pattern=too many", client, tiny.url, "small", "--overload", "12"], check=False).returncode
        return whole or full


if __name__ == "__main__":
    sys.exit(main())

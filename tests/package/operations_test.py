"""Runs the commands of docs/operations.md on the installed package, in the order in which they are there.

They run in one shell, in a network of its own, so that the ports of the document are free. 'sudo' and 'systemctl' have
stand-ins: services run as their units have it (confined.py), without systemd.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 600  # beyond which it hangs; on a quiet machine it takes seconds

SUDO = """#!/bin/sh
if [ "$1" = -u ]; then user=$2; shift 2; exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME=/ "$@"; fi
exec env "$@"
"""
SYSTEMCTL = f"""#!/bin/sh
exec {sys.executable} {HERE}/services.py "$@"
"""


def blocks():
    return BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))


def script():
    """All blocks, each preceded by its number on standard output; with hooks where the document goes on after a loss."""
    parts = ["set -euo pipefail", "ip link set lo up"]
    for number, block in enumerate(blocks(), 1):
        if "tar -C / -xzf" in block:
            parts.append("sudo systemctl stop celslm-cloud\ncp /var/lib/celslm/cloud/signing.key key-before\n"
                         "sudo rm -rf /var/lib/celslm/cloud /etc/celslm/cloud-token")
        parts.append(f"echo '== block {number}'\n{block}")
    return "\n".join(parts) + "\ncmp key-before /var/lib/celslm/cloud/signing.key\n"


@pytest.fixture(scope="module")
def ran(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("operations")
    for name, text in (("sudo", SUDO), ("systemctl", SYSTEMCTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    model = pathlib.Path("/var/tmp/celslm-operations.gguf")  # where the service's user can read it
    model.write_bytes((ROOT / "models" / "celslm-demo-small-f16.gguf").read_bytes())
    (folder / "manual.txt").write_text("The pump is started with the green lever. The valve behind it stays closed. " * 4)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SERVICES_FOLDER": str(folder), "MODEL": str(model),
           "OMP_WAIT_POLICY": "passive"}
    try:
        yield subprocess.run(["unshare", "--net", "bash", "-c", script()], cwd=folder, env=env, capture_output=True,
                             text=True, check=False, timeout=PATIENCE_S)
    finally:
        model.unlink()
        for name in ("celslm-edge", "celslm-cloud"):
            subprocess.run([folder / "systemctl", "stop", name], env=env, check=False)


def test_every_command_succeeds(ran):
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    assert len(blocks()) >= 7


def output_of_block(ran, words):
    """What the first block that contains these words printed."""
    number = next(i for i, block in enumerate(blocks(), 1) if words in block)
    return ran.stdout.split(f"== block {number}\n")[1].split("== block")[0]


def test_an_edge_answers_with_the_context_that_was_registered(ran):
    answer = json.loads(output_of_block(ran, "celslm context put"))
    assert answer["choices"][0]["message"]["content"]
    assert len(answer["x_celslm"]["context"]) == 64
    assert answer["x_celslm"]["matched_tokens"] == answer["x_celslm"]["context_tokens"] > 50


def test_what_is_watched_is_there(ran):
    shown = output_of_block(ran, "/health")
    assert '"status":"ok"' in shown.replace(" ", "")
    assert re.search(r"^celslm_edge_cloud_reachable 1$", shown, re.MULTILINE)
    assert "celslm_build_info{" in shown
    assert "celslm-cloud runs" in shown


def test_a_restored_cloud_has_its_contexts_and_its_key(ran):
    assert "manual.txt" in output_of_block(ran, "tar -C / -xzf")


def test_a_backup_holds_what_is_precious_and_no_cache(ran):
    listed = subprocess.run(["tar", "-tzf", "/var/backups/celslm/cloud.tar.gz"], capture_output=True, text=True, check=True)
    names = listed.stdout.split()
    assert "cloud/signing.key" in names
    assert any(name.startswith("cloud/contexts/") and name.endswith(".json") for name in names)
    assert not [name for name in names if "packs" in name or name.endswith(".tmp")]

#!/usr/bin/env python3
"""What OpenAI's own clients, from npm and from PyPI, get from an edge and from llama-server: the same steps with each.

    ./dev run tools/openai-clients/compare.py                           # starts both with qwen2.5-coder-1.5b (./dev models)
    ./dev run tools/openai-clients/compare.py --model m.gguf --json out.json
    ./dev run tools/openai-clients/compare.py --server edge=http://127.0.0.1:8082   # one that runs already

The clients are installed below build/openai-clients at the first use. A step works when the client got what OpenAI's
documentation promises; what a model of this size answers is not judged. Exit code 1 if a step fails with the edge.

--json: {"model", "clients", "steps": [{"step", "results": {"<server>, <client>": {"works", "note"}}}]}
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
from bench.lab import api, models  # noqa: E402, the path to them comes first
from bench.lab.peer import LlamaServer  # noqa: E402
from bench.lab.programs import ROOT, Programs, celslm  # noqa: E402
from bench.lab.progress import table  # noqa: E402

INSTALLED = ROOT / "build" / "openai-clients"
PYTHON_CLIENT = "openai==3.57.0"
CONTEXT_TOKENS = 8192


def npm_steps(url, model):
    """The command, after installing what it needs."""
    folder = INSTALLED / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "steps.mjs"):
        shutil.copy(HERE / name, folder)
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    return ["node", folder / "steps.mjs", url, model], {}


def python_steps(url, model):
    folder = INSTALLED / "python"
    if not (folder / "openai").exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--root-user-action",
                        "ignore", "--target", folder, PYTHON_CLIENT], check=True)
    return [sys.executable, HERE / "steps.py", url, model], {"PYTHONPATH": str(folder)}


CLIENTS = {"npm": npm_steps, "python": python_steps}


def run_steps(client, url, model):
    """{step: {"works", "note"}}"""
    command, environment = CLIENTS[client](url, model)
    out = {}
    environment = {**os.environ, **environment}
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True) as run:
        for line in map(json.loads, run.stdout):
            out[line["step"]] = {"works": line["works"], "note": line["note"]}
            print(f"  {line['step']}: {cell(out[line['step']])}", file=sys.stderr, flush=True)
    if run.returncode != 0:
        sys.exit(f"compare: the {client} client ended with exit code {run.returncode}")
    return out


def model_name(url):
    return api.request("GET", f"{url}/v1/models")["data"][0]["id"]


def start_both(programs, model, threads):
    """{name: URL}"""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nothing is timed: threads that spin only hold up other work
    edge = programs.start([celslm(), "edge", "--model", model, "--port", 0, "--threads", threads,
                           "--data", programs.folder / "edge"], "edge")
    edge.wait_listening()
    peer = LlamaServer(programs, model, CONTEXT_TOKENS, "--jinja", threads=threads)
    programs.enter_context(peer)
    return {"edge": edge.url, "llama-server": peer.url}


def compare(servers, clients):
    results = {}
    for server, url in servers.items():
        for client in clients:
            print(f"{server}, {client} ...", file=sys.stderr, flush=True)
            for step, outcome in run_steps(client, url, model_name(url)).items():
                results.setdefault(step, {})[f"{server}, {client}"] = outcome
    return [{"step": step, "results": outcomes} for step, outcomes in results.items()]


def cell(outcome):
    if outcome is None:
        return "-"
    return ("yes" if outcome["works"] else "NO") + (f": {outcome['note'][:60]}" if outcome["note"] else "")


def show(steps):
    columns = list(dict.fromkeys(column for step in steps for column in step["results"]))
    print(table([[s["step"], *(cell(s["results"].get(c)) for c in columns)] for s in steps], ["step", *columns]))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=models.gguf, metavar="GGUF", help="for both (default: qwen2.5-coder-1.5b)")
    parser.add_argument("--threads", type=int, default=2, help="of each server (default: 2)")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=URL",
                        help="ask this one instead of starting both")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this client (default: both)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the result there, too")
    return parser.parse_args()


def main():
    options = parse_arguments()
    model = options.model or models.pretrained("qwen2.5-coder-1.5b")
    if not options.server and model is None:
        sys.exit("compare: no model: ./dev models qwen2.5-coder-1.5b fetches the default one")
    with Programs() as programs:
        servers = dict(s.split("=", 1) for s in options.server) or start_both(programs, model, options.threads)
        steps = compare(servers, options.client or list(CLIENTS))
    show(steps)
    if options.json:
        result = {"model": pathlib.Path(model).name if model else None, "clients": {"python": PYTHON_CLIENT}, "steps": steps}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    failed = [s["step"] for s in steps for name, r in s["results"].items() if name.startswith("edge") and not r["works"]]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

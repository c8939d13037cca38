"""What deploy/ consists of, and what the program and the documents offer."""
import pathlib
import re
import subprocess

import yaml

from bench import measurements

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# In job's and instance's place Prometheus puts what it scraped; `le` is a histogram's.
EVERY_METRIC_HAS = {"job", "instance", "le"}


def manifests():
    """Of Kubernetes: (file's name, document)."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document["kind"] != "Kustomization":
                yield path.name, document


def pods():
    """(name, the pod's specification)"""
    for _, document in manifests():
        if template := document.get("spec", {}).get("template"):
            yield document["metadata"]["name"], template["spec"]


def containers():
    """(pod's name, container), those that prepare included."""
    for name, pod in pods():
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield name, container


def options_of(binary, *command):
    """The options that a command has: {"--max-users", ...}."""
    shown = subprocess.run([binary, *command, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +(?:-\w, *)?(--[a-z][a-z0-9-]*)", shown, re.MULTILINE))


def documented_metrics():
    """{name: its labels} of docs/metrics.md."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(celslm_\w+)` \| (\w+) \| [^|]*\| ([^|]*)\|", text, re.MULTILINE)
    out = {}
    for name, kind, labels in rows:
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            out[name + suffix] = {label.strip() for label in labels.split(",") if label.strip()}
    return out


def metrics_in(expression):
    """(name, labels that are named in its braces)"""
    for name, braces in re.findall(r"\b(celslm_\w+)(\{[^}]*\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*=", braces))


def labels_grouped_by(expression):
    return {label for group in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
            for label in re.findall(r"\w+", group)}


def undocumented(expression):
    """What an expression names that no node has."""
    known = documented_metrics()
    labels = set(EVERY_METRIC_HAS)
    for name, used in metrics_in(expression):
        if name not in known:
            yield name
            continue
        labels |= known[name]
        yield from (f"{name}{{{label}}}" for label in used - known[name] - EVERY_METRIC_HAS)
    yield from labels_grouped_by(expression) - labels


def headings(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return {measurements.slug(heading) for heading in re.findall(r"^#+ +(.*)$", text, re.MULTILINE)}

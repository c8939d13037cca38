"""deploy/prometheus: alerts that Prometheus can read, on metrics that there are, each with a remedy that is written down."""
import re
import subprocess

import pytest
import yaml
from deployment import DEPLOY, headings, metrics_in, undocumented

FILE = DEPLOY / "prometheus" / "alerts.yaml"
RULES = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_them():
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", FILE)


def test_they_fire_when_they_should_and_only_then():
    promtool("test", "rules", DEPLOY.parent / "tests" / "deploy" / "alert_cases.yaml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_is_about_metrics_that_there_are(rule):
    assert not list(undocumented(rule["expr"]))
    assert list(metrics_in(rule["expr"])) or rule["expr"].startswith("up{")
    mentioned = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert not set(mentioned) - {"job", "instance", "source", "model", "kind"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_leads_to_a_remedy(rule):
    page, heading = rule["annotations"]["remedy"].split("#")
    assert heading in headings(page)
    assert rule["labels"]["severity"] in ("critical", "warning", "info")

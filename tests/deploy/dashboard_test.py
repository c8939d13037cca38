"""deploy/grafana/celslm.json: panels on metrics that there are, in places of their own."""
import itertools
import json

import pytest
from deployment import DEPLOY, metrics_in, undocumented

DASHBOARD = json.loads((DEPLOY / "grafana" / "celslm.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_metrics_that_there_are(panel):
    assert panel["targets"]
    for target in panel["targets"]:
        assert list(metrics_in(target["expr"]))
        assert not list(undocumented(target["expr"]))
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_variables_that_panels_use_are_there():
    for variable in DASHBOARD["templating"]["list"]:
        assert f"${variable['name']}" in json.dumps(PANELS)
        assert not list(undocumented(variable["query"]["query"].replace(", instance", "")))
    names = {f'"${variable["name"]}"' for variable in DASHBOARD["templating"]["list"]}
    used = {word for panel in PANELS for target in panel["targets"] for word in target["expr"].split("=~")[1:]}
    assert all(any(word.startswith(name) for name in names) for word in used)


def test_panels_do_not_overlap():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

    def squares(panel):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
    taken = [square for panel in DASHBOARD["panels"] for square in squares(panel)]
    assert len(taken) == len(set(taken))

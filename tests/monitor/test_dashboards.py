"""The dashboards are what deploy/grafana writes, of a shape that Grafana takes, and ask for what there is."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.write import FOLDER, dashboards
from tests.conftest import ROOT
from tests.monitor.rules import unknown_series
from tests.monitor.servers import DEPLOY
from tests.monitor.test_prometheus import promtool

FILES = sorted(FOLDER.glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {path.name: json.loads(path.read_text()) for path in FILES}
OTHERS = ("up", "ALERTS")  # Prometheus' own
VARIABLES = {"$version": ".*", "$__rate_interval": "1m"}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Panel and letter, or annotation -> PromQL, as sent where everything is chosen."""
    found = {
        f"{panel['title']}, {panel['type']} {target['refId']}": target["expr"]
        for panel in panels(dashboard)
        for target in panel["targets"]
    }
    found |= {f"mark {each['name']}": each["expr"] for each in dashboard["annotations"]["list"]}
    for name, value in VARIABLES.items():
        found = {key: expr.replace(name, value) for key, expr in found.items()}
    return found


def test_files_are_what_the_generator_writes() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FILES} == dashboards()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_places_of_their_own(name: str) -> None:
    dashboard = DASHBOARDS[name]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    # A figure of now and its course over time may share a name.
    named = [(panel["title"], panel["type"]) for panel in dashboard["panels"]]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_say_what_they_show_and_where_to_read_on(name: str) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/runbook.md").read_text(encoding="utf-8"), re.M)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    linked = 0
    for panel in panels(DASHBOARDS[name]):
        assert panel["title"], panel
        assert panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        assert panel["targets"]
        for link in panel.get("links", []):
            path, _, anchor = link["url"].partition("#")
            assert path == "docs/runbook.md"
            assert anchor in anchors, anchor
            linked += 1
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        values = [step.get("value") for step in steps]
        assert not steps or (values[0] is None and values[1:] == sorted(values[1:]))
    assert linked >= 5


def test_dashboards_are_three_that_know_each_other() -> None:
    assert list(DASHBOARDS) == ["drift.json", "quality.json", "service.json"]
    assert len({each["uid"] for each in DASHBOARDS.values()}) == 3
    for each in DASHBOARDS.values():
        assert each["schemaVersion"] >= 39
        assert each["tags"] == ["rakuten"]
        assert {"dashboards", "link"} == {link["type"] for link in each["links"]}
        names = [mark["name"] for mark in each["annotations"]["list"]]
        assert names == ["Versions", "Refused champions", "Pages"]
        known = {variable["name"] for variable in each["templating"].get("list") or []}
        used = {name for panel in panels(each) for name in re.findall(r"\$(\w+)", json.dumps(panel))}
        assert used - {"__rate_interval"} <= known


@pytest.mark.parametrize("name", DASHBOARDS)
def test_queries_ask_for_series_that_somebody_makes(name: str) -> None:
    asked = queries(DASHBOARDS[name])
    assert {key: unknown_series(expr) for key, expr in asked.items() if unknown_series(expr)} == {}
    for expr in asked.values():
        assert "rakuten" in expr or any(re.search(rf"\b{other}\b", expr) for other in OTHERS)


def test_queries_parse(tmp_path: Path) -> None:
    every = [expr for each in DASHBOARDS.values() for expr in queries(each).values()]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(every)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(every)} rules found" in done.stdout


def test_provisioning_names_what_is_there() -> None:
    script = (DEPLOY / "start/grafana.sh").read_text()
    given = set(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["environment"])
    [source] = [
        each
        for each in yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/rakuten.yaml").read_text())[
            "datasources"
        ]
        if each["type"] == "prometheus"
    ]
    assert source["uid"] == "prometheus"
    for path in (DEPLOY / "grafana/provisioning").rglob("*.yaml"):
        assert set(re.findall(r"\$(\w+)", path.read_text())) <= given
    assert 'GF_PATHS_PROVISIONING="$WATCH_CONFIG/grafana/provisioning"' in script


@pytest.mark.parametrize("address", ["https://wiki.example.org/a&b/run|book?x=1", ""])
def test_links_lead_to_where_the_runbook_is_read(address: str, tmp_path: Path) -> None:
    if Path("/run.sh").exists():
        pytest.skip("this is Grafana's container")
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards/old.json").touch()
    given = {
        "WATCH_CONFIG": str(DEPLOY),
        "GRAFANA_DATA": str(tmp_path),
        "STACK_ADDRESS": "127.0.0.1",
        "GRAFANA_PORT": "3001",
        "GRAFANA_PASSWORD": "secret",
        "PROMETHEUS_INSIDE": "http://127.0.0.1:9090",
        "ALERTMANAGER_INSIDE": "http://127.0.0.1:9093",
        "RUNBOOK_URL": address,
    }
    done = subprocess.run(
        ["sh", str(DEPLOY / "start/grafana.sh")],
        env={"PATH": os.environ["PATH"]} | given,
        capture_output=True,
        text=True,
    )
    assert "/run.sh" in done.stderr  # Grafana's own start, which is in its image alone
    made = {path.name: json.loads(path.read_text()) for path in (tmp_path / "dashboards").iterdir()}
    assert set(made) == set(DASHBOARDS)
    links = [
        link["url"] for each in made.values() for panel in panels(each) for link in panel.get("links", [])
    ]
    assert links
    assert all(link.startswith(f"{address or 'docs/runbook.md'}#") for link in links)

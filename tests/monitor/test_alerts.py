"""Every alert fires on its fault alone, is explained, and reaches whom it is for."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from rakuten.monitor import log
from tests.conftest import ROOT
from tests.monitor.rules import PROMETHEUS, alerts
from tests.monitor.servers import DEPLOY, Alertmanager
from tests.monitor.test_prometheus import promtool
from tests.services import program

ALERTS = alerts()
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(
    re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", RUNBOOK.partition("\n## Alerts\n")[2], re.M | re.S)
)
ROUTES = DEPLOY / "alertmanager/alertmanager.yml"


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_on_their_fault_and_on_nothing_else(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_over_and_silent() -> None:
    firing: dict[str, int] = dict.fromkeys(ALERTS, 0)
    over, silent = set(), set()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            seen: dict[str, list[bool]] = {}
            for each in test["alert_rule_test"]:
                seen.setdefault(each["alertname"], []).append(bool(each.get("exp_alerts")))
            for name, fires in seen.items():
                firing[name] += any(fires)
                over |= {name} if (True, False) in pairwise(fires) else set()
                silent |= {name} if not fires[0] else set()
    assert {name for name, times in firing.items() if not times} == set()
    assert set(ALERTS) - over == set(), "it is never over"
    assert set(ALERTS) - silent == set(), "it is never silent"


def test_every_alert_says_what_it_is() -> None:
    for name, rule in ALERTS.items():
        assert set(rule["labels"]) == {"severity", "area"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert {"summary", "description"} < set(rule["annotations"])


def test_every_alert_is_in_the_runbook_and_nothing_else_is() -> None:
    assert list(SECTIONS) == list(dict.fromkeys(SECTIONS))
    assert set(SECTIONS) == set(ALERTS)
    for name, text in SECTIONS.items():
        parts = re.findall(r"^\*\*(.*?):\*\* ", text, re.M)
        assert parts == ["Means", "Look at", "Do"], name


def test_links_in_the_runbook_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-")
        for each in re.findall(r"^#+ (.*)$", RUNBOOK, re.M)
    }
    for target in re.findall(r"\]\((.*?)\)", RUNBOOK):
        path, _, anchor = target.partition("#")
        if not path:
            assert anchor in headings, target
            continue
        file = (ROOT / "docs" / path).resolve()
        known = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in known}, target


def test_thresholds_are_those_of_the_service() -> None:
    serve = yaml.safe_load((ROOT / "conf/serve.yaml").read_text())
    assert f'quantile="0.99"}} > {serve["latency_target_ms"] / 1000:g}' in ALERTS["LatencyHigh"]["expr"]
    assert ALERTS["QueueGrowing"]["expr"].endswith(f" > {serve['batch_size']}")
    defaults = log.InferenceLog.__init__.__kwdefaults__
    assert defaults["max_spool_bytes"] == 4 * 128 * 1024 * 1024
    assert f"rakuten_log_backlog > {defaults['max_records'] // 4}" in ALERTS["LogBacklog"]["expr"]


def amtool(*arguments: str | Path) -> str:
    command = [program("amtool", "prometheus-alertmanager"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def matched(text: str, labels: dict[str, str]) -> bool:
    name, sign, value = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', text).groups()  # type: ignore[union-attr]
    here = labels.get(name, "")
    return {"=": here == value, "!=": here != value, "=~": bool(re.fullmatch(value, here))}[sign]


def silenced_by(name: str) -> set[str]:
    """What an alert that fires keeps from being told."""
    every: dict[str, dict[str, str]] = {
        each: {"alertname": each} | rule["labels"] for each, rule in ALERTS.items()
    }
    rules: list[dict[str, Any]] = yaml.safe_load(ROUTES.read_text())["inhibit_rules"]
    return {
        target
        for rule in rules
        if all(matched(each, every[name]) for each in rule["source_matchers"])
        for target, labels in every.items()
        if all(matched(each, labels | {"job": "rakuten"}) for each in rule["target_matchers"])
    }


def test_routes_lead_by_severity() -> None:
    assert "2 receivers" in amtool("check-config", ROUTES)
    for name, rule in ALERTS.items():
        labels = [f"{key}={value}" for key, value in ({"alertname": name} | rule["labels"]).items()]
        said = amtool("config", "routes", "test", f"--config.file={ROUTES}", *labels)
        assert said.strip() == rule["labels"]["severity"]


def test_a_cause_silences_its_consequences_and_nothing_else() -> None:
    named = set(re.findall(r'alertname!?=~?"([^"]*)"', ROUTES.read_text()))
    assert {each for names in named for each in names.split("|")} <= set(ALERTS)
    assert {"ServiceNotReady", "Collapse", "LogBacklog", "TargetMissing"} <= silenced_by("ServiceDown")
    assert not {"Drift", "DriftJobStale", "RulesFailing", "AlertsNotDelivered"} & silenced_by("ServiceDown")
    assert {"Drift", "AccuracyDown"} <= silenced_by("Collapse")
    assert silenced_by("ErrorBudgetBurnFast") == {"ErrorBudgetBurnSlow"}
    for name in ALERTS:
        assert name not in silenced_by(name)
        for other in silenced_by(name):
            assert name not in silenced_by(other), "each keeps the other from being told"
    silent = {name for name in ALERTS if not silenced_by(name)}
    assert {"Drift", "LatencyHigh", "SwapRefused"} <= silent


def test_addresses_come_from_the_environment_whatever_is_in_them(tmp_path: Path) -> None:
    word = 'it\'s "a" pass: word # ${HOME} \\ %s'
    mail = {"ALERT_EMAIL_TO": "on-call@example.org", "SMTP_SERVER": "mail.example.org:587"}
    alertmanager = Alertmanager(
        DEPLOY,
        tmp_path,
        ALERT_PAGE_WEBHOOK="http://127.0.0.1:9/page?a=1&b='2'",
        SMTP_USER="me",
        SMTP_PASSWORD=word,
        **mail,
    )
    try:
        [path] = tmp_path.glob("alertmanager/alertmanager.yml")
        made, given = yaml.safe_load(path.read_text()), yaml.safe_load(ROUTES.read_text())
        assert path.stat().st_mode & 0o077 == 0
        page, ticket = made.pop("receivers")
        assert {name: made[name] for name in made} == {
            name: given[name] for name in given if name != "receivers"
        }
        assert page["webhook_configs"][0]["url"] == "http://127.0.0.1:9/page?a=1&b='2'"
        assert "webhook_configs" not in ticket
        assert page["email_configs"] == ticket["email_configs"]
        assert page["email_configs"][0]["auth_password"] == word
        assert page["email_configs"][0]["from"] == "on-call@example.org"
        shown = alertmanager.get("/api/v2/receivers")
        assert [each["name"] for each in shown] == ["page", "ticket"]
    finally:
        alertmanager.stop()
    assert word not in alertmanager.log.read_text()

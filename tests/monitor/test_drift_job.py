"""scripts/drift.py over a real log: what it says, writes, remembers and shows, and how it ends."""

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rakuten.model.reference import Reference
from rakuten.monitor.database import Database
from rakuten.monitor.decisions import Past, course_of, remembered
from rakuten.monitor.drift.decision import Decision, Kind, Severity
from rakuten.monitor.findings import found
from rakuten.monitor.record import PredictionRecord
from tests.monitor.traffic import Desk, answers, blurred

pytestmark = pytest.mark.timeout(1800)  # a champion is trained first
WINDOW = ["window_products=150", "drift.scales=[1]"]


def usual(desk: Desk, **options: float) -> list[PredictionRecord]:
    return answers(desk.trained.bundle, desk.trained.products, "1", **options)


def spoiled(desk: Desk) -> list[PredictionRecord]:
    return answers(desk.trained.bundle, [blurred(each) for each in desk.trained.products], "1")


def decided(desk: Desk) -> list[Past]:
    database = Database(desk.url)
    try:
        return remembered(database, "1")
    finally:
        database.close()


def shown(desk: Desk) -> dict[str, object]:
    """What Prometheus gets."""
    database = Database(desk.url)
    try:
        [finding] = found(database)
        return dict(finding.body)
    finally:
        database.close()


@pytest.mark.slow
def test_nothing_then_blurred_photos_then_over(desk: Desk) -> None:
    now = time.time()
    desk.write(usual(desk, at=now - 7200))
    quiet = desk.drift(*WINDOW)
    assert quiet.returncode == 0, quiet.stderr
    assert "no drift" in quiet.stderr
    assert quiet.stdout.strip() == "reports/drift/drift.json"
    proposal = desk.folder / "outputs/retraining.json"
    assert not proposal.exists()

    records = [replace(each, at=each.at - 3600) for each in spoiled(desk)]
    truth = {
        each.prediction_id: code for each, code in zip(records[-50:], desk.trained.codes[-50:], strict=True)
    }
    desk.write(records, truth)
    alarm = desk.drift(*WINDOW)
    assert alarm.returncode == 20, alarm.stderr
    figures = desk.figures
    assert figures["decision"]["kind"] == "drift"
    assert any(each.startswith("photos are blurrier") for each in figures["decision"]["reasons"])
    assert set(figures["decision"]["examples"]) <= {each.prediction_id for each in records}
    assert "alarm: what is asked has changed" in alarm.stderr
    assert figures["reports"][0]["num_feedback"] == 50
    assert table_of(alarm.stderr) == {
        each["name"]: each["state"].replace("_", " ") for each in figures["reports"][0]["results"]
    }
    assert shown(desk)["decision"] == figures["decision"]
    proposed = json.loads(proposal.read_text())
    assert proposed["reasons"] == figures["decision"]["reasons"]
    assert proposed["labels"] == {"given": 50, "kept": 0}, "no text or photo was chosen to be kept"
    assert proposed["command"].startswith("python scripts/drift.py retrain=true")

    desk.write(usual(desk, at=now))
    over = desk.drift(*WINDOW)
    assert over.returncode == 0, over.stderr
    assert "over: the alarm of" in over.stderr
    assert desk.figures["resolved"]["severity"] == "alarm"
    assert not proposal.exists()
    assert [each.severity for each in decided(desk)] == ["none", "alarm", "none"]


def table_of(text: str) -> dict[str, str]:
    """Test -> state, as the table for people has them."""
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return {
        cells[1].strip(): cells[2].strip()
        for cells in rows
        if cells[2].strip() in ("ok", "drift", "not enough data")
    }


@pytest.mark.slow
def test_one_class_for_everything_is_collapse_and_goes_back_rather_than_learns(desk: Desk) -> None:
    reference = Reference.load(desk.trained.bundle)
    rarest = int(np.bincount(reference.seen.predicted, minlength=len(reference.codes)).argmin())

    def broken(record: PredictionRecord) -> PredictionRecord:
        probs = record.probs.copy()
        top = int(probs.argmax())
        probs[[top, rarest]] = probs[[rarest, top]]
        return replace(record, probs=probs, code=reference.codes[rarest])

    desk.write([broken(each) for each in usual(desk)])
    done = desk.drift(*WINDOW)
    assert done.returncode == 20, done.stderr
    assert desk.figures["decision"]["kind"] == "collapse"
    assert f"the model answers {reference.codes[rarest]}" in done.stderr
    assert "python scripts/promote.py rollback=true" in done.stderr
    assert not (desk.folder / "outputs/retraining.json").exists()


@pytest.mark.slow
def test_a_look_back_is_told_and_not_remembered(desk: Desk) -> None:
    at = time.time() - 86_400
    desk.write(usual(desk, at=at))
    since = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(at - 1000))
    done = desk.drift("json=true", f"since={since}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == desk.figures
    assert desk.figures["window"]["products"] == len(desk.trained.products)
    assert desk.figures["remembered"] is False
    assert decided(desk) == []


@pytest.mark.slow
def test_what_cannot_be_looked_at_is_one_line_each(desk: Desk) -> None:
    def problem(*arguments: str, code: int = 1) -> str:
        done = desk.drift(*arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.stderr.splitlines()[0]

    assert problem() == "there is no inference log at outputs/inference.db"
    assert not (desk.folder / "outputs/inference.db").exists(), "to look makes nothing"
    desk.write([])
    assert problem() == "the inference log at sqlite:///outputs/inference.db is empty"
    desk.write(answers(desk.trained.bundle, desk.trained.products[:3], "7"))
    assert problem().endswith("has no answer of version 1")
    assert problem("champion=outputs/none.json") == "there is no champion at outputs/none.json"
    assert problem("until=2026-11-24", code=2) == "until needs since"
    assert problem("windw_products=3", code=2) == "there is no key `windw_products`"
    assert not (desk.folder / "reports").exists()


@pytest.mark.slow
def test_killed_half_way_leaves_no_torn_file(desk: Desk) -> None:
    desk.write(usual(desk))
    process = desk.start(*WINDOW)
    figures = desk.folder / "reports/drift/drift.json"
    while not figures.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)  # the page is still to be made
    process.communicate()
    json.loads(figures.read_text())
    assert not list(desk.folder.glob("reports/evidently/*.*")), "whole or not at all"
    again = desk.drift(*WINDOW)
    assert again.returncode == 0, again.stderr


def decision(kind: Kind, severity: Severity) -> Decision:
    return Decision(kind, severity, (), (), (), False, 0.001)


DRIFT, NONE, FEW = ("drift", "alarm"), ("none", "none"), ("not_enough_data", "none")


@pytest.mark.parametrize(
    ("before", "now", "since", "resolved"),
    [
        ([], NONE, None, None),
        ([], DRIFT, 100, None),
        ([(90, *DRIFT), (80, *DRIFT), (70, *NONE), (60, *DRIFT)], DRIFT, 80, None),
        ([(90, *FEW), (80, *DRIFT)], DRIFT, 80, None),
        ([(90, "collapse", "alarm"), (80, *DRIFT)], DRIFT, 100, None),
        ([(90, *DRIFT)], NONE, None, 90),
        ([(90, *FEW), (80, *DRIFT)], NONE, None, 80),
        ([(90, *NONE), (80, *DRIFT)], NONE, None, None),
        ([(90, *DRIFT)], FEW, None, None),
    ],
)
def test_since_when_and_whether_it_is_over(
    before: Sequence[tuple[float, Kind, Severity]],
    now: tuple[Kind, Severity],
    since: float | None,
    resolved: float | None,
) -> None:
    course = course_of(decision(*now), 100, [Past(*each, ()) for each in before])
    assert course.since == since
    assert (course.resolved.at if course.resolved else None) == resolved

"""Checks run side by side, each within its time, and none raises."""

import time

from rakuten.doctor.check import Check, Severity, ok, run_checks
from rakuten.errors import DataError
from tests.doctor.conftest import assert_finding


def test_a_check_that_raises_is_a_line_of_its_own() -> None:
    def broken() -> None:
        raise ValueError("postgresql://shop:hunter2@host went wrong\nand more")

    def refused() -> None:
        raise DataError("no table", got="nothing", fix="bring one")

    asked = [Check("broken", broken), Check("fine", lambda: ok("yes")), Check("refused", refused)]  # type: ignore[arg-type]
    (_, first), (_, second), (_, third) = run_checks(asked)
    assert_finding(first, Severity.ERROR, "the check itself failed: ValueError: postgresql://shop:***@host")
    assert second == ok("yes")
    assert_finding(third, Severity.ERROR, "no table (nothing)", cure="bring one")


def test_one_that_hangs_is_told_and_left() -> None:
    def hang() -> None:
        time.sleep(60)

    started = time.monotonic()
    asked = [Check("hangs", hang, limit_s=0.2), Check("fine", lambda: ok("yes"))]  # type: ignore[arg-type]
    (_, first), (_, second) = run_checks(asked)
    assert time.monotonic() - started < 30
    assert_finding(first, Severity.ERROR, "no answer within 0.2 s")
    assert second == ok("yes")


def test_they_run_side_by_side_and_are_told_in_order() -> None:
    """Eight that wait for each other: one after the other, none would get on."""
    import threading

    meeting = threading.Barrier(8)

    def meet() -> object:
        meeting.wait(20)
        return ok("met")

    asked = [Check(str(number), meet, limit_s=30) for number in range(8)]  # type: ignore[arg-type]
    assert list(run_checks(asked)) == [(str(number), ok("met")) for number in range(8)]

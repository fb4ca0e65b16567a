"""How long something stood still, from attempts at it."""

from __future__ import annotations

import pytest

from bench.outages import BEYOND_SECONDS, Outage, figures, waits
from bench.probes import Attempt, Probe
from bench.report import standstills

OUTAGE = Outage(begun=10.0, back=15.0)


def probe_with(*attempts: Attempt) -> Probe:
    probe = Probe("send")
    probe.attempts = [Attempt(8.0, 8.1, worked=True), *attempts]
    return probe


def test_who_fails_waits_until_a_later_attempt_has_worked() -> None:
    attempts = [Attempt(1.0, 1.1, worked=False), Attempt(2.0, 2.1, worked=False), Attempt(3.0, 3.5, worked=True)]
    assert sorted(wait.seconds for wait in waits(attempts)) == [0.5, 1.5, 2.5]


def test_who_hangs_waits_no_longer_than_until_a_later_attempt_has_worked() -> None:
    attempts = [Attempt(1.0, 9.0, worked=True), Attempt(2.0, 2.5, worked=True)]
    assert sorted(wait.seconds for wait in waits(attempts)) == [0.5, 1.5]


def test_what_never_works_again_stands_still_for_ever() -> None:
    assert [wait.seconds for wait in waits([Attempt(1.0, 1.1, worked=False)])] == [float("inf")]


def test_the_worst_of_several_counts() -> None:
    fine = probe_with(Attempt(11.0, 11.1, worked=True))
    hurt = probe_with(Attempt(11.0, 11.1, worked=False), Attempt(14.0, 16.0, worked=True))
    found = figures([fine, hurt], OUTAGE)
    assert (found["longest"], found["usual_again"]) == (5.0, 6.0)
    assert (found["attempts"], found["failed"], found["slowest"]) == (3, 1, 2.0)


def test_an_attempt_that_was_under_way_when_the_outage_began_counts() -> None:
    assert figures([probe_with(Attempt(9.9, 12.9, worked=True))], OUTAGE)["longest"] == 3.0


@pytest.mark.parametrize(("seconds", "longest"), [(0.1 + BEYOND_SECONDS - 0.01, None), (0.7, 0.7)])
def test_standing_still_is_what_takes_longer_than_usual(seconds: float, longest: float | None) -> None:
    found = figures([probe_with(Attempt(11.0, 11.0 + seconds, worked=True))], OUTAGE)
    assert (found["usual"], found["longest"]) == (0.1, longest)


def test_a_table_has_a_row_for_each_part_and_a_column_for_each_thing_done() -> None:
    part = {"down": 5.04, "probes": {"send": {"longest": 5.26}, "people": {"longest": None}}}
    assert standstills({"classic": {"Kafka": part}}).splitlines() == [
        "| classic: stopped | down | send | people |",
        "| --- | --- | --- | --- |",
        "| Kafka | 5.0 | 5.3 | - |",
    ]

"""The session table: nothing twice, windows counted in positions, and the same table at every replica."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.replica.parts import FINGERPRINT, command

from quorate import limits
from quorate.replica import sessions
from quorate.replica.sessions import EXECUTE, KEY_REUSED, WINDOW_EXPIRED, SessionTable, Verdict
from quorate.types import Command, Index, Outcome

OTHER = b"o" * 16


def outcome(body: bytes = b"done") -> Outcome:
    return Outcome(200, b"", body)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evict at each position."""
    monkeypatch.setattr(limits, "EVICTION_INTERVAL", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 4 and 16 positions."""
    monkeypatch.setattr(limits, "SESSION_WINDOW", 4)
    monkeypatch.setattr(limits, "TOMBSTONE_WINDOW", 16)


def fill(table: SessionTable, first: Index, last: Index) -> None:
    """Execute keyless commands at these positions, named by them."""
    for index in range(first, last + 1):
        table.store(index, command(1000 + index, stamp=index - 1), outcome())


def test_a_new_request_is_executed() -> None:
    assert SessionTable().judge(command(1)) == EXECUTE


def test_the_same_request_gets_the_stored_outcome() -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome(b"first"))
    assert table.judge(command(1, fingerprint=FINGERPRINT)) == Verdict(outcome(b"first"), replayed=True)


def test_a_key_that_was_used_for_another_request_is_refused() -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome())
    assert table.judge(command(1, fingerprint=OTHER)) == Verdict(KEY_REUSED)


def test_a_session_is_found_until_its_window_has_passed(small: None) -> None:
    table = SessionTable()
    one = command(1, fingerprint=FINGERPRINT)
    table.store(1, one, outcome())
    fill(table, 2, 4)
    session = table.find(one.request_id)
    assert session is not None
    assert session.index == 1
    fill(table, 5, 5)
    assert table.find(one.request_id) is None
    assert len(table) == 4


def test_a_forgotten_key_is_refused_rather_than_executed_and_later_still(small: None) -> None:
    """Ongaro, §6.3: an expired session."""
    table = SessionTable()
    one = command(1, fingerprint=FINGERPRINT)
    table.store(1, one, outcome())
    for last in range(2, 1 + 16):
        fill(table, last, last)
        retry = command(1, stamp=last, fingerprint=FINGERPRINT)
        assert table.judge(retry).outcome == (outcome() if last < 5 else WINDOW_EXPIRED)


def test_a_tombstone_is_forgotten_in_the_end(small: None) -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome())
    fill(table, 2, 17)
    assert table.judge(command(1, stamp=17, fingerprint=FINGERPRINT)) == EXECUTE


def test_a_command_from_before_the_window_is_refused(small: None) -> None:
    """It may have been executed by what was forgotten."""
    table = SessionTable()
    fill(table, 1, 10)
    assert table.judge(command(1, stamp=5)) == Verdict(WINDOW_EXPIRED)
    assert table.judge(command(1, stamp=6)) == EXECUTE


def test_large_outcomes_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_BYTES_MAX", 10_000)
    table = SessionTable()
    for index in range(1, 6):
        table.store(index, command(index, fingerprint=FINGERPRINT), outcome(b"x" * 4000))
    assert len(table) == 2
    assert table.find(command(3).request_id) is None
    assert table.judge(command(3, stamp=5, fingerprint=FINGERPRINT)) == Verdict(WINDOW_EXPIRED)
    assert table.judge(command(4, fingerprint=FINGERPRINT)).replayed


def test_many_small_outcomes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_BYTES_MAX", 100 * sessions.OUTCOME_OVERHEAD_BYTES)
    table = SessionTable()
    for index in range(1, 500):
        table.store(index, command(index), outcome(b""))
    assert len(table) == 100


def test_between_evictions_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    monkeypatch.setattr(limits, "EVICTION_INTERVAL", 8)
    table = SessionTable()
    fill(table, 1, 7)
    assert len(table) == 7
    fill(table, 8, 8)
    assert len(table) == 4


HISTORY = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from([b"", FINGERPRINT, OTHER]), st.integers(0, 6), st.integers(0, 600)),
    max_size=80,
)
"""Request id, fingerprint, how old its stamp is, and the size of the answer."""


class Copy:
    """One replica: applies a history to a table of its own."""

    def __init__(self) -> None:
        self.table = SessionTable()
        self.index = 0
        self.executed: list[Command] = []
        self.verdicts: list[Verdict] = []

    def apply(self, name: int, fingerprint: bytes, age: int, size: int) -> None:
        self.index += 1
        one = command(name, stamp=max(0, self.index - 1 - age), fingerprint=fingerprint)
        verdict = self.table.judge(one)
        self.verdicts.append(verdict)
        if verdict.outcome is None:
            self.executed.append(one)
            self.table.store(self.index, one, outcome(b"x" * size))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORY, st.integers(0, 80))
def test_a_copy_that_replays_judges_as_the_first_did(history: list[tuple[int, bytes, int, int]], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SESSION_WINDOW", 4)
        patch.setattr(limits, "TOMBSTONE_WINDOW", 16)
        patch.setattr(limits, "SESSION_BYTES_MAX", 1500)
        first, second = Copy(), Copy()
        for step in history[:cut]:
            first.apply(*step)
        for step in history:
            second.apply(*step)
        for step in history[cut:]:
            first.apply(*step)
    assert first.verdicts == second.verdicts
    assert len(first.table) == len(second.table)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORY)
def test_no_key_is_executed_twice_within_the_tombstones_window(history: list[tuple[int, bytes, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SESSION_WINDOW", 4)
        patch.setattr(limits, "TOMBSTONE_WINDOW", 100)
        patch.setattr(limits, "SESSION_BYTES_MAX", 1500)
        copy = Copy()
        for name, fingerprint, age, size in history:
            copy.apply(name, fingerprint or FINGERPRINT, age, size)
    ids = [one.request_id for one in copy.executed]
    assert len(ids) == len(set(ids))

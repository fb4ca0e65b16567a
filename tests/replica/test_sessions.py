"""The session table: nothing twice, windows counted in positions, and the same table at every replica."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replica.parts import FINGERPRINT, command

from quorate import limits
from quorate.errors import StorageBroken
from quorate.replica import sessions
from quorate.replica.sessions import EXECUTE, KEY_REUSED, WINDOW_EXPIRED, SessionTable, Verdict
from quorate.types import Command, Index, Outcome

OTHER = b"o" * 16


def outcome(body: bytes = b"done") -> Outcome:
    return Outcome(200, b"", body)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 4 and 16 positions."""
    monkeypatch.setattr(limits, "SESSION_WINDOW", 4)
    monkeypatch.setattr(limits, "TOMBSTONE_WINDOW", 16)


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two outcomes of 4000 bytes."""
    monkeypatch.setattr(limits, "SESSION_BYTES_MAX", 10_000)


def fill(table: SessionTable, first: Index, last: Index, size: int = 4) -> None:
    """Execute keyless commands at these positions, named by them."""
    for index in range(first, last + 1):
        table.store(index, command(1000 + index, stamp=index - 1), outcome(b"x" * size))


def test_a_new_request_is_executed() -> None:
    assert SessionTable().judge(1, command(1)) == EXECUTE


def test_the_same_request_gets_the_stored_outcome() -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome(b"first"))
    assert table.judge(2, command(1, fingerprint=FINGERPRINT)) == Verdict(outcome(b"first"), replayed=True)


def test_a_key_that_was_used_for_another_request_is_refused() -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome())
    assert table.judge(2, command(1, fingerprint=OTHER)) == Verdict(KEY_REUSED)


# --- windows ---------------------------------------------------------------------------------------------------------


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
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome())
    for last in range(2, 1 + 16):
        fill(table, last, last)
        retry = command(1, stamp=last, fingerprint=FINGERPRINT)
        assert table.judge(last + 1, retry).outcome == (outcome() if last < 5 else WINDOW_EXPIRED)


def test_a_tombstone_is_forgotten_in_the_end(small: None) -> None:
    table = SessionTable()
    table.store(1, command(1, fingerprint=FINGERPRINT), outcome())
    fill(table, 2, 17)
    assert table.judge(18, command(1, stamp=17, fingerprint=FINGERPRINT)) == EXECUTE


def test_a_command_from_before_the_window_is_refused(small: None) -> None:
    """It may have been executed by what was forgotten."""
    table = SessionTable()
    fill(table, 1, 10)
    assert table.judge(11, command(1, stamp=6)) == Verdict(WINDOW_EXPIRED)
    assert table.judge(11, command(1, stamp=7)) == EXECUTE


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_large_outcomes_push_out_the_oldest(tight: None) -> None:
    table = SessionTable()
    for index in range(1, 6):
        table.store(index, command(index, fingerprint=FINGERPRINT), outcome(b"x" * 4000))
    assert len(table) == 2
    assert table.find(command(3).request_id) is None
    assert table.judge(6, command(3, stamp=5, fingerprint=FINGERPRINT)) == Verdict(WINDOW_EXPIRED)
    assert table.judge(6, command(4, fingerprint=FINGERPRINT)).replayed


def test_many_small_outcomes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_BYTES_MAX", 100 * sessions.OUTCOME_OVERHEAD_BYTES)
    table = SessionTable()
    for index in range(1, 500):
        table.store(index, command(index), outcome(b""))
    assert len(table) == 100


def test_large_outcomes_refuse_nothing_that_is_fresh(tight: None) -> None:
    """Its stamp lies before positions whose outcomes were pushed out, but within the window."""
    table = SessionTable()
    fill(table, 1, 50, size=4000)
    assert table.judge(51, command(1, stamp=10)) == EXECUTE


def test_a_command_without_a_key_whose_outcome_was_pushed_out_is_never_executed_again(small: None, tight: None) -> None:
    """First its id is remembered; once that is forgotten, its stamp is too old."""
    table = SessionTable()
    one = command(1, stamp=0)
    table.store(1, one, outcome(b"x" * 4000))
    for last in range(2, 40):
        fill(table, last, last, size=4000)
        assert table.judge(last + 1, one).outcome == (outcome(b"x" * 4000) if last < 3 else WINDOW_EXPIRED)


@pytest.mark.parametrize(("fingerprint", "window"), [(b"", 4), (FINGERPRINT, 16)])
def test_the_tombstone_of_what_was_pushed_out_stays_for_its_window(
    small: None, tight: None, fingerprint: bytes, window: int
) -> None:
    """A bare id is needed only while a command that bears it is within the window; a key may come back in a new one."""
    table = SessionTable()
    table.store(1, command(1, fingerprint=fingerprint), outcome(b"x" * 4000))
    fill(table, 2, 3, size=4000)
    for last in range(3, 20):
        fill(table, last + 1, last + 1)
        verdict = table.judge(last + 2, command(1, stamp=last + 1, fingerprint=fingerprint))
        assert verdict == (Verdict(WINDOW_EXPIRED) if last + 1 < 1 + window else EXECUTE)


# --- properties ------------------------------------------------------------------------------------------------------

STEP = st.tuples(st.integers(1, 8), st.sampled_from([b"", FINGERPRINT, OTHER]), st.integers(0, 6), st.integers(0, 600))
"""Request id, fingerprint, how old its stamp is, and the size of the answer."""
RARELY_TWICE = st.tuples(
    st.integers(1, 300), st.sampled_from([b"", FINGERPRINT]), st.integers(0, 9), st.integers(0, 99)
)

Step = tuple[int, bytes, int, int]


class Copy:
    """One replica: applies a history to a table of its own, with up to `depth` commands at the service."""

    def __init__(self, depth: int = 1) -> None:
        self.table = SessionTable()
        self.index = 0
        self.executed: list[Command] = []
        self.verdicts: list[Verdict] = []
        self.longest = 0
        self._depth = depth
        self._sent: deque[tuple[Index, Command, Outcome]] = deque()

    def apply(self, name: int, fingerprint: bytes, age: int, size: int) -> None:
        self.index += 1
        one = command(name, stamp=max(0, self.index - 1 - age), fingerprint=fingerprint)
        while self._sent and not self._may_follow(one):
            self._answer()
        verdict = self.table.judge(self.index, one)
        self.verdicts.append(verdict)
        if verdict == EXECUTE:
            self.executed.append(one)
            self._sent.append((self.index, one, outcome(b"x" * size)))
            self.longest = max(self.longest, len(self._sent))

    def finish(self) -> None:
        while self._sent:
            self._answer()

    def _may_follow(self, one: Command) -> bool:
        """What may be executed goes out before the answers to those ahead of it are in."""
        alike = any(ahead.request_id == one.request_id for _, ahead, _ in self._sent)
        return len(self._sent) < self._depth and not alike and self.table.judge(self.index, one) == EXECUTE

    def _answer(self) -> None:
        self.table.store(*self._sent.popleft())


def tiny_windows(patch: pytest.MonkeyPatch, session: int = 4, tombstone: int = 16) -> None:
    patch.setattr(limits, "SESSION_WINDOW", session)
    patch.setattr(limits, "TOMBSTONE_WINDOW", tombstone)
    patch.setattr(limits, "SESSION_BYTES_MAX", 1500)


@settings(deadline=None)
@given(st.lists(STEP, max_size=80), st.integers(0, 80))
def test_a_copy_that_replays_judges_as_the_first_did(history: list[Step], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        tiny_windows(patch)
        first, second = Copy(), Copy()
        for step in history[:cut]:
            first.apply(*step)
        for step in history:
            second.apply(*step)
        for step in history[cut:]:
            first.apply(*step)
    assert first.verdicts == second.verdicts
    assert len(first.table) == len(second.table)


@settings(deadline=None)
@given(st.lists(STEP, max_size=80) | st.lists(RARELY_TWICE, min_size=40, max_size=150), st.integers(2, 64))
def test_what_may_be_executed_is_certain_before_the_answers_ahead_of_it(history: list[Step], depth: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        tiny_windows(patch)
        one_by_one, pipelined = Copy(), Copy(depth)
        for copy in (one_by_one, pipelined):
            for step in history:
                copy.apply(*step)
            copy.finish()
        nexts = [command(name, stamp=copy.index) for name in range(1, 301)]
        after = [[copy.table.judge(copy.index + 1, one) for one in nexts] for copy in (one_by_one, pipelined)]
    assert one_by_one.verdicts == pipelined.verdicts
    assert after[0] == after[1]


def test_a_pipeline_of_new_commands_is_as_long_as_it_may_be() -> None:
    copy = Copy(64)
    for name in range(1, 101):
        copy.apply(name, b"", 0, 0)
    assert copy.longest == 64


@settings(deadline=None)
@given(st.lists(STEP, max_size=80))
def test_no_key_is_executed_twice_within_the_tombstones_window(history: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        tiny_windows(patch, tombstone=100)
        copy = Copy()
        for name, fingerprint, age, size in history:
            copy.apply(name, fingerprint or FINGERPRINT, age, size)
    ids = [one.request_id for one in copy.executed]
    assert len(ids) == len(set(ids))


# --- in snapshots ----------------------------------------------------------------------------------------------------


def contents(table: SessionTable) -> tuple[object, ...]:
    """Return all that a table holds, in order."""
    return (
        list(table._sessions.items()),
        list(table._order),
        table._bytes,
        table._tombstones,
        list(table._burials),
        list(table._keyed_burials),
    )


@settings(deadline=None)
@given(st.lists(STEP, max_size=80), st.lists(STEP, max_size=40), st.integers(1, 50), st.integers(1, 5))
def test_a_table_from_a_snapshot_is_the_same_and_goes_on_alike(
    before: list[Step], after: list[Step], piece: int, slice_: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        tiny_windows(patch)
        patch.setattr(limits, "SESSION_SLICE", slice_)
        one, other = Copy(), Copy()
        for step in before:
            one.apply(*step)
        one.finish()
        data = b"".join(one.table.dump())
        other.table = SessionTable.load(data[start : start + piece] for start in range(0, len(data), piece))
        other.index = one.index
        assert contents(one.table) == contents(other.table)
        assert b"".join(other.table.dump()) == data
        for step in after:
            one.apply(*step)
            other.apply(*step)
        one.finish()
        other.finish()
        assert contents(one.table) == contents(other.table)
        assert other.verdicts == one.verdicts[len(before) :]


def test_a_dump_is_of_the_moment_it_was_asked_for() -> None:
    table = SessionTable()
    fill(table, 1, 50)
    expected = b"".join(table.dump())
    dump = table.dump()
    fill(table, 51, 99)
    assert b"".join(dump) == expected


def test_tables_at_different_indices_have_most_slices_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_WINDOW", 1000)
    monkeypatch.setattr(limits, "TOMBSTONE_WINDOW", 2000)
    monkeypatch.setattr(limits, "SESSION_SLICE", 10)
    table = SessionTable()
    fill(table, 1, 1995)
    before = set(table.dump())
    fill(table, 1996, 2095)
    after = set(table.dump())
    assert len(before & after) >= len(after) - 2 * (100 // 10 + 1)


@pytest.mark.parametrize("data", [b"\0\0", b"\0\0\0\5cut", b"\0\0\0\1\xc1", b"\0\0\0\1\x90", b"\0\0\0\3\x92\x09\x90"])
def test_nonsense_is_no_table(data: bytes) -> None:
    with pytest.raises(StorageBroken):
        SessionTable.load([data])

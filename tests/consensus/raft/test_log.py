"""The log: consistency check, conflicts, the window, what is persisted of it."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import ballot, members, vote

from quorate import limits
from quorate.consensus.core import Recovered
from quorate.consensus.raft.log import Changes, Log
from quorate.types import NO_BALLOT, NO_BASE, NOOP, Base, Slot, Vote


def entry(term: int, name: str = "") -> Vote:
    return vote(term, 1, name or f"of term {term}")


def log_of(*terms: int, chosen: Slot = 0, chosen_term: int = 0) -> Log:
    """Return a log whose entries behind `chosen` are of these terms."""
    votes = {slot: entry(term) for slot, term in enumerate(terms, chosen + 1)}
    return Log(Recovered(ballot(9, 0), votes, chosen, ballot(chosen_term, 1), NO_BASE, None))


def terms(log: Log) -> list[int]:
    return [vote.ballot.round for vote in log.behind(log.chosen)]


# --- where it begins -------------------------------------------------------------------------------------------------


def test_an_empty_log_ends_in_slot_0_of_term_0() -> None:
    log = log_of()
    assert (log.last, log.last_term) == (0, 0)


def test_a_log_without_open_entries_ends_with_its_prefix() -> None:
    log = log_of(chosen=7, chosen_term=3)
    assert (log.last, log.last_term) == (7, 3)


def test_a_log_goes_on_where_the_store_ends() -> None:
    log = log_of(3, 5, chosen=7, chosen_term=3)
    assert (log.last, log.last_term) == (9, 5)
    assert [log.term(slot) for slot in range(6, 11)] == [None, 3, 3, 5, None]


def test_a_log_with_a_gap_is_none() -> None:
    with pytest.raises(AssertionError):
        Log(Recovered(NO_BALLOT, {2: entry(1)}, 0, NO_BALLOT, NO_BASE, None))


# --- up to date ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "last_term", "covers"), [(2, 3, True), (3, 3, True), (1, 4, True), (1, 3, False), (9, 2, False)]
)
def test_the_later_term_and_then_the_longer_log_is_more_up_to_date(last: Slot, last_term: int, covers: bool) -> None:
    assert log_of(1, 3).is_covered_by(last, last_term) is covers


# --- merging ---------------------------------------------------------------------------------------------------------


def test_entries_follow_where_the_logs_agree() -> None:
    log = log_of(1, 1)
    assert log.merge(2, 1, [entry(2), entry(2)]) == 4
    assert terms(log) == [1, 1, 2, 2]
    assert log.agreed == 4


@pytest.mark.parametrize(("prev", "prev_term"), [(3, 1), (2, 2), (1, 2)])
def test_a_log_that_lacks_the_entry_before_takes_nothing(prev: Slot, prev_term: int) -> None:
    log = log_of(1, 1)
    assert log.merge(prev, prev_term, [entry(2)]) is None
    assert terms(log) == [1, 1]
    assert log.agreed == 0


def test_a_conflict_removes_what_follows() -> None:
    log = log_of(1, 2, 2, 2)
    assert log.merge(1, 1, [entry(3)]) == 2
    assert terms(log) == [1, 3]
    assert log.take_changes() == Changes([(2, entry(3))], 2)


def test_what_agrees_removes_nothing() -> None:
    """An old message must not cut off what a later one brought."""
    log = log_of(1, 2, 2, 2)
    assert log.merge(0, 0, [entry(1), entry(2)]) == 2
    assert terms(log) == [1, 2, 2, 2]
    assert log.take_changes() is None


def test_entries_within_the_prefix_are_passed_over_if_its_end_agrees() -> None:
    log = log_of(3, chosen=5, chosen_term=3)
    assert log.merge(3, 1, [entry(2), entry(3), entry(3), entry(4)]) == 7
    assert terms(log) == [3, 4]


@pytest.mark.parametrize("told", [[entry(2), entry(2), entry(4)], [entry(2)], []])
def test_a_leader_whose_log_parts_from_the_prefix_or_does_not_reach_it_is_not_believed(told: list[Vote]) -> None:
    """It was deposed, or the message is an old one."""
    log = log_of(chosen=5, chosen_term=3)
    assert log.merge(3, 1, told) is None
    assert terms(log) == []


def test_entries_past_the_window_are_left_for_later() -> None:
    log = log_of()
    told = [entry(1) for _ in range(limits.WINDOW_SLOTS + 1)]
    assert log.merge(0, 0, told) == limits.WINDOW_SLOTS
    assert log.last == limits.WINDOW_SLOTS


def test_a_no_op_finds_room_in_a_full_window() -> None:
    log = log_of(*[1] * limits.WINDOW_SLOTS)
    no_op = Vote(ballot(2, 2), NOOP)
    assert log.merge(limits.WINDOW_SLOTS, 1, [no_op, entry(2)]) == limits.WINDOW_SLOTS + 1
    assert log.last_term == 2


def test_a_message_is_no_larger_than_a_window() -> None:
    log = log_of(*[1] * limits.WINDOW_SLOTS)
    log.append(Vote(ballot(2, 2), NOOP))
    assert len(log.behind(0)) == limits.WINDOW_SLOTS
    assert len(log.behind(1)) == limits.WINDOW_SLOTS


# --- the chosen prefix -----------------------------------------------------------------------------------------------


def test_choosing_moves_the_prefix() -> None:
    log = log_of(1, 2)
    assert log.choose_next() == entry(1).batch
    assert (log.chosen, log.chosen_term, log.last) == (1, 1, 2)


def test_a_chosen_value_replaces_what_conflicts_and_all_behind() -> None:
    log = log_of(2, 2, 2)
    log.adopt(entry(3))
    assert terms(log) == [3]
    assert log.take_changes() == Changes([(1, entry(3))], 1)


def test_a_chosen_value_that_is_here_already_changes_nothing() -> None:
    log = log_of(2, 2)
    log.adopt(entry(2))
    assert terms(log) == [2, 2]
    assert log.take_changes() is None


@pytest.mark.parametrize(("base_term", "kept"), [(2, [4]), (3, [])])
def test_behind_a_snapshot_stays_what_agrees_with_it(base_term: int, kept: list[int]) -> None:
    """§5.1."""
    log = log_of(1, 2, 4)
    log.jump(Base(2, 2, ballot(base_term, 1)))
    assert (log.chosen, log.chosen_term) == (2, base_term)
    assert terms(log) == kept
    assert log.take_changes() == (None if kept else Changes([], 2))


def test_a_snapshot_may_lie_beyond_the_log() -> None:
    log = log_of(1, 2)
    log.jump(Base(9, 9, ballot(5, 1)))
    assert (log.last, log.last_term) == (9, 5)


# --- members ---------------------------------------------------------------------------------------------------------


def test_the_membership_appended_last_counts_until_it_is_chosen() -> None:
    log = log_of(1)
    first, second = members(1, 2, 3, version=1), members(1, 2, version=2)
    for membership in (first, second):
        log.append(Vote(ballot(1, 1), membership.batch()))
    log.append(entry(1))
    assert log.membership() == second
    log.merge(2, 1, [entry(2)])
    assert log.membership() == first
    log.choose_next()
    log.choose_next()
    assert log.membership() is None


# --- the store -------------------------------------------------------------------------------------------------------


def test_each_entry_is_persisted_once() -> None:
    log = log_of()
    log.append(entry(1))
    log.append(entry(2))
    assert log.take_changes() == Changes([(1, entry(1)), (2, entry(2))], None)
    assert log.take_changes() is None


def test_what_was_appended_and_cut_off_at_once_is_never_persisted() -> None:
    log = log_of(1)
    log.append(entry(1))
    log.merge(0, 0, [entry(2)])
    log.append(entry(3))
    assert log.take_changes() == Changes([(1, entry(2)), (2, entry(3))], 2)


def test_terms_only_rise_along_a_log() -> None:
    with pytest.raises(AssertionError):
        log_of(2).append(entry(1))

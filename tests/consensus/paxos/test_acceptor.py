"""The acceptor: promises and votes only rise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.consensus.conversation import ballot, value, vote

from quorate import limits
from quorate.consensus.core import Recovered
from quorate.consensus.paxos.acceptor import Acceptor
from quorate.types import NO_BALLOT, NO_BASE, Ballot, Slot, Vote


def recovered(promised: Ballot, votes: dict[Slot, Vote], chosen: Slot) -> Acceptor:
    return Acceptor(Recovered(promised, votes, chosen, NO_BALLOT, NO_BASE, None))


def fresh() -> Acceptor:
    return recovered(NO_BALLOT, {}, 0)


def test_a_fresh_acceptor_has_nothing_to_persist() -> None:
    assert fresh().take_changes() is None


def test_a_promise_is_a_change_without_votes() -> None:
    acceptor = fresh()
    assert acceptor.promise(ballot(1, 2))
    assert acceptor.promise_changed()
    assert acceptor.take_changes() == []
    assert not acceptor.promise_changed()
    assert acceptor.take_changes() is None


def test_the_same_promise_twice_is_given_but_is_no_change() -> None:
    acceptor = fresh()
    acceptor.promise(ballot(1, 2))
    acceptor.take_changes()
    assert acceptor.promise(ballot(1, 2))
    assert acceptor.take_changes() is None


def test_a_lower_ballot_gets_no_promise_and_changes_nothing() -> None:
    acceptor = fresh()
    acceptor.promise(ballot(2, 1))
    acceptor.take_changes()
    assert not acceptor.promise(ballot(1, 3))
    assert acceptor.promised == ballot(2, 1)
    assert acceptor.take_changes() is None


def test_ballots_of_one_round_are_ordered_by_replica() -> None:
    acceptor = fresh()
    assert acceptor.promise(ballot(1, 1))
    assert acceptor.promise(ballot(1, 2))
    assert not acceptor.promise(ballot(1, 1))


def test_a_vote_is_to_be_persisted_once() -> None:
    acceptor = fresh()
    acceptor.promise(ballot(1, 1))
    acceptor.accept(ballot(1, 1), 1, value("a"))
    acceptor.accept(ballot(1, 1), 1, value("a"))
    assert acceptor.take_changes() == [(1, vote(1, 1, "a"))]
    assert acceptor.take_changes() is None


def test_a_higher_ballot_replaces_the_vote() -> None:
    acceptor = fresh()
    for round_, name in ((1, "a"), (2, "b")):
        acceptor.promise(ballot(round_, 1))
        acceptor.accept(ballot(round_, 1), 1, value(name))
    assert acceptor.votes == {1: vote(2, 1, "b")}


def test_a_vote_at_any_other_than_the_promised_ballot_is_a_broken_invariant() -> None:
    acceptor = fresh()
    acceptor.promise(ballot(2, 1))
    for wrong in (ballot(1, 1), ballot(3, 1)):
        with pytest.raises(AssertionError):
            acceptor.accept(wrong, 1, value("a"))


def test_two_values_in_one_slot_of_one_ballot_are_a_broken_invariant() -> None:
    acceptor = fresh()
    acceptor.promise(ballot(1, 1))
    acceptor.accept(ballot(1, 1), 1, value("a"))
    with pytest.raises(AssertionError, match="two values in slot 1"):
        acceptor.accept(ballot(1, 1), 1, value("b"))


def test_what_was_recovered_is_remembered_and_not_persisted_again() -> None:
    acceptor = recovered(ballot(3, 2), {5: vote(2, 1, "e")}, 4)
    assert not acceptor.promise(ballot(3, 1))
    assert acceptor.votes == {5: vote(2, 1, "e")}
    assert acceptor.take_changes() is None


def test_a_chosen_slot_leaves_memory_but_still_goes_to_disk() -> None:
    acceptor = fresh()
    acceptor.record_chosen(1, vote(7, 3, "a"))
    acceptor.forget(1)
    assert acceptor.votes == {}
    assert acceptor.take_changes() == [(1, vote(7, 3, "a"))]


def test_the_window_lies_just_above_the_chosen_prefix() -> None:
    acceptor = fresh()
    assert not acceptor.within_window(10, chosen=10)
    assert acceptor.within_window(11, chosen=10)
    assert acceptor.within_window(10 + limits.WINDOW_SLOTS, chosen=10)
    assert not acceptor.within_window(11 + limits.WINDOW_SLOTS, chosen=10)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=30))
def test_whatever_is_asked_the_promise_never_falls(asked: list[tuple[int, int]]) -> None:
    acceptor = fresh()
    highest = NO_BALLOT
    for round_, replica in asked:
        given_ballot = ballot(round_, replica)
        assert acceptor.promise(given_ballot) == (given_ballot >= highest)
        highest = max(highest, given_ballot)
        assert acceptor.promised == highest


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=30))
def test_changes_add_up_to_the_state(steps: list[tuple[int, int]]) -> None:
    """Whoever applies every change in order holds what the acceptor holds."""
    acceptor, promised = fresh(), NO_BALLOT
    disk: dict[Slot, Vote] = {}
    for round_, slot in steps:
        if acceptor.promise(ballot(round_, 1)):
            acceptor.accept(ballot(round_, 1), slot, value(f"{round_} {slot}"))
        changes = acceptor.take_changes()
        if changes is not None:
            disk.update(changes)
            promised = acceptor.promised
    assert (disk, promised) == (acceptor.votes, acceptor.promised)

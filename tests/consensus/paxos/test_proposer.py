"""The proposer: phase 1 once, then a window of values; bounded in what it holds."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import ONE, THREE, TWO, ballot, value, vote

from quorate import limits
from quorate.consensus.paxos.messages import Promise
from quorate.consensus.paxos.proposer import Phase, Proposer
from quorate.types import NOOP, Batch, Slot, Vote

MINE = ballot(2, 1)


def promise(chosen: Slot = 0, votes: tuple[tuple[Slot, Vote], ...] = ()) -> Promise:
    return Promise(MINE, chosen, votes)


def preparing() -> Proposer:
    proposer = Proposer((ONE, TWO, THREE))
    proposer.prepare(MINE)
    return proposer


def leading(chosen: Slot = 0) -> Proposer:
    proposer = preparing()
    proposer.on_promise(ONE, promise(chosen))
    proposer.on_promise(TWO, promise(chosen))
    assert proposer.lead(chosen) == []
    return proposer


def test_a_quorum_of_promises_completes_phase_1() -> None:
    proposer = preparing()
    assert not proposer.on_promise(ONE, promise())
    assert proposer.on_promise(TWO, promise())
    assert proposer.phase is Phase.RECOVERING


def test_the_same_promise_twice_counts_once() -> None:
    proposer = preparing()
    assert not proposer.on_promise(TWO, promise())
    assert not proposer.on_promise(TWO, promise())
    assert proposer.phase is Phase.PREPARING


def test_promises_of_another_ballot_and_late_ones_are_ignored() -> None:
    proposer = preparing()
    assert not proposer.on_promise(TWO, Promise(ballot(1, 1), 0, ()))
    assert not proposer.on_promise(THREE, Promise(ballot(1, 1), 0, ()))
    proposer.on_promise(ONE, promise())
    proposer.on_promise(TWO, promise())
    assert not proposer.on_promise(THREE, promise(chosen=99))
    assert proposer.may_lead(chosen=0)


def test_a_ballot_is_never_prepared_twice() -> None:
    with pytest.raises(AssertionError):
        preparing().prepare(MINE)


def test_nothing_is_proposed_below_the_longest_promised_prefix() -> None:
    proposer = preparing()
    proposer.on_promise(ONE, promise(chosen=3))
    proposer.on_promise(TWO, promise(chosen=5))
    assert not proposer.may_lead(chosen=3)
    assert not proposer.may_lead(chosen=4)
    assert proposer.may_lead(chosen=5)


def test_each_open_slot_gets_the_vote_of_the_highest_ballot_and_holes_a_no_op() -> None:
    proposer = preparing()
    proposer.on_promise(ONE, promise(2, ((3, vote(1, 1, "old")), (5, vote(1, 3, "new")))))
    proposer.on_promise(TWO, promise(2, ((3, vote(1, 2, "newer")), (5, vote(1, 2, "old")))))
    assert proposer.lead(chosen=2) == [(3, value("newer")), (4, NOOP), (5, value("new"))]
    assert proposer.phase is Phase.LEADING


def test_votes_in_slots_that_became_chosen_meanwhile_are_left_out() -> None:
    proposer = preparing()
    proposer.on_promise(ONE, promise(0, ((1, vote(1, 1, "a")), (2, vote(1, 1, "b")))))
    proposer.on_promise(TWO, promise(1))
    assert proposer.lead(chosen=1) == [(2, value("b"))]


def test_what_waits_shares_one_value() -> None:
    proposer = leading()
    for name in "abc":
        assert proposer.enqueue(value(name))
    assert proposer.next_batch(chosen=0) == Batch(3, b"abc")
    assert proposer.next_batch(chosen=0) is None


def test_a_value_ends_before_the_batch_that_would_make_it_too_large() -> None:
    proposer = leading()
    half = b"x" * (limits.BATCH_BYTES_MAX // 2)
    for payload in (half, half, b"y"):
        proposer.enqueue(Batch(1, payload))
    assert proposer.next_batch(chosen=0) == Batch(2, half + half)
    assert proposer.next_batch(chosen=0) == Batch(1, b"y")


def test_a_batch_larger_than_the_bound_travels_alone() -> None:
    proposer = leading()
    large = Batch(1, b"x" * (limits.BATCH_BYTES_MAX + 1))
    for batch in (large, value("a")):
        proposer.enqueue(batch)
    assert proposer.next_batch(chosen=0) == large
    assert proposer.next_batch(chosen=0) == value("a")


def test_the_pipeline_bounds_the_slots_in_flight() -> None:
    proposer = leading(chosen=7)
    for slot in range(8, 8 + limits.AHEAD_SLOTS):
        proposer.enqueue(value("a"))
        assert proposer.next_batch(chosen=7) is not None
        proposer.sent(slot)
    proposer.enqueue(value("b"))
    assert proposer.next_batch(chosen=7) is None
    assert proposer.next_batch(chosen=8) == value("b")


def test_commands_past_the_bound_are_declined_until_there_is_room() -> None:
    proposer = leading()
    large = Batch(1, b"x" * limits.PENDING_BYTES_MAX)
    assert proposer.enqueue(large)
    assert not proposer.enqueue(value("a"))
    proposer.next_batch(chosen=0)
    assert proposer.enqueue(value("a"))


def test_who_resigns_drops_what_waits_and_what_is_in_flight() -> None:
    proposer = leading()
    proposer.sent(1)
    proposer.enqueue(value("a"))
    proposer.resign()
    assert proposer.phase is Phase.IDLE
    assert proposer.next_batch(chosen=0) is None
    assert [proposer.overdue_slots() for _ in range(limits.RESEND_TICKS + 1)][-1] == []


def test_slots_in_flight_become_overdue_lowest_first_and_few_at_a_time() -> None:
    proposer = leading()
    slots = list(range(1, limits.RESEND_SLOTS_MAX + 3))
    for slot in reversed(slots):
        proposer.sent(slot)
    for _ in range(limits.RESEND_TICKS - 1):
        assert proposer.overdue_slots() == []
    assert proposer.overdue_slots() == slots[: limits.RESEND_SLOTS_MAX]


def test_a_slot_that_was_sent_again_or_closed_is_not_overdue() -> None:
    proposer = leading()
    proposer.sent(1)
    proposer.sent(2)
    for _ in range(limits.RESEND_TICKS):
        overdue = proposer.overdue_slots()
    assert overdue == [1, 2]
    proposer.sent(1)
    proposer.closed(2)
    assert proposer.overdue_slots() == []


def test_a_candidacy_that_makes_no_progress_is_overdue() -> None:
    proposer = preparing()
    patience = limits.ELECTION_TICKS_MIN
    assert not any(proposer.phase_overdue() for _ in range(patience))
    proposer.made_progress()
    assert not any(proposer.phase_overdue() for _ in range(patience))
    assert proposer.phase_overdue()

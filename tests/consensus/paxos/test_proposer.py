"""The proposer: phase 1 for all slots at once, and again behind a change of membership; then values slot by slot."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FOUR, ONE, THREE, TWO, ballot, members, value, vote

from quorate import limits
from quorate.consensus.paxos.messages import Promise
from quorate.consensus.paxos.proposer import Phase, Proposer
from quorate.types import NOOP, ReplicaId, Slot, Vote

MINE = ballot(2, 1)
VOTERS = (ONE, TWO, THREE)
CHANGE = members(1, 2, 3, version=1, learners=(4,)).batch()


def promise(chosen: Slot = 0, votes: tuple[tuple[Slot, Vote], ...] = ()) -> Promise:
    return Promise(MINE, chosen, votes)


def preparing() -> Proposer:
    proposer = Proposer()
    proposer.prepare(MINE)
    return proposer


def promised(*promises: tuple[ReplicaId, Promise]) -> Proposer:
    proposer = preparing()
    for sender, each in promises:
        proposer.on_promise(sender, each, VOTERS)
    return proposer


def leading(chosen: Slot = 0) -> Proposer:
    proposer = promised((ONE, promise(chosen)), (TWO, promise(chosen)))
    assert proposer.lead(chosen) == []
    return proposer


# --- phase 1 ---------------------------------------------------------------------------------------------------------


def test_a_quorum_of_promises_completes_phase_1() -> None:
    proposer = preparing()
    assert not proposer.on_promise(ONE, promise(), VOTERS)
    assert proposer.on_promise(TWO, promise(), VOTERS)
    assert proposer.phase is Phase.RECOVERING
    assert set(proposer.promisers()) == {ONE, TWO}


def test_the_same_promise_twice_counts_once() -> None:
    assert promised((TWO, promise()), (TWO, promise())).phase is Phase.PREPARING


def test_a_learners_promise_does_not_count() -> None:
    assert promised((ONE, promise()), (FOUR, promise())).phase is Phase.PREPARING


def test_promises_of_another_ballot_and_late_ones_are_ignored() -> None:
    other = Promise(ballot(1, 1), 0, ())
    assert promised((TWO, other), (THREE, other)).phase is Phase.PREPARING
    proposer = promised((ONE, promise()), (TWO, promise()), (THREE, promise(chosen=99)))
    assert proposer.may_lead(chosen=0)


def test_a_ballot_below_ours_is_never_prepared() -> None:
    with pytest.raises(AssertionError):
        preparing().prepare(ballot(1, 3))


def test_our_own_ballot_prepared_again_starts_from_no_promises() -> None:
    proposer = promised((ONE, promise()))
    proposer.prepare(MINE)
    assert not proposer.on_promise(TWO, promise(), VOTERS)


def test_nothing_is_proposed_below_the_longest_promised_prefix() -> None:
    proposer = promised((ONE, promise(chosen=3)), (TWO, promise(chosen=5)))
    assert not proposer.may_lead(chosen=3)
    assert not proposer.may_lead(chosen=4)
    assert proposer.may_lead(chosen=5)


def test_each_open_slot_gets_the_vote_of_the_highest_ballot_and_holes_a_no_op() -> None:
    proposer = promised(
        (ONE, promise(2, ((3, vote(1, 1, "old")), (5, vote(1, 3, "new"))))),
        (TWO, promise(2, ((3, vote(1, 2, "newer")), (5, vote(1, 2, "old"))))),
    )
    assert proposer.lead(chosen=2) == [(3, value("newer")), (4, NOOP), (5, value("new"))]
    assert proposer.phase is Phase.LEADING


def test_votes_in_slots_that_became_chosen_meanwhile_are_left_out() -> None:
    proposer = promised((ONE, promise(0, ((1, vote(1, 1, "a")), (2, vote(1, 1, "b"))))), (TWO, promise(1)))
    assert proposer.lead(chosen=1) == [(2, value("b"))]


def test_nothing_behind_a_change_of_membership_is_adopted_with_it() -> None:
    votes = ((1, vote(1, 1, "a")), (2, Vote(ballot(1, 1), CHANGE)), (3, vote(1, 1, "c")))
    proposer = promised((ONE, promise(0, votes)), (TWO, promise()))
    assert proposer.lead(chosen=0) == [(1, value("a")), (2, CHANGE)]


def test_a_vote_for_a_change_that_a_higher_ballot_replaced_bars_nothing() -> None:
    proposer = promised(
        (ONE, promise(0, ((1, Vote(ballot(1, 1), CHANGE)), (2, vote(1, 2, "b"))))),
        (TWO, promise(0, ((1, vote(1, 2, "a")),))),
    )
    assert proposer.lead(chosen=0) == [(1, value("a")), (2, value("b"))]


def test_a_candidacy_that_makes_no_progress_is_overdue() -> None:
    proposer = preparing()
    patience = limits.ELECTION_TICKS_MIN
    assert not any(proposer.phase_overdue() for _ in range(patience))
    proposer.made_progress()
    assert not any(proposer.phase_overdue() for _ in range(patience))
    assert proposer.phase_overdue()


# --- phase 2 ---------------------------------------------------------------------------------------------------------


def test_the_next_slot_follows_the_last_one_proposed_in() -> None:
    proposer = leading(chosen=7)
    assert proposer.next_slot == 8
    proposer.sent(8)
    proposer.sent(9)
    proposer.sent(8)
    assert proposer.next_slot == 10


def test_who_resigns_drops_what_is_in_flight() -> None:
    proposer = leading()
    proposer.sent(1)
    proposer.resign()
    assert proposer.phase is Phase.IDLE
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

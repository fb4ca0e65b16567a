"""The office of a leader: what waits shares a value, what bars the way, who was heard, who leads next."""

from __future__ import annotations

from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, members, value

from quorate import limits
from quorate.consensus.office import Asked, Office
from quorate.types import Batch, ReplicaId

VOTERS = (ONE, TWO, THREE)


def entered(*electors: ReplicaId) -> Office:
    """Return the office of replica 1, which leads the group of three."""
    office = Office()
    office.enter((TWO, THREE), electors)
    return office


# --- commands --------------------------------------------------------------------------------------------------------


def test_what_waits_shares_one_value() -> None:
    office = entered()
    for name in "abc":
        assert office.enqueue(value(name))
    assert office.next_batch(chosen=0, next_slot=1) == Batch(3, b"abc")
    assert office.next_batch(chosen=0, next_slot=2) is None


def test_a_value_ends_before_the_batch_that_would_make_it_too_large() -> None:
    office = entered()
    half = b"x" * (limits.BATCH_BYTES_MAX // 2)
    for payload in (half, half, b"y"):
        office.enqueue(Batch(1, payload))
    assert office.next_batch(chosen=0, next_slot=1) == Batch(2, half + half)
    assert office.next_batch(chosen=0, next_slot=2) == Batch(1, b"y")


def test_a_batch_larger_than_the_bound_travels_alone() -> None:
    office = entered()
    large = Batch(1, b"x" * (limits.BATCH_BYTES_MAX + 1))
    for batch in (large, value("a")):
        office.enqueue(batch)
    assert office.next_batch(chosen=0, next_slot=1) == large
    assert office.next_batch(chosen=0, next_slot=2) == value("a")


def test_the_slots_in_flight_are_bounded() -> None:
    office = entered()
    office.enqueue(value("a"))
    assert office.next_batch(chosen=7, next_slot=8 + limits.AHEAD_SLOTS) is None
    assert office.next_batch(chosen=7, next_slot=7 + limits.AHEAD_SLOTS) == value("a")


def test_commands_past_the_bound_are_declined_until_there_is_room() -> None:
    office = entered()
    assert office.enqueue(Batch(1, b"x" * limits.PENDING_BYTES_MAX))
    assert not office.enqueue(value("a"))
    office.next_batch(chosen=0, next_slot=1)
    assert office.enqueue(value("a"))


def test_nothing_goes_behind_a_change_that_is_not_chosen() -> None:
    office = entered()
    office.changing = 5
    office.enqueue(value("a"))
    assert office.next_batch(chosen=4, next_slot=6) is None
    assert office.next_batch(chosen=5, next_slot=6) == value("a")


def test_commands_without_a_slot_are_given_back_in_order_and_make_room() -> None:
    office = entered()
    large = Batch(1, b"x" * limits.PENDING_BYTES_MAX)
    office.enqueue(large)
    assert office.clear() == [large]
    assert office.clear() == []
    assert office.enqueue(value("a"))
    assert office.enqueue(value("b"))
    assert office.clear() == [value("a"), value("b")]


def test_who_leaves_owes_nobody_an_answer() -> None:
    """Another change may be chosen in the slot of the one that was asked for."""
    office = entered()
    office.wanted = members(1, 2, version=1)
    office.asked = Asked(TWO, 7, office.wanted)
    office.clear()
    assert [office.wanted, office.asked] == [None, None]


def test_nothing_goes_before_a_change_that_waits_for_what_is_in_flight() -> None:
    office = entered()
    office.wanted = members(1, 2, version=1)
    office.enqueue(value("a"))
    assert office.next_batch(chosen=4, next_slot=6) is None


# --- the pulse -------------------------------------------------------------------------------------------------------


def test_the_electors_have_just_been_heard_and_others_not_yet() -> None:
    office = entered(ONE, TWO)
    assert office.heard() == {TWO}
    office.on_ack(THREE)
    assert office.heard() == {TWO, THREE}


def test_a_peer_counts_as_heard_for_an_election_timeout() -> None:
    office = entered(TWO, THREE)
    for _ in range(limits.ELECTION_TICKS_MAX):
        assert office.tick(ONE, VOTERS)
    office.on_ack(THREE)
    assert office.tick(ONE, VOTERS)
    assert office.heard() == {THREE}


def test_a_quorum_that_falls_silent_is_noticed() -> None:
    office = entered(TWO, THREE)
    assert [office.tick(ONE, VOTERS) for _ in range(limits.ELECTION_TICKS_MAX + 1)][-1] is False


def test_learners_keep_nobody_in_office() -> None:
    office = Office()
    office.enter((TWO, THREE, FOUR, FIVE), (TWO, THREE))
    for _ in range(limits.ELECTION_TICKS_MAX):
        office.on_ack(FOUR)
        office.on_ack(FIVE)
        assert office.tick(ONE, VOTERS)
    assert not office.tick(ONE, VOTERS)


def test_a_new_peer_has_yet_to_be_heard_and_who_went_is_forgotten() -> None:
    office = entered(TWO, THREE)
    office.keep((THREE, FOUR))
    assert office.heard() == {THREE}
    office.on_ack(TWO)
    office.on_ack(FOUR)
    assert office.heard() == {THREE, FOUR}


def test_the_pulse_is_due_every_few_ticks() -> None:
    office = entered(TWO)
    beats = []
    for _ in range(3 * limits.HEARTBEAT_TICKS):
        office.tick(ONE, VOTERS)
        beats.append(office.pulse_due())
        if office.pulse_due():
            office.pulsed()
    assert beats == ([False] * (limits.HEARTBEAT_TICKS - 1) + [True]) * 3


# --- handing over ----------------------------------------------------------------------------------------------------


def test_the_successor_is_the_voter_heard_of_that_reaches_furthest() -> None:
    office = Office()
    office.enter((TWO, THREE, FOUR, FIVE), (TWO, THREE, FIVE))
    office.hand_over({TWO: 3, THREE: 5, FOUR: 9, FIVE: 9}, (ONE, TWO, THREE, FOUR))
    assert office.successor == THREE, "4 is silent, and 5 does not vote"


def test_without_a_voter_to_hand_over_to_there_is_no_successor() -> None:
    office = entered()
    office.hand_over({TWO: 3}, VOTERS)
    assert office.successor is None


def test_while_leadership_is_handed_over_nothing_is_proposed() -> None:
    office = entered(TWO)
    office.enqueue(value("a"))
    office.hand_over({}, VOTERS)
    assert office.next_batch(chosen=0, next_slot=1) is None


def test_a_successor_that_does_not_come_is_given_up() -> None:
    office = entered(TWO, THREE)
    office.hand_over({}, VOTERS)
    for _ in range(limits.ELECTION_TICKS_MIN):
        office.tick(ONE, VOTERS)
        assert office.successor == TWO
    office.tick(ONE, VOTERS)
    assert office.successor is None


def test_asking_again_prolongs_nothing() -> None:
    office = entered(TWO, THREE)
    for _ in range(limits.ELECTION_TICKS_MIN + 1):
        office.hand_over({THREE: 1}, VOTERS)
        assert office.successor == THREE
        office.tick(ONE, VOTERS)
    assert office.successor is None


def test_a_new_leadership_starts_without_what_barred_the_last() -> None:
    office = entered(TWO)
    office.changing, office.wanted = 9, members(1, 2, version=1)
    office.asked = Asked(TWO, 1, office.wanted)
    office.hand_over({}, VOTERS)
    office.enter((TWO, THREE), (TWO,))
    assert [office.changing, office.wanted, office.asked, office.successor] == [0, None, None, None]

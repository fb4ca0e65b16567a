"""What a replica does whatever the protocol: forwarding, catch-up, snapshots, read barriers, handing over."""

from __future__ import annotations

from typing import Any

import pytest
from tests.consensus.conversation import (
    FIVE,
    FOUR,
    ONE,
    THREE,
    TWO,
    CoreType,
    Letter,
    Network,
    ballot,
    members,
    value,
    vote,
)

from quorate import limits
from quorate.consensus import messages as m
from quorate.consensus.core import Deliver, Proposed, SendChosen, SnapshotNeeded, Trimmed
from quorate.types import NO_BASE, NOOP, Base, Batch, founding

NAMES = [f"{number}." for number in range(3 * limits.WINDOW_SLOTS)]


def led(core: CoreType, size: int = 3) -> Network:
    """Return a group that replica 1 leads and everybody knows it."""
    net = Network(size, core)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    return net


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_follower_forwards_to_the_leader(core: CoreType) -> None:
    net = led(core)
    net.propose(TWO, "a")
    assert net.said(m.Forward) == [m.Forward(value("a"))]
    assert net.commands(ONE) == ["a"]


def test_a_forward_to_somebody_who_does_not_lead_is_dropped(core: CoreType) -> None:
    net = led(core)
    net.tell(TWO, THREE, m.Forward(value("a")))
    net.talk()
    assert net.commands(ONE) == []


@pytest.mark.parametrize("batch", [NOOP, members(1, 2, version=1).batch()])
def test_only_commands_are_taken_from_a_forward(core: CoreType, batch: Batch) -> None:
    """A membership that slipped in this way would have been checked by nobody."""
    net = led(core)
    before = net.log(ONE)
    net.tell(ONE, TWO, m.Forward(batch))
    net.talk()
    assert net.log(ONE) == before


def test_without_a_leader_there_is_nowhere_to_propose(core: CoreType) -> None:
    net = Network(3, core)
    assert not net[ONE].core.accepts_proposals()
    assert net.step(ONE, Proposed(value("a"))) == []


def test_what_a_leader_cannot_hold_is_declined_with_a_trace(core: CoreType) -> None:
    net = led(core)
    net.cut(ONE)
    for _ in range(limits.AHEAD_SLOTS + 1):
        net.step(ONE, Proposed(Batch(1, b"x" * limits.PENDING_BYTES_MAX)))
    net.step(ONE, Proposed(value("a")))
    assert net[ONE].traces[-1].what == "declined"


# --- catch-up --------------------------------------------------------------------------------------------------------


def test_a_member_that_missed_values_fetches_them(core: CoreType) -> None:
    net = led(core)
    net.cut(THREE)
    net.propose(ONE, *NAMES)
    assert net.commands(THREE) == []
    net.heal()
    net.tick(3 * limits.RESEND_TICKS)
    assert net.commands(THREE) == NAMES


def test_a_member_that_restarts_goes_on_from_its_disk(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a", "b", "c")
    net.tick(limits.HEARTBEAT_TICKS)
    stored = net.restart(THREE).delivered
    net.propose(ONE, "d")
    net.tick(2 * limits.RESEND_TICKS)
    assert 0 < stored <= net[ONE].delivered
    assert net.commands(THREE) == ["a", "b", "c", "d"]


def test_who_knows_no_more_does_not_answer(core: CoreType) -> None:
    net = Network(3, core)
    assert net.tell(TWO, THREE, m.Learn(1)) == []


def test_chosen_values_that_do_not_fit_the_prefix_are_left(core: CoreType) -> None:
    net = Network(3, core)
    net.tell(THREE, ONE, m.Learned(2, (vote(1, 1, "b"), vote(1, 1, "c")), 3))
    assert net[THREE].delivered == 0
    assert net[THREE].core.status().chosen_known == 3


def test_chosen_values_told_twice_are_delivered_once(core: CoreType) -> None:
    net = Network(3, core)
    for votes in ((vote(1, 1, "a"),), (vote(1, 1, "a"), vote(1, 1, "b"))):
        net.tell(THREE, ONE, m.Learned(1, votes, 2))
    assert net.log(THREE) == ["a", "b"]


# --- trimming and snapshots ------------------------------------------------------------------------------------------


def behind(core: CoreType) -> Network:
    """Return a group of which replica 3 has missed everything."""
    net = led(core)
    net.cut(THREE)
    net.propose(ONE, *NAMES)
    net.tick(2 * limits.HEARTBEAT_TICKS)
    net.heal()
    return net


def test_who_trimmed_what_is_asked_for_says_where_its_log_begins(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a", "b", "c")
    base = net.trim(ONE).base
    net.propose(ONE, "d")
    net.tell(ONE, THREE, m.Learn(base.slot))
    net.tell(ONE, THREE, m.Learn(base.slot + 1))
    assert net.said(m.Behind, to=THREE) == [m.Behind(base.slot)]
    assert net.said(m.Learned, to=THREE)[0].first == base.slot + 1


def test_a_peer_that_still_holds_the_log_is_found(core: CoreType) -> None:
    net = behind(core)
    base = net.trim(ONE).base
    net.tick(2 * limits.RESEND_TICKS)
    assert net[THREE].snapshots_needed == [base.slot]
    net.elect(TWO)
    net.tick(4 * limits.RESEND_TICKS)
    assert net.commands(THREE) == NAMES


def test_when_all_have_trimmed_a_snapshot_is_needed(core: CoreType) -> None:
    net = behind(core)
    base = net.trim(ONE).base
    net.trim(TWO)
    net.tick(4 * limits.RESEND_TICKS)
    assert net.commands(THREE) == []
    assert base.slot in net[THREE].snapshots_needed


def test_behind_a_snapshot_the_log_goes_on(core: CoreType) -> None:
    net = behind(core)
    snapshot = net.trim(ONE)
    net.trim(TWO)
    net.propose(ONE, "after")
    net.install(THREE, snapshot)
    net.tick(3 * limits.RESEND_TICKS)
    assert net.commands(THREE) == [*NAMES, "after"]
    assert net[THREE].core.status().chosen == net[ONE].core.status().chosen
    net.crash(TWO)
    net.propose(ONE, "with the vote of 3")
    assert net.commands(ONE)[-1] == "with the vote of 3"


def test_a_snapshot_is_told_of_by_the_next_behind_only(core: CoreType) -> None:
    net = Network(3, core)
    assert SnapshotNeeded(9) in net.tell(THREE, ONE, m.Behind(9))
    assert SnapshotNeeded(0) not in net.tell(THREE, TWO, m.Behind(0))


def test_a_snapshot_of_what_is_known_already_moves_the_base_alone(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a", "b")
    snapshot = net.snapshot(ONE)
    net.propose(ONE, "c")
    net.tick(limits.HEARTBEAT_TICKS)
    effects = net.install(TWO, snapshot)
    assert not any(isinstance(effect, Deliver) for effect in effects)
    assert net[TWO].persists[-1].base == snapshot.base
    assert net.commands(TWO) == ["a", "b", "c"]


def test_a_leader_or_candidate_that_gets_a_snapshot_steps_down(core: CoreType) -> None:
    net = behind(core)
    snapshot = net.trim(ONE)
    net.trim(TWO)
    net.crash(ONE)
    net.loses = lambda letter: letter.to == THREE and isinstance(letter.message, m.Learned)
    net.tick(4 * limits.ELECTION_TICKS_MAX, THREE)
    net.install(THREE, snapshot)
    assert net[THREE].core.status().role == "follower"
    net.heal()
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    net.propose(net.leader, "after")
    net.tick(2 * limits.RESEND_TICKS)
    assert net.commands(TWO) == net.commands(THREE) == [*NAMES, "after"]


def test_nothing_may_be_trimmed_that_is_not_chosen(core: CoreType) -> None:
    net = led(core)
    with pytest.raises(AssertionError):
        net.step(ONE, Trimmed(Base(9, 9, ballot(1, 1))))


def test_a_base_never_goes_back(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a")
    older = net.snapshot(ONE)
    net.propose(ONE, "b")
    newer = net.trim(ONE)
    persists = len(net[ONE].persists)
    net.step(ONE, Trimmed(older.base))
    net.step(ONE, Trimmed(newer.base))
    assert len(net[ONE].persists) == persists


@pytest.mark.parametrize("installed", [False, True])
def test_a_member_restarts_behind_its_base(core: CoreType, installed: bool) -> None:
    net = behind(core)
    snapshot = net.trim(ONE)
    net.trim(TWO)
    me = THREE if installed else TWO
    if installed:
        net.install(THREE, snapshot)
    assert net.restart(me).store.recover().base == snapshot.base
    assert net[me].core.status().chosen == snapshot.base.slot
    net.propose(ONE, "after")
    net.tick(3 * limits.RESEND_TICKS)
    assert net.commands(me) == [*NAMES, "after"]


# --- what is persisted -----------------------------------------------------------------------------------------------


def test_the_founding_membership_is_in_the_first_persist_alone(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a", "b")
    for me in net.ids:
        told = [persist.membership for persist in net[me].persists]
        assert told[0] == members(1, 2, 3)
        assert set(told[1:]) == {None}


def test_a_joiner_stores_that_it_knows_nobody(core: CoreType) -> None:
    net = led(core)
    net.add(FOUR)
    assert net[FOUR].persists[0].membership == founding({})


def test_the_base_is_in_the_persist_in_which_it_moved(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a", "b")
    base = net.trim(ONE).base
    net.propose(ONE, "c")
    told = [persist.base for persist in net[ONE].persists if persist.base is not None]
    assert told == [base]
    (persist,) = (persist for persist in net[ONE].persists if persist.base)
    assert persist.chosen == base.slot


def test_what_was_recovered_is_not_persisted_again(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, "a")
    net.trim(TWO)
    net.restart(TWO)
    net.propose(ONE, "b")
    assert net[TWO].persists
    assert {(persist.membership, persist.base) for persist in net[TWO].persists} == {(None, None)}


def test_a_fresh_member_has_trimmed_nothing(core: CoreType) -> None:
    assert Network(3, core)[ONE].store.recover().base == NO_BASE


# --- read barriers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_barrier_reaches_the_last_command_whoever_asks(core: CoreType, size: int) -> None:
    net = led(core, size)
    net.propose(ONE, "a", "b")
    for token, reader in enumerate(net.ids, 1):
        net.ask_barrier(reader, token)
        net.talk()
        assert [tuple(barrier) for barrier in net[reader].barriers] == [(token, net[ONE].delivered)]


def test_a_barrier_without_a_leader_waits_for_one(core: CoreType) -> None:
    net = Network(3, core)
    net.ask_barrier(TWO, 5)
    net.talk()
    assert net[TWO].barriers == []
    net.elect(ONE)
    net.tick(2 * limits.RESEND_TICKS)
    assert [barrier.token for barrier in net[TWO].barriers] == [5]


@pytest.mark.parametrize("lost", [m.ReadQuery, m.ReadAnswer])
def test_a_lost_question_or_answer_is_repeated(core: CoreType, lost: type[m.Message]) -> None:
    net = led(core, 5)
    net.propose(ONE, "a")

    def lose(letter: Letter) -> bool:
        return isinstance(letter.message, lost)

    net.loses = lose
    net.ask_barrier(FIVE)
    net.talk()
    assert net[FIVE].barriers == []
    net.heal()
    net.tick(limits.RESEND_TICKS)
    assert [barrier.slot for barrier in net[FIVE].barriers] == [net[ONE].delivered]


def test_an_answer_to_an_earlier_question_is_not_taken(core: CoreType) -> None:
    net = led(core)
    net.loses = lambda letter: isinstance(letter.message, m.ReadAnswer)
    net.ask_barrier(TWO)
    net.talk()
    (old,) = net.said(m.ReadAnswer)
    net.propose(ONE, "a")
    net.ask_barrier(TWO, 2)
    net.tell(TWO, ONE, old)
    assert net[TWO].barriers == []


def test_each_life_asks_under_names_of_its_own(core: CoreType) -> None:
    net = led(core)
    net.ask_barrier(TWO)
    net.talk()
    net.restart(TWO)
    net.tick(limits.HEARTBEAT_TICKS)
    net.ask_barrier(TWO)
    first, second = {query.query for query in net.said(m.ReadQuery, by=TWO)}
    assert abs(first - second) > 1


# --- handing over ----------------------------------------------------------------------------------------------------


def test_leadership_is_handed_over_on_request(core: CoreType) -> None:
    net = led(core)
    net.hand_over(ONE)
    net.talk()
    assert not net[ONE].leads
    assert net[TWO].leads
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    assert net.leader == TWO


def test_the_successor_is_the_furthest_voter(core: CoreType) -> None:
    net = led(core)
    net.cut(TWO)
    net.propose(ONE, "a", "b")
    net.tick(limits.HEARTBEAT_TICKS)
    net.heal()
    net.hand_over(ONE)
    net.talk()
    assert net.said(m.TakeOver, to=TWO) == []
    assert net[THREE].leads


def test_a_follower_has_nothing_to_hand_over(core: CoreType) -> None:
    net = led(core)
    net.hand_over(TWO)
    net.talk()
    assert net[ONE].leads
    assert net.said(m.TakeOver) == []


def test_the_last_voter_keeps_leading(core: CoreType) -> None:
    net = led(core, 1)
    net.hand_over(ONE)
    net.propose(ONE, "a")
    assert net.commands(ONE) == ["a"]


def test_leadership_is_handed_over_only_once_all_that_was_proposed_is_chosen(core: CoreType) -> None:
    net = led(core)
    net.step(ONE, Proposed(value("a")))
    net.hand_over(ONE)
    assert net.said(m.TakeOver) == []
    net.talk()
    assert net.said(m.TakeOver, by=ONE)
    assert net[TWO].leads
    assert "a" in net.commands(TWO)


def test_meanwhile_nothing_is_proposed_and_what_waits_goes_to_the_successor(core: CoreType) -> None:
    net = led(core)
    net.loses = lambda letter: isinstance(letter.message, m.TakeOver)
    net.hand_over(ONE)
    for name in ("a", "b"):
        net.propose(ONE, name)
    assert net.commands(ONE) == []
    net.heal()
    net.tick(1, ONE)
    net.tick(2 * limits.HEARTBEAT_TICKS)
    assert net.leader == TWO
    assert net.said(m.Forward, by=ONE, to=TWO) == [m.Forward(value("a")), m.Forward(value("b"))]
    assert "".join(net.commands(ONE)) == "".join(net.commands(TWO)) == "ab"


def test_a_successor_that_does_not_come_leaves_leadership_where_it_was(core: CoreType) -> None:
    net = led(core)
    first = net[ONE].core.status().ballot
    net.loses = lambda letter: isinstance(letter.message, m.TakeOver)
    net.hand_over(ONE)
    net.propose(ONE, "a")
    net.tick(limits.ELECTION_TICKS_MIN + 1)
    assert net[ONE].core.status().ballot == first
    assert net.commands(ONE) == ["a"]


@pytest.mark.parametrize("stale", ["ballot", "sender"])
def test_only_the_present_leader_can_ask_to_take_over(core: CoreType, stale: str) -> None:
    net = led(core)
    now = net[ONE].core.status().ballot
    asks = m.TakeOver(ballot(now.round + 1, now.replica) if stale == "ballot" else now)
    net.tell(TWO, THREE if stale == "sender" else ONE, asks)
    net.talk()
    assert net[ONE].leads


# --- steps -----------------------------------------------------------------------------------------------------------


def test_what_is_not_durable_yet_is_not_handed_on(core: CoreType) -> None:
    """`SendChosen` reads from the store, which must hold what is sent."""
    net = led(core)
    net.propose(ONE, "a", "b")
    net.tick(limits.HEARTBEAT_TICKS)
    held = net[TWO].delivered
    net[TWO].slow_disk = True
    net.propose(ONE, "c")
    net.tick(limits.HEARTBEAT_TICKS)

    def answer() -> Any:
        (effect,) = (each for each in net.tell(TWO, THREE, m.Learn(1)) if isinstance(each, SendChosen))
        return effect.last

    assert answer() <= held
    net.sync(TWO)
    net.tick(limits.HEARTBEAT_TICKS)
    assert answer() == held + 1

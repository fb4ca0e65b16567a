"""Members come and go: changes of membership as conversations, whatever the protocol."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import (
    FIVE,
    FOUR,
    ONE,
    SIX,
    THREE,
    TWO,
    CoreType,
    Network,
    address,
    members,
    value,
)

from quorate import limits
from quorate.consensus import messages as m
from quorate.consensus.core import Change, ChangeRequested, Effect, Proposed, Reconfigured
from quorate.types import Membership, ReplicaId

SETTLING = 2 * limits.ELECTION_TICKS_MIN
"""Ticks in which a learner is heard of, catches up, is promoted, and all know it."""


def led(core: CoreType, size: int = 3) -> Network:
    """Return a group that replica 1 leads, and everybody knows it and was heard of."""
    net = Network(size, core)
    net.elect(ONE)
    net.tick(limits.HEARTBEAT_TICKS)
    return net


def grown(core: CoreType, size: int) -> Network:
    """Return a group that replica 1 founded alone and others joined one after the other."""
    net = led(core, 1)
    for number in range(2, size + 1):
        assert net.add(ReplicaId(number)) == ""
        net.tick(SETTLING)
    return net


def membership(net: Network, at: ReplicaId) -> Membership:
    return net[at].core.status().membership


# --- coming and going ------------------------------------------------------------------------------------------------


def test_from_one_to_two_to_three_to_five_and_back_to_three(core: CoreType) -> None:
    net = grown(core, 3)
    net.propose(ONE, "of three")
    for newcomer in (FOUR, FIVE):
        assert net.add(newcomer) == ""
        net.tick(SETTLING)
        net.propose(newcomer, f"of {newcomer}")
    assert all(membership(net, me).voters == (ONE, TWO, THREE, FOUR, FIVE) for me in net.ids)
    for gone in (TWO, ONE):
        if net[gone].leads:
            net.hand_over(gone)
            net.tick(limits.HEARTBEAT_TICKS)
        assert net.remove(gone) == ""
        net.crash(gone)
        net.tick(SETTLING)
    net.propose(FOUR, "of three again")
    net.tick(2 * limits.HEARTBEAT_TICKS)
    for me in (THREE, FOUR, FIVE):
        assert membership(net, me) == members(3, 4, 5, version=10)
        assert net.commands(me) == ["of three", "of 4", "of 5", "of three again"]


def test_who_comes_learns_all_from_the_beginning_and_is_told_of_every_membership(core: CoreType) -> None:
    net = led(core)
    names = [str(number) for number in range(2 * limits.WINDOW_SLOTS)]
    net.propose(ONE, *names)
    seen: list[Membership] = []

    def watch(me: ReplicaId, effect: Effect) -> None:
        if me == FOUR and isinstance(effect, Reconfigured):
            seen.append(effect.membership)

    net.watch = watch
    net.add(FOUR)
    net.tick(SETTLING)
    assert net.commands(FOUR) == names
    assert seen == [members(1, 2, 3, version=1, learners=(4,)), members(1, 2, 3, 4, version=2)]


def test_who_comes_when_the_log_was_trimmed_needs_a_snapshot(core: CoreType) -> None:
    net = led(core)
    names = [str(number) for number in range(limits.AHEAD_SLOTS + 1)]
    net.propose(ONE, *names)
    net.tick(limits.HEARTBEAT_TICKS)
    snapshot = net.trim(ONE)
    net.trim(TWO)
    net.trim(THREE)
    net.add(FOUR)
    net.tick(SETTLING)
    assert net[FOUR].snapshots_needed
    assert membership(net, ONE).learners == (FOUR,)
    net.install(FOUR, snapshot)
    net.tick(SETTLING)
    assert membership(net, FOUR) == membership(net, ONE) == members(1, 2, 3, 4, version=2)
    assert net.commands(FOUR) == names


def test_a_snapshot_brings_the_membership_of_its_slot(core: CoreType) -> None:
    net = led(core)
    net.add(FOUR)
    net.tick(SETTLING)
    net.propose(ONE, "a")
    net.tick(limits.HEARTBEAT_TICKS)
    snapshot = net.trim(ONE)
    net.join(FIVE)
    effects = net.install(FIVE, snapshot)
    assert Reconfigured(members(1, 2, 3, 4, version=2)) in effects
    assert net.restart(FIVE).core.status().membership == members(1, 2, 3, 4, version=2)


def test_a_learner_is_promoted_only_once_it_has_caught_up(core: CoreType) -> None:
    net = led(core)
    net.propose(ONE, *(str(number) for number in range(limits.AHEAD_SLOTS + 1)))
    net.loses = lambda letter: isinstance(letter.message, m.Learned)
    net.add(FOUR)
    net.tick(SETTLING)
    assert membership(net, ONE).learners == (FOUR,)
    net.heal()
    net.tick(SETTLING)
    assert membership(net, ONE).voters == (ONE, TWO, THREE, FOUR)


def test_a_learner_that_never_comes_holds_up_nothing_and_may_be_removed(core: CoreType) -> None:
    net = led(core)
    assert net.change(ONE, Change(FOUR, address(FOUR))) == ""
    net.tick(SETTLING)
    net.propose(ONE, "a")
    assert net.commands(ONE) == ["a"]
    assert net.remove(FOUR) == ""
    assert membership(net, ONE) == members(1, 2, 3, version=2, last_id=4)


def test_learners_count_in_no_quorum(core: CoreType) -> None:
    net = led(core)
    net.loses = lambda letter: isinstance(letter.message, m.Learned)
    net.propose(ONE, *(str(number) for number in range(limits.AHEAD_SLOTS + 1)))
    net.add(FOUR)
    before = net.commands(ONE)
    net.loses = lambda letter: {TWO, THREE} & {letter.sender, letter.to} != set()
    net.propose(ONE, "a")
    net.ask_barrier(FOUR)
    net.tick(limits.RESEND_TICKS)
    assert net.commands(ONE) == before
    assert net[FOUR].barriers == []
    net.tick(limits.ELECTION_TICKS_MAX)
    assert not net[ONE].leads


def test_a_learner_does_not_stand_for_election(core: CoreType) -> None:
    net = led(core)
    net.loses = lambda letter: isinstance(letter.message, m.Learned)
    net.add(FOUR)
    net.loses = lambda letter: letter.to == FOUR
    net.letters.clear()
    net.tick(4 * limits.ELECTION_TICKS_MAX, FOUR)
    assert net[FOUR].core.status().role == "follower"


def test_a_change_needs_nothing_proposed_behind_it(core: CoreType) -> None:
    net = led(core)
    assert net.remove(THREE) == ""
    net.tick(limits.HEARTBEAT_TICKS)
    assert membership(net, ONE) == membership(net, TWO) == members(1, 2, version=1, last_id=3)
    assert net.commands(ONE) == []


def test_commands_wait_for_a_change_and_then_go_on(core: CoreType) -> None:
    net = led(core)
    net.step(ONE, Proposed(value("a")))
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    net.step(ONE, Proposed(value("b")))
    net.talk()
    net.tick(limits.HEARTBEAT_TICKS)
    assert net.commands(ONE) == net.commands(TWO) == ["a", "b"]
    assert net.log(ONE).index("a") < net.log(ONE).index("[1 2]")


def test_a_change_may_be_asked_for_at_any_member(core: CoreType) -> None:
    net = led(core)
    assert net.remove(THREE, at=TWO) == ""
    assert net.said(m.ChangeQuery, by=TWO, to=ONE)
    assert membership(net, ONE).voters == (ONE, TWO)


def test_a_member_stores_the_membership_with_the_prefix_it_belongs_to(core: CoreType) -> None:
    net = grown(core, 3)
    net.propose(ONE, "a")
    net.tick(limits.HEARTBEAT_TICKS)
    for me in net.ids:
        told = [persist.membership for persist in net[me].persists if persist.membership]
        assert told == sorted(told, key=lambda each: each.version)
        assert len(told) == len({each.version for each in told}), "each once"
        recovered = net[me].store.recover()
        assert recovered.membership == membership(net, me)


def test_a_change_is_stored_without_anything_behind_it(core: CoreType) -> None:
    """Else a restart would take a member back to those who may be gone by then."""
    net = led(core)
    net.remove(THREE)
    net.tick(limits.HEARTBEAT_TICKS)
    for me in (ONE, TWO):
        net.restart(me)
        assert membership(net, me) == members(1, 2, version=1, last_id=3)


def test_a_member_restarts_with_the_membership_it_had(core: CoreType) -> None:
    net = led(core)
    net.remove(THREE)
    net.crash(THREE)
    net.propose(ONE, "a")
    net.tick(limits.HEARTBEAT_TICKS)
    for me in (ONE, TWO):
        net.restart(me)
        net.tick(limits.HEARTBEAT_TICKS)
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    assert membership(net, ONE) == membership(net, TWO) == members(1, 2, version=1, last_id=3)
    net.propose(net.leader, "b")
    assert net.commands(net.leader) == ["a", "b"]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_change_without_a_leader_is_refused(core: CoreType) -> None:
    assert Network(3, core).change(TWO, Change(THREE, None)) == "no leader is known"


def test_who_leads_no_longer_says_so(core: CoreType) -> None:
    net = led(core)
    net.tell(TWO, THREE, m.ChangeQuery(7, FOUR, address(FOUR)))
    (answer,) = net.said(m.ChangeAnswer, by=TWO, to=THREE)
    assert answer.query == 7
    assert "ask again" in answer.refusal


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Change(THREE, "elsewhere:1"), "id 3 was given before"),
        (Change(SIX, None), "replica 6 is no member"),
    ],
)
def test_what_may_not_be_is_refused_wherever_it_is_asked_for(core: CoreType, change: Change, reason: str) -> None:
    net = led(core)
    for me in net.ids:
        assert reason in (net.change(me, change) or "")
    assert membership(net, ONE) == members(1, 2, 3)


def test_the_last_voter_may_not_go(core: CoreType) -> None:
    assert led(core, 1).remove(ONE) == "replica 1 is the last voter"


def test_the_quorum_may_not_be_lost(core: CoreType) -> None:
    net = led(core)
    net.crash(THREE)
    net.tick(limits.ELECTION_TICKS_MAX + 1)
    assert net.remove(TWO) == "without replica 2 the quorum would be lost: nothing is heard of 3"
    assert net.remove(THREE) == ""
    net.propose(ONE, "a")
    assert net.commands(ONE) == ["a"]


def test_a_second_change_under_way_is_refused(core: CoreType) -> None:
    net = led(core)
    net.cut(ONE)
    assert net.change(ONE, Change(FOUR, address(FOUR))) is None
    assert net.change(ONE, Change(THREE, None)) == "another change is under way; ask again"


def test_one_newcomer_at_a_time(core: CoreType) -> None:
    net = led(core)
    net.change(ONE, Change(FOUR, address(FOUR)))
    assert net.add(FIVE) == "replica 4 is still catching up; wait for it, or remove it"
    assert net.remove(THREE) == "replica 4 is still catching up; wait for it, or remove it first"


def test_no_more_than_so_many(core: CoreType) -> None:
    net = led(core, limits.REPLICAS_MAX)
    refusal = net.change(ONE, Change(ReplicaId(limits.REPLICAS_MAX + 1), "elsewhere:1"))
    assert refusal == f"there are {limits.REPLICAS_MAX} replicas already, and no more may be"


def test_a_leader_that_shall_go_hands_over_first(core: CoreType) -> None:
    net = led(core)
    assert net.remove(ONE) == "leadership is being handed over; ask again"
    assert net.add(FOUR, at=ONE) == "leadership is being handed over; ask again"
    net.tick(limits.HEARTBEAT_TICKS)
    successor = net.leader
    assert successor != ONE
    assert net.remove(ONE) == ""
    assert membership(net, successor).voters == (TWO, THREE)


def test_an_answer_to_somebody_elses_question_is_not_taken(core: CoreType) -> None:
    net = led(core)
    net.tell(TWO, ONE, m.ChangeAnswer(12345, "no"))
    assert net[TWO].answers == {}


def test_a_question_that_the_network_doubles_is_one_question(core: CoreType) -> None:
    net = led(core)
    net.step(TWO, ChangeRequested(7, Change(THREE, None)))
    net.letters.extend(letter for letter in tuple(net.letters) if isinstance(letter.message, m.ChangeQuery))
    net.talk()
    assert net[TWO].answers == {7: ""}


# --- those who went --------------------------------------------------------------------------------------------------


def test_who_was_removed_asks_for_support_in_vain(core: CoreType) -> None:
    """It missed its own removal."""
    net = led(core)
    net.cut(THREE)
    assert net.remove(THREE) == ""
    before = net[ONE].core.status().ballot
    net.heal()
    net.tick(5 * limits.ELECTION_TICKS_MAX)
    assert net[ONE].core.status().ballot == before
    net.crash(ONE)
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert not net[THREE].leads


def test_who_knows_that_it_was_removed_keeps_still(core: CoreType) -> None:
    net = led(core)
    net.remove(THREE)
    net.tick(limits.HEARTBEAT_TICKS, ONE, TWO)
    net.tell(THREE, ONE, learned_by_asking(net))
    assert membership(net, THREE).voters == (ONE, TWO)
    before = len(net.sent)
    net.cut(ONE, TWO)
    net.tick(4 * limits.ELECTION_TICKS_MAX, THREE)
    assert net[THREE].core.status().role == "follower"
    assert net.sent[before:] == []


def test_who_learns_of_its_removal_while_it_asks_for_support_does_not_stand(core: CoreType) -> None:
    net = led(core)
    net.cut(THREE)
    net.remove(THREE)
    net.tick(2 * limits.ELECTION_TICKS_MAX, THREE)
    assert net[THREE].core.status().role == "candidate"
    net.tell(THREE, ONE, learned_by_asking(net))
    assert net[THREE].core.status().role == "follower"


def learned_by_asking(net: Network) -> m.Learned:
    """Return all that replica 1 knows to be chosen, as it would tell whoever asks."""
    net.tell(ONE, FIVE, m.Learn(1))
    net.letters.clear()
    return net.said(m.Learned, by=ONE, to=FIVE)[-1]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_who_lost_leadership_claims_no_change_that_another_leader_made(core: CoreType) -> None:
    """Both changes are the first; that of the old leader never reached anybody."""
    net = led(core)
    net.cut(ONE)
    assert net.change(ONE, Change(FOUR, address(FOUR))) is None
    net.letters.clear()
    net.elect(TWO)
    net.loses = lambda letter: ONE in (letter.sender, letter.to)
    assert net.change(TWO, Change(SIX, address(SIX))) == ""
    net.heal()
    net.tick(SETTLING)
    assert membership(net, ONE).learners == (SIX,)
    assert net[ONE].answers == {}

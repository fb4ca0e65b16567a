"""The roles composed: elections, values, durability and read barriers, as conversations of Multi-Paxos."""

from __future__ import annotations

from typing import Any

import pytest
from tests.consensus.conversation import FIVE, ONE, THREE, TWO, Letter, Network, ballot, value

from quorate import limits
from quorate.consensus.core import Persist, Persisted, Proposed, Send
from quorate.consensus.messages import Behind, Message, ReadAnswer, ReadQuery
from quorate.consensus.paxos import messages as m
from quorate.types import NOOP

# --- elections -------------------------------------------------------------------------------------------------------


def test_a_laggard_gets_no_support() -> None:
    net = Network()
    net.elect(ONE)
    net.propose(ONE, *(str(n) for n in range(limits.WINDOW_SLOTS + 1)))
    net.crash(ONE)
    net.tick(limits.ELECTION_TICKS_MIN, TWO)
    net.tell(TWO, THREE, m.Canvass(ballot(9, THREE), chosen=0))
    assert net.said(m.Support, to=THREE) == []
    net.tell(TWO, THREE, m.Canvass(ballot(9, THREE), chosen=1))
    assert net.said(m.Support, to=THREE) == [m.Support(ballot(9, THREE))]


def test_support_for_another_ballot_than_the_one_canvassed_is_ignored() -> None:
    net = Network()
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MIN, ONE)
    net.tell(ONE, TWO, m.Support(ballot(7, ONE)))
    assert net.said(m.Prepare) == []


def test_a_candidacy_without_answers_is_given_up_and_tried_at_a_higher_ballot() -> None:
    net = Network()
    net.loses = lambda letter: isinstance(letter.message, m.Promise)
    net.tick(4 * limits.ELECTION_TICKS_MAX, ONE)
    tried = [prepare.ballot for prepare in net.said(m.Prepare, by=ONE, to=TWO)]
    assert len(tried) > 1
    assert tried == sorted(set(tried))


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_lost_accept_is_sent_again_to_those_who_have_not_voted() -> None:
    net = Network(5)
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accept) and letter.to != TWO
    net.propose(ONE, "a")
    assert net.log(ONE) == []
    net.heal()
    before = len(net.sent)
    net.tick(limits.RESEND_TICKS)
    again = [letter.to for letter in net.sent[before:] if isinstance(letter.message, m.Accept)]
    assert TWO not in again
    assert net.log(ONE) == ["a"]


def test_votes_far_above_the_prefix_are_refused() -> None:
    net = Network()
    far = limits.WINDOW_SLOTS + 1
    effects = net.tell(TWO, ONE, m.Accept(ballot(1, ONE), far, value("a"), 0))
    assert not any(isinstance(effect, Send) and isinstance(effect.message, m.Accepted) for effect in effects)


def test_no_op_values_are_delivered_too() -> None:
    """The driver counts slots; a hole would stop it."""
    net = Network()
    net.elect(ONE)
    net.tell(TWO, ONE, m.Accept(net[ONE].core.status().ballot, 2, value("b"), 0))
    net.letters.clear()
    net.crash(ONE)
    net.elect(TWO)
    net.talk()
    assert net.chosen == {1: NOOP, 2: value("b")}


# --- durability ------------------------------------------------------------------------------------------------------


def sends_of(effects: list[Any], kind: type[Message]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def test_accepts_leave_while_the_leaders_own_disk_still_works() -> None:
    net = Network()
    net.elect(ONE)
    net[ONE].slow_disk = True
    effects = net.step(ONE, Proposed(value("a")))
    (accept,) = sends_of(effects, m.Accept)
    (accepted,) = sends_of(effects, m.Accepted)
    (persist,) = (effect for effect in effects if isinstance(effect, Persist))
    assert accept.after == 0
    assert accepted.after == persist.seq


def test_a_leaders_own_vote_counts_only_once_it_is_durable() -> None:
    net = Network()
    net.elect(ONE)
    net.cut(THREE)
    net[ONE].slow_disk = True
    net.propose(ONE, "a")
    assert net.log(ONE) == []
    net.sync(ONE)
    net.talk()
    assert net.log(ONE) == ["a"]


def test_a_heartbeat_is_acknowledged_while_votes_are_on_their_way_to_the_disk() -> None:
    net = Network()
    net.elect(ONE)
    net[TWO].slow_disk = True
    net.propose(ONE, "a")
    before = len(net.said(m.HeartbeatAck, by=TWO))
    net.tick(limits.HEARTBEAT_TICKS, ONE)
    assert len(net.said(m.HeartbeatAck, by=TWO)) > before


def test_a_heartbeat_of_a_new_ballot_is_acknowledged_only_once_the_promise_is_durable() -> None:
    net = Network()
    net[TWO].slow_disk = True
    net.tell(TWO, ONE, m.Heartbeat(ballot(5, ONE), 0, 0))
    assert net.said(m.HeartbeatAck) == []
    net.sync(TWO)
    assert net.said(m.HeartbeatAck, by=TWO) == [m.HeartbeatAck(ballot(5, ONE), 0, 0)]


def test_a_member_that_crashes_before_its_disk_finished_has_said_nothing() -> None:
    net = Network()
    net.elect(ONE)
    net[TWO].slow_disk = net[THREE].slow_disk = True
    net.propose(ONE, "a")
    assert net.said(m.Accepted, by=TWO) == []
    assert net.restart(TWO).store.recover().votes == {}


def test_persisted_out_of_order_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        Network(1)[ONE].core.step(Persisted(1))


# --- catch-up --------------------------------------------------------------------------------------------------------


def test_a_new_leader_that_lags_catches_up_before_it_proposes() -> None:
    net = Network()
    net.elect(ONE)
    net.cut(THREE)
    names = [str(n) for n in range(limits.WINDOW_SLOTS // 2)]
    net.propose(ONE, *names)
    net.heal()
    net.crash(ONE)
    net.elect(THREE)
    net.propose(THREE, "new")
    assert net.log(THREE) == [*names, "new"]
    prefix = {accept.slot for accept in net.said(m.Accept, by=THREE)}
    assert min(prefix) == len(names) + 1


def test_a_candidate_that_catches_up_by_a_snapshot_steps_down() -> None:
    """It was promised for slots that the snapshot may have given to other voters."""
    net = Network()
    net.elect(ONE)
    net.cut(THREE)
    net.propose(ONE, "a", "b")
    net.tick(limits.HEARTBEAT_TICKS)
    snapshot = net.trim(TWO)
    net.crash(ONE)
    net.heal()
    net.loses = lambda letter: letter.sender == TWO and isinstance(letter.message, m.Canvass)
    while not net.said(Behind, to=THREE):
        net.tick(1)
    assert net[THREE].core.status().role == "candidate"
    net.install(THREE, snapshot)
    assert net[THREE].core.status().role == "follower"
    assert net[THREE].traces[-1].detail["why"] == "a snapshot was installed"
    assert net.said(m.Accept, by=THREE) == []


# --- read barriers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_barrier_names_the_last_slot_with_a_command(size: int) -> None:
    net = Network(size)
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    for token, reader in enumerate(net.ids, 1):
        net.ask_barrier(reader, token)
        net.talk()
        assert [tuple(barrier) for barrier in net[reader].barriers] == [(token, 2)]


@pytest.mark.parametrize("lost", [m.Heartbeat, m.HeartbeatAck])
def test_a_lost_confirmation_is_repeated(lost: type[Message]) -> None:
    net = Network(5)
    net.elect(ONE)
    net.propose(ONE, "a")

    def lose(letter: Letter) -> bool:
        return isinstance(letter.message, lost)

    net.loses = lose
    net.ask_barrier(FIVE)
    net.talk()
    assert net[FIVE].barriers == []
    net.heal()
    net.tick(limits.RESEND_TICKS)
    assert [barrier.slot for barrier in net[FIVE].barriers] == [1]


def test_a_leader_steps_down_for_a_reader_that_promised_more() -> None:
    net = Network()
    net.elect(ONE)
    net.tell(ONE, TWO, ReadQuery(1, ballot(9, THREE)))
    assert not net[ONE].leads
    assert net.said(ReadAnswer) == []

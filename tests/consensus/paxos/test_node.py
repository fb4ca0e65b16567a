"""The roles composed: elections, values, catch-up, read barriers and durability, as conversations."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.consensus.conversation import FIVE, ONE, THREE, TWO, Letter, Network, ballot, value, vote

from quorate import limits
from quorate.consensus.core import Persist, Persisted, Proposed, Send, SendChosen, Tick
from quorate.consensus.paxos import messages as m
from quorate.consensus.paxos.node import PaxosCore
from quorate.types import NOOP, ReplicaId

# --- elections -------------------------------------------------------------------------------------------------------


def test_a_lone_member_leads_and_decides_by_itself() -> None:
    net = Network(1)
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    assert net.log(ONE) == ["a", "b"]
    assert net.sent == []


def test_left_to_themselves_members_elect_one_leader_and_all_know_it() -> None:
    net = Network(5)
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    leaders = [me for me in net.ids if net[me].leads]
    assert len(leaders) == 1
    assert {net[me].core.status().leader for me in net.ids} == set(leaders)


def test_a_leader_in_peace_stays() -> None:
    net = Network()
    first = net.elect(ONE)
    net.tick(10 * limits.ELECTION_TICKS_MAX)
    assert net[ONE].leads
    assert net[ONE].core.status().ballot == first


def test_a_dead_leader_is_replaced() -> None:
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a")
    net.crash(ONE)
    net.tick(3 * limits.ELECTION_TICKS_MAX)
    (leader,) = (me for me in (TWO, THREE) if net[me].leads)
    net.propose(leader, "b")
    assert net.log(leader) == ["a", "b"]


def test_a_member_that_was_cut_off_does_not_depose_the_leader() -> None:
    net = Network()
    first = net.elect(ONE)
    net.cut(THREE)
    net.tick(10 * limits.ELECTION_TICKS_MAX)
    net.heal()
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert net[ONE].leads
    assert net[ONE].core.status().ballot == first
    assert net[THREE].core.status().leader == ONE


def test_a_leader_that_hears_no_quorum_steps_down() -> None:
    net = Network()
    net.elect(ONE)
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MAX + 1, ONE)
    assert net[ONE].core.status().role == "follower"
    assert not net[ONE].core.accepts_proposals()


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


def test_proposals_go_nowhere_while_there_is_no_leader() -> None:
    net = Network()
    assert not net[ONE].core.accepts_proposals()
    assert net.step(ONE, Proposed(value("a"))) == []


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposer", [ONE, TWO])
def test_a_command_reaches_all_in_one_conversation_whoever_proposes_it(proposer: ReplicaId) -> None:
    net = Network()
    net.elect(ONE)
    net.propose(proposer, "a")
    assert [net.log(me) for me in net.ids] == [["a"]] * 3


def test_what_waits_while_a_value_is_in_flight_is_one_value() -> None:
    net = Network()
    net.elect(ONE)
    names = [str(n) for n in range(limits.AHEAD_SLOTS + 5)]
    for name in names:
        net.step(ONE, Proposed(value(name)))
    net.talk()
    assert net.log(ONE) == [*names[: limits.AHEAD_SLOTS], "".join(names[limits.AHEAD_SLOTS :])]


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


def test_duplicates_change_nothing() -> None:
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    for letter in tuple(net.sent):
        net.tell(letter.to, letter.sender, letter.message)
        net.talk()
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert [net.log(me) for me in net.ids] == [["a", "b"]] * 3


def test_a_forward_to_somebody_who_does_not_lead_is_dropped() -> None:
    net = Network()
    net.elect(ONE)
    net.tell(TWO, THREE, m.Forward(value("a")))
    net.talk()
    assert net.log(ONE) == []


def test_votes_far_above_the_prefix_are_refused() -> None:
    net = Network()
    far = limits.WINDOW_SLOTS + 1
    effects = net.tell(TWO, ONE, m.Accept(ballot(1, ONE), far, value("a"), 0))
    assert not any(isinstance(effect, Send) and isinstance(effect.message, m.Accepted) for effect in effects)


# --- durability ------------------------------------------------------------------------------------------------------


def sends_of(effects: list[Any], kind: type[m.Message]) -> list[Send]:
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
    core = PaxosCore(ONE, (ONE,), random.Random(1), Network(1)[ONE].store.recover())
    with pytest.raises(AssertionError):
        core.step(Persisted(1))


# --- catch-up --------------------------------------------------------------------------------------------------------


def test_a_member_that_missed_values_fetches_them() -> None:
    net = Network()
    net.elect(ONE)
    net.cut(THREE)
    names = [str(n) for n in range(3 * limits.WINDOW_SLOTS)]
    net.propose(ONE, *names)
    assert net.log(THREE) == []
    net.heal()
    net.tick(3 * limits.RESEND_TICKS)
    assert net.log(THREE) == names


def test_a_member_that_restarts_goes_on_from_its_disk() -> None:
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a", "b", "c")
    stored = net.restart(THREE).delivered
    net.propose(ONE, "d")
    net.tick(2 * limits.RESEND_TICKS)
    assert 0 < stored <= 3
    assert net.log(THREE) == ["a", "b", "c", "d"]


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


def test_what_is_not_durable_yet_is_not_handed_on() -> None:
    """`SendChosen` reads from the store, which must hold what is sent."""
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a", "b")
    net[TWO].slow_disk = True
    net.propose(ONE, "c")
    (answer,) = (effect for effect in net.tell(TWO, THREE, m.Learn(1)) if isinstance(effect, SendChosen))
    assert answer.last < 3
    net.sync(TWO)
    (answer,) = (effect for effect in net.tell(TWO, THREE, m.Learn(1)) if isinstance(effect, SendChosen))
    assert answer.last == 3


def test_who_knows_no_more_does_not_answer() -> None:
    net = Network()
    assert net.tell(TWO, THREE, m.Learn(1)) == []


def test_chosen_values_that_do_not_fit_the_prefix_are_left() -> None:
    net = Network()
    votes = (vote(1, 1, "b"), vote(1, 1, "c"))
    net.tell(THREE, ONE, m.Learned(2, votes, 3))
    assert net[THREE].delivered == 0
    assert net[THREE].core.status().chosen_known == 3


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


def test_a_barrier_without_a_leader_waits_for_one() -> None:
    net = Network()
    net.ask_barrier(TWO, 5)
    net.talk()
    assert net[TWO].barriers == []
    net.elect(ONE)
    net.tick(limits.RESEND_TICKS)
    assert [barrier.token for barrier in net[TWO].barriers] == [5]


@pytest.mark.parametrize("lost", [m.ReadQuery, m.ReadAnswer, m.Heartbeat, m.HeartbeatAck])
def test_a_lost_question_answer_or_confirmation_is_repeated(lost: type[m.Message]) -> None:
    net = Network(5)
    net.elect(ONE)
    net.propose(ONE, "a")
    losing = [True]

    def lose_once(letter: Letter) -> bool:
        return isinstance(letter.message, lost) and losing[0]

    net.loses = lose_once
    net.ask_barrier(FIVE)
    net.talk()
    assert net[FIVE].barriers == []
    losing.clear()
    losing.append(False)
    net.tick(limits.RESEND_TICKS)
    assert [barrier.slot for barrier in net[FIVE].barriers] == [1]


def test_an_answer_to_an_earlier_question_is_not_taken() -> None:
    net = Network()
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.ReadAnswer)
    net.ask_barrier(TWO)
    net.talk()
    (old,) = net.said(m.ReadAnswer)
    net.propose(ONE, "a")
    net.ask_barrier(TWO, 2)
    net.tell(TWO, ONE, old)
    assert net[TWO].barriers == []


def test_each_life_asks_under_names_of_its_own() -> None:
    net = Network()
    net.elect(ONE)
    net.ask_barrier(TWO)
    net.talk()
    net.restart(TWO)
    net.tick(limits.HEARTBEAT_TICKS)
    net.ask_barrier(TWO)
    first, second = {query.query for query in net.said(m.ReadQuery, by=TWO)}
    assert abs(first - second) > 1


def test_a_leader_steps_down_for_a_reader_that_promised_more() -> None:
    net = Network()
    net.elect(ONE)
    net.tell(ONE, TWO, m.ReadQuery(1, ballot(9, THREE)))
    assert not net[ONE].leads
    assert net.said(m.ReadAnswer) == []


# --- whatever happens ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(1, 3), st.integers(1, 15)),
        st.tuples(st.just("propose"), st.integers(1, 3), st.integers(0, 99)),
        st.tuples(st.just("cut"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("restart"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("shuffle"), st.integers(0, 2**16), st.just(0)),
        st.tuples(st.just("slow"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("arrive"), st.integers(1, 12), st.just(0)),
    ),
    max_size=40,
)


class Trouble:
    """Carries out what Hypothesis thinks up; agreement and order are checked by the network at each delivery."""

    def __init__(self) -> None:
        self.net = Network()
        self.net.tick(2 * limits.ELECTION_TICKS_MAX)

    def tick(self, who: int, count: int) -> None:
        for _ in range(count):
            self.net.step(ReplicaId(who), Tick())

    def propose(self, who: int, name: int) -> None:
        self.net.step(ReplicaId(who), Proposed(value(f"{name} ")))

    def cut(self, who: int, _: int) -> None:
        self.net.cut(ReplicaId(who))

    def restart(self, who: int, _: int) -> None:
        self.net.restart(ReplicaId(who))

    def slow(self, who: int, _: int) -> None:
        member = self.net[ReplicaId(who)]
        member.slow_disk = not member.slow_disk
        self.net.sync(member.me)

    def shuffle(self, seed: int, _: int) -> None:
        letters = list(self.net.letters)
        random.Random(seed).shuffle(letters)
        self.net.letters.clear()
        self.net.letters.extend(letters)

    def arrive(self, count: int, _: int) -> None:
        for _ in range(min(count, len(self.net.letters))):
            letter = self.net.letters.popleft()
            if not self.net.loses(letter):
                self.net.tell(letter.to, letter.sender, letter.message)

    def end_well(self) -> None:
        """Heal everything: all members must agree on one log that a new command still gets into."""
        net = self.net
        net.heal()
        for member in net.members.values():
            member.slow_disk = False
            net.sync(member.me)
        net.tick(4 * limits.ELECTION_TICKS_MAX)
        leader = next(me for me in net.ids if net[me].leads)
        net.propose(leader, "last")
        net.tick(2 * limits.RESEND_TICKS)
        assert net.log(ONE) == net.log(TWO) == net.log(THREE)
        assert net.log(ONE)[-1].endswith("last")


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_is_lost_delayed_reordered_or_restarted_all_agree_and_go_on(steps: list[tuple[str, int, int]]) -> None:
    trouble = Trouble()
    for what, who, how in steps:
        getattr(trouble, what)(who, how)
    trouble.end_well()


def test_the_same_events_have_the_same_effects() -> None:
    def life() -> list[str]:
        net = Network()
        net.tick(2 * limits.ELECTION_TICKS_MAX)
        net.propose(TWO, "a", "b")
        net.ask_barrier(THREE)
        net.talk()
        return [repr(letter) for letter in net.sent]

    assert life() == life()


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

"""What the papers demand, one test for each sentence.

"Paxos Made Simple" (Lamport, 2001) is cited by section and by the names of its requirements; Ongaro's dissertation,
"Consensus: Bridging Theory and Practice" (2014), by section, its terms put into those of Paxos.
"""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FOUR, ONE, THREE, TWO, Network, ballot, value, vote

from quorate import limits
from quorate.consensus.core import Persist, Proposed, Send
from quorate.consensus.paxos import messages as m
from quorate.types import NOOP, ReplicaId

FIRST, SECOND, THIRD = ballot(1, 1), ballot(2, 2), ballot(3, 3)

# --- §2.1 The problem ------------------------------------------------------------------------------------------------


def test_only_a_value_that_has_been_proposed_may_be_chosen() -> None:
    """§2.1."""
    net = Network()
    net.elect(ONE)
    net.tick(5 * limits.ELECTION_TICKS_MAX)
    assert net.chosen == {}
    net.propose(TWO, "a")
    net.elect(THREE)
    assert net.chosen == {1: value("a")}


def test_only_a_single_value_is_chosen() -> None:
    """§2.1: two proposers, each with its own value for the same slot, of which one has a vote already."""
    net = Network()
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accept) and letter.to != TWO
    net.step(ONE, Proposed(value("a")))
    net.talk()
    net.crash(ONE)
    net.heal()
    net.elect(THREE)
    net.propose(THREE, "b")
    assert net.log(TWO) == net.log(THREE) == ["a", "b"]


def test_a_process_never_learns_that_a_value_is_chosen_unless_it_is() -> None:
    """§2.1: votes of a minority, however often they are told, teach nothing."""
    net = Network()
    for _ in range(3):
        net.tell(THREE, ONE, m.Accepted(FIRST, 1))
    net.tell(THREE, ONE, m.Accept(SECOND, 1, value("a"), 0))
    assert net[THREE].delivered == 0


# --- §2.2 Choosing a value -------------------------------------------------------------------------------------------


def test_p1_an_acceptor_accepts_the_first_proposal_that_it_receives() -> None:
    """§2.2, P1."""
    net = Network()
    net.tell(TWO, ONE, m.Accept(FIRST, 1, value("a"), 0))
    assert net.said(m.Accepted, by=TWO, to=THREE) == [m.Accepted(FIRST, 1)]


def test_p1a_unless_it_has_answered_a_higher_prepare() -> None:
    """§2.2, P1a."""
    net = Network()
    net.tell(TWO, THREE, m.Prepare(THIRD, 1))
    net.tell(TWO, ONE, m.Accept(SECOND, 1, value("a"), 0))
    assert net.said(m.Accepted) == []


def test_p1a_which_does_not_keep_it_from_an_equal_or_higher_accept() -> None:
    """§2.2, P1a, the other direction: "iff"."""
    net = Network()
    net.tell(TWO, ONE, m.Prepare(SECOND, 1))
    net.tell(TWO, ONE, m.Accept(SECOND, 1, value("a"), 0))
    net.tell(TWO, THREE, m.Accept(THIRD, 1, value("a"), 0))
    assert net.said(m.Accepted, by=TWO, to=ONE) == [m.Accepted(SECOND, 1), m.Accepted(THIRD, 1)]


@pytest.mark.parametrize("successor", [TWO, THREE])
def test_p2b_once_a_value_is_chosen_every_higher_proposal_has_that_value(successor: ReplicaId) -> None:
    """§2.2, P2b: the next leader, whoever it is, proposes it again, though nobody knew that it was chosen."""
    net = Network()
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accepted) or letter.to == THREE
    net.step(ONE, Proposed(value("a")))
    net.talk()
    assert net.chosen == {}
    net.heal()
    net.crash(ONE)
    net.elect(successor)
    assert net.said(m.Accept, by=successor)[0].batch == value("a")
    assert net.log(successor) == ["a"]


def test_p2c_the_value_is_that_of_the_highest_ballot_among_a_quorum() -> None:
    """§2.2, P2c (b): the promisers' votes differ, and the youngest counts."""
    net = Network(5)
    net.crash(ONE)
    net.tell(THREE, ONE, m.Accept(FIRST, 1, value("old"), 0))
    net.tell(FOUR, TWO, m.Accept(SECOND, 1, value("new"), 0))
    net.letters.clear()
    net.elect(TWO)
    assert net.said(m.Accept, by=TWO)[0].batch == value("new")


def test_p2c_a_proposer_is_free_if_nobody_in_a_quorum_has_voted() -> None:
    """§2.2, P2c (a)."""
    net = Network(5)
    net.elect(ONE)
    assert net.said(m.Accept) == []
    net.propose(ONE, "mine")
    assert net.log(ONE) == ["mine"]


def test_phase_1b_answers_with_a_promise_and_the_votes() -> None:
    """§2.2, phase 1 (b)."""
    net = Network()
    net.tell(TWO, ONE, m.Accept(FIRST, 1, value("a"), 0))
    net.tell(TWO, THREE, m.Prepare(THIRD, 1))
    assert net.said(m.Promise, by=TWO, to=THREE) == [m.Promise(THIRD, 0, ((1, vote(1, 1, "a")),))]


def test_phase_2a_needs_answers_of_a_majority() -> None:
    """§2.2, phase 2 (a)."""
    net = Network(5)
    net.loses = lambda letter: isinstance(letter.message, m.Promise) and letter.sender != TWO
    net.tick(4 * limits.ELECTION_TICKS_MAX, ONE)
    assert net.said(m.Prepare, by=ONE)
    assert not net[ONE].leads
    assert net.said(m.Accept) == []


def test_an_acceptor_that_ignores_a_request_says_so_and_its_proposer_abandons_it() -> None:
    """§2.2: "it should probably inform the proposer, who should then abandon its proposal"."""
    net = Network()
    net.elect(ONE)
    net.tell(TWO, THREE, m.Prepare(ballot(9, 3), 1))
    net.letters.clear()
    net.propose(ONE, "a")
    assert net.said(m.Preempted, by=TWO, to=ONE)[0] == m.Preempted(ballot(9, 3))
    assert not net[ONE].leads


def test_an_acceptor_remembers_its_promise_and_votes_even_if_it_restarts() -> None:
    """§2.2: "even if it fails and then restarts"."""
    net = Network()
    net.tell(TWO, ONE, m.Accept(FIRST, 1, value("a"), 0))
    net.tell(TWO, THREE, m.Prepare(SECOND, 1))
    net.restart(TWO)
    before = len(net.said(m.Accepted))
    net.tell(TWO, ONE, m.Accept(FIRST, 2, value("b"), 0))
    assert len(net.said(m.Accepted)) == before
    net.tell(TWO, THREE, m.Prepare(THIRD, 1))
    assert net.said(m.Promise, by=TWO, to=THREE)[-1].votes == ((1, vote(1, 1, "a")),)


# --- §2.3 Learning a chosen value ------------------------------------------------------------------------------------


def test_each_acceptor_tells_every_learner_when_it_accepts() -> None:
    """§2.3: so that learners find out as soon as possible, without the leader's word."""
    net = Network()
    net.elect(ONE)
    net.step(ONE, Proposed(value("a")))
    net.loses = lambda letter: letter.sender == ONE and not isinstance(letter.message, m.Accept)
    net.talk()
    assert net.log(TWO) == net.log(THREE) == ["a"]


def test_a_value_chosen_without_any_learner_finding_out_is_learnt_from_a_new_proposal() -> None:
    """§2.3: "it can have a proposer issue a proposal"."""
    net = Network()
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accepted)
    net.propose(ONE, "a")
    assert net.chosen == {}
    net.heal()
    net.elect(TWO)
    assert net.log(TWO) == ["a"]


# --- §2.4 Progress ---------------------------------------------------------------------------------------------------


def test_two_proposers_do_not_keep_each_other_from_progress() -> None:
    """§2.4: a distinguished proposer, found by timeouts, though both begin at the same moment."""
    net = Network()
    for me in (ONE, TWO):
        net.tell(me, THREE, m.Preempted(ballot(4, 3)))
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    assert [net[me].leads for me in net.ids].count(True) == 1


# --- §2.5 The implementation -----------------------------------------------------------------------------------------


def test_an_acceptor_records_its_response_in_stable_storage_before_sending_it() -> None:
    """§2.5."""
    net = Network()
    net[TWO].slow_disk = True
    for request in (m.Prepare(FIRST, 1), m.Accept(FIRST, 1, value("a"), 0)):
        effects = net.tell(TWO, ONE, request)
        kinds = [type(effect) for effect in effects]
        persist = effects[kinds.index(Persist)]
        (response,) = (effect for effect in effects if isinstance(effect, Send))
        assert kinds.index(Persist) < effects.index(response)
        assert response.after == persist.seq
    assert net.sent == []
    net.sync(TWO)
    assert [type(letter.message) for letter in net.sent if letter.to == ONE] == [m.Promise, m.Accepted]


def test_different_proposers_choose_their_numbers_from_disjoint_sets() -> None:
    """§2.5."""
    net = Network(5)
    net.elect(ONE)
    for me in (TWO, THREE, FOUR):
        net.elect(me)
    prepared = {(letter.sender, letter.message.ballot) for letter in net.sent if isinstance(letter.message, m.Prepare)}
    assert all(one.replica == sender for sender, one in prepared)


def test_a_proposer_never_uses_a_number_twice_even_if_it_restarts() -> None:
    """§2.5: it remembers in stable storage, and Prepare waits for that."""
    net = Network()
    net[ONE].slow_disk = True
    net.tick(limits.ELECTION_TICKS_MIN, ONE)
    assert net.said(m.Prepare) == []
    net.sync(ONE)
    used = {prepare.ballot for prepare in net.said(m.Prepare, by=ONE)}
    assert used == {FIRST}
    net.letters.clear()
    net.restart(ONE)
    assert net.elect(ONE) > max(used)


# --- §3 Implementing a state machine ---------------------------------------------------------------------------------


def test_phase_1_runs_once_for_all_slots() -> None:
    """§3: "executed for infinitely many instances" by one message; afterwards each command costs phase 2 alone."""
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a", "b", "c")
    assert [prepare.first for prepare in net.said(m.Prepare, to=TWO)] == [1]
    assert [accept.slot for accept in net.said(m.Accept, to=TWO)] == [1, 2, 3]


def test_a_new_leader_fills_gaps_with_no_ops() -> None:
    """§3: slots 1 and 3 have votes that constrain; in 2 nothing was proposed, and it must not hold up 3."""
    net = Network()
    for slot, name in ((1, "a"), (3, "c")):
        net.tell(TWO, ONE, m.Accept(FIRST, slot, value(name), 0))
    net.letters.clear()
    net.crash(ONE)
    net.elect(TWO)
    assert net.chosen == {1: value("a"), 2: NOOP, 3: value("c")}
    net.propose(TWO, "d")
    assert net.log(THREE) == ["a", "", "c", "d"]


def test_commands_behind_a_slot_that_is_not_chosen_are_not_delivered() -> None:
    """§3: a server executes command 140 only after all before it."""
    net = Network()
    for slot in (2, 3):
        net.tell(THREE, ONE, m.Accept(FIRST, slot, value("x"), 0))
        for voter in (ONE, TWO):
            net.tell(THREE, voter, m.Accepted(FIRST, slot))
    assert net[THREE].delivered == 0
    net.tell(THREE, ONE, m.Accept(FIRST, 1, value("a"), 0))
    net.tell(THREE, TWO, m.Accepted(FIRST, 1))
    assert net[THREE].delivered == 3


def test_a_failure_of_the_leader_in_the_middle_loses_nothing_that_was_chosen() -> None:
    """§3: the new leader learns of what its predecessor had chosen or nearly chosen."""
    net = Network(5)
    net.elect(ONE)
    net.propose(ONE, "a")
    net.loses = lambda letter: letter.to == FOUR
    net.step(ONE, Proposed(value("b")))
    net.talk()
    net.heal()
    net.crash(ONE)
    net.elect(FOUR)
    net.propose(FOUR, "c")
    assert net.log(FOUR) == ["a", "b", "c"]


# --- Ongaro, "Consensus: Bridging Theory and Practice" ---------------------------------------------------------------


def test_a_leader_steps_down_when_a_timeout_passes_without_a_quorum() -> None:
    """§6.2: so that clients of a leader that was cut off are not kept waiting."""
    net = Network(5)
    net.elect(ONE)
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MAX, ONE)
    assert net[ONE].leads
    net.tick(1, ONE)
    assert not net[ONE].leads


def test_a_read_is_answered_only_after_a_quorum_confirmed_the_leader() -> None:
    """§6.4, steps 2 and 3: a leader that was replaced without knowing it must not serve a stale read."""
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a")
    net.cut(ONE)
    net.elect(TWO)
    net.propose(TWO, "b")
    assert net[ONE].leads
    net.ask_barrier(ONE)
    net.talk()
    assert net[ONE].barriers == []
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    (barrier,) = net[ONE].barriers
    assert barrier.slot >= 2


def test_a_read_waits_for_every_write_that_may_have_been_answered() -> None:
    """§6.4, step 1: also one that others know to be chosen and the leader does not."""
    net = Network()
    net.elect(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Accepted) and letter.to == ONE
    net.propose(ONE, "a")
    assert (net.log(ONE), net.log(TWO)) == ([], ["a"])
    net.ask_barrier(ONE)
    net.talk()
    assert [barrier.slot for barrier in net[ONE].barriers] == [1]


def test_a_follower_reads_by_asking_the_leader() -> None:
    """§6.4, last paragraph."""
    net = Network()
    net.elect(ONE)
    net.propose(ONE, "a")
    net.ask_barrier(THREE)
    net.talk()
    assert [barrier.slot for barrier in net[THREE].barriers] == [1]


def test_a_candidate_spends_a_ballot_only_if_a_quorum_would_have_it() -> None:
    """§9.6, PreVote."""
    net = Network()
    net.elect(ONE)
    net.cut(THREE)
    net.tick(5 * limits.ELECTION_TICKS_MAX, THREE)
    assert net.said(m.Canvass, by=THREE)
    assert net.said(m.Prepare, by=THREE) == []


def test_who_hears_the_leader_supports_nobody_else() -> None:
    """§9.6 and §4.2.3."""
    net = Network()
    net.elect(ONE)
    net.tick(1)
    before = len(net.said(m.Support))
    for voter in (ONE, TWO):
        net.tell(voter, THREE, m.Canvass(ballot(9, 3), 0))
    assert len(net.said(m.Support)) == before


def test_a_leader_may_count_a_quorum_that_it_is_not_part_of() -> None:
    """§10.2.1: its own disk may be the slowest."""
    net = Network()
    net.elect(ONE)
    net[ONE].slow_disk = True
    net.propose(ONE, "a")
    assert net.log(ONE) == ["a"]
    assert net[ONE].unsynced

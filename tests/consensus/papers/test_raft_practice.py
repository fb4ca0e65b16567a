"""What the later chapters of Ongaro's dissertation demand of Raft: membership, clients, disruption, speed.

Cited by its sections; one test proves his message "bug in single-server membership changes" (raft-dev, 10 July 2015).
"""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, Letter, ballot, members, value
from tests.consensus.raft.group import entry, hold, led, raft, term

from quorate import limits
from quorate.consensus.core import Change, ChangeRequested, Persist, Proposed, Send
from quorate.consensus.messages import Message, TakeOver
from quorate.consensus.raft import messages as m

# --- §3.10 Leadership transfer ---------------------------------------------------------------------------------------


def test_the_leader_stops_accepting_brings_the_target_up_to_date_and_then_sends_timeout_now() -> None:
    """§3.10, steps 1 to 3."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Append) and letter.to == TWO
    net.propose(ONE, "a")
    net.hand_over(ONE)
    net.propose(ONE, "b")
    assert net.commands(ONE) == ["a"]
    assert net.said(TakeOver, to=TWO) == []
    net.heal()
    net.tick(3 * limits.RESEND_TICKS)
    assert len(set(net.said(TakeOver))) == 1
    assert net.commands(net.leader) == ["a", "b"]
    assert net.leader != ONE


def test_the_target_starts_an_election_at_once_and_its_votes_are_not_denied_for_the_leaders_sake() -> None:
    """§3.10 and §4.2.3: its RequestVote says that the leader told it to."""
    net = led()
    votes = len(net.said(m.PreVote))
    net.hand_over(ONE)
    net.talk()
    assert net[TWO].leads
    assert len(net.said(m.PreVote)) == votes
    assert {request.told for request in net.said(m.RequestVote, by=TWO)} == {True}


def test_a_transfer_that_takes_an_election_timeout_is_aborted() -> None:
    """§3.10: and the leader takes requests again."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, TakeOver)
    net.hand_over(ONE)
    net.propose(ONE, "a")
    assert net.commands(ONE) == []
    net.tick(limits.ELECTION_TICKS_MIN + 1)
    assert net.commands(ONE) == ["a"]
    assert term(net, ONE) == 1


# --- §4.1 Safety of membership changes -------------------------------------------------------------------------------


def test_a_new_configuration_takes_effect_as_soon_as_it_is_appended() -> None:
    """§4.1: servers do not wait for it to be committed."""
    net = led()
    net.cut(TWO, THREE)
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    before = len(net.sent)
    net.propose(ONE, "a")
    net.tick(2 * limits.RESEND_TICKS, ONE)
    assert {letter.to for letter in net.sent[before:]} == {TWO}
    assert net[ONE].core.status().membership == members(1, 2, 3)
    net.loses = lambda letter: THREE in (letter.sender, letter.to)
    net.tick(2 * limits.RESEND_TICKS)
    assert net[ONE].core.status().membership == members(1, 2, version=1, last_id=3)


def test_a_server_falls_back_to_the_previous_configuration_when_the_entry_is_removed() -> None:
    """§4.1: "must be prepared to fall back to the previous configuration in its log"."""
    net = led()
    net.cut(ONE)
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    net.elect(TWO)
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    before = len(net.sent)
    net.elect(ONE)
    assert {letter.to for letter in net.sent[before:] if letter.sender == ONE} == {TWO, THREE}
    assert net[ONE].core.status().membership == members(1, 2, 3)


def test_a_configuration_in_the_log_is_in_force_after_a_restart() -> None:
    """§4.1: "a server always uses the latest configuration in its log"."""
    net = led()
    net.cut(ONE)
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    net.restart(ONE)
    before = len(net.sent)
    net.tick(limits.ELECTION_TICKS_MAX, ONE)
    assert {letter.to for letter in net.sent[before:]} == {TWO}


def test_only_one_configuration_change_at_a_time() -> None:
    """§4.1: the next waits until the one before has committed."""
    net = led(4)
    net.cut(TWO, THREE, FOUR)
    net.step(ONE, ChangeRequested(1, Change(FOUR, None)))
    net.step(ONE, ChangeRequested(2, Change(THREE, None)))
    assert net[ONE].answers == {2: "another change is under way; ask again"}


def test_a_leader_changes_nothing_before_an_entry_of_its_own_term_is_committed() -> None:
    """raft-dev, 2015: two changes from two terms, neither committed, would have majorities that don't meet."""
    net = raft(4)
    net.loses = lambda letter: isinstance(letter.message, m.Appended)
    net.elect(ONE)
    assert net.change(ONE, Change(FOUR, None)) is not None
    assert members(1, 2, 3, version=1, last_id=4).batch() not in [
        vote.batch for vote in net[ONE].store.recover().votes.values()
    ]
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.change(ONE, Change(FOUR, None)) == ""


def test_servers_answer_requests_without_consulting_their_own_configuration() -> None:
    """§4.1: a leader or candidate may be part of a configuration the receiver has yet to hear of."""
    net = led()
    net.propose(ONE, "a")
    slot = net[TWO].delivered
    net.tick(limits.ELECTION_TICKS_MIN, TWO)
    net.tell(TWO, FIVE, m.PreVote(term(net, TWO) + 1, slot, 1))
    net.tell(TWO, FIVE, m.RequestVote(term(net, TWO) + 1, slot, 1, False))
    assert net.said(m.PreVoteGranted, to=FIVE)
    assert net.said(m.VoteGranted, to=FIVE)
    net.tell(TWO, FIVE, m.Append(9, slot, 1, (entry(9, slot + 1),), 0))
    assert net.said(m.Appended, to=FIVE) == [m.Appended(9, slot + 1, slot)]


# --- §4.2 Availability during membership changes ---------------------------------------------------------------------


def test_a_new_server_catches_up_as_a_learner_before_it_votes() -> None:
    """§4.2.1: it "joins the cluster as a non-voting member"."""
    net = led()
    net.propose(ONE, *(f"{n} " for n in range(2 * limits.WINDOW_SLOTS)))
    net.loses = lambda letter: letter.to == FOUR
    assert net.add(FOUR) == ""
    assert net[ONE].core.status().membership == members(1, 2, 3, version=1, learners=(4,))
    net.tick(2 * limits.RESEND_TICKS)
    assert net[ONE].core.status().membership.learners == (FOUR,)
    net.heal()
    net.tick(4 * limits.RESEND_TICKS)
    assert net[FOUR].membership == members(1, 2, 3, 4, version=2)
    assert net.commands(FOUR) == net.commands(ONE)


def test_a_learner_counts_in_no_majority() -> None:
    """§4.2.1: "not yet counted towards majorities for voting or commitment purposes"."""
    net = led()
    net.loses = lambda letter: letter.to == FOUR
    net.add(FOUR)
    slot = net[ONE].delivered
    net.cut(TWO, THREE, FOUR)
    net.propose(ONE, "a")
    net.tell(ONE, FOUR, m.Appended(1, slot + 1, 0))
    assert net.commands(ONE) == []
    net.tell(ONE, TWO, m.Appended(1, slot + 1, slot))
    assert net.commands(ONE) == ["a"]


def test_a_leader_that_is_to_go_hands_over_first() -> None:
    """§4.2.2 with §3.10: rather than lead a cluster that it is no part of."""
    net = led()
    assert net.remove(ONE) == "leadership is being handed over; ask again"
    net.tick(limits.HEARTBEAT_TICKS)
    assert net.leader == TWO
    assert net.remove(ONE) == ""


def test_a_server_that_hears_a_leader_ignores_requests_for_votes() -> None:
    """§4.2.3: "it does not update its term or grant its vote", nor does the leader, so that nobody disrupts."""
    net = led()
    for voter in (ONE, TWO):
        net.tell(voter, THREE, m.RequestVote(9, 99, 9, False))
        assert term(net, voter) == 1
    assert net.said(m.VoteGranted, to=THREE) == []
    assert net[ONE].leads
    net.tell(TWO, THREE, m.RequestVote(9, 99, 9, True))
    assert net.said(m.VoteGranted, to=THREE) == [m.VoteGranted(9)]


def test_a_removed_server_that_does_not_know_it_disturbs_nobody() -> None:
    """§4.2.3."""
    net = led()
    net.cut(THREE)
    net.remove(THREE)
    net.heal()
    net.tick(5 * limits.ELECTION_TICKS_MAX)
    assert net.said(m.PreVote, by=THREE)
    assert net[ONE].leads
    assert term(net, ONE) == 1


# --- §5.1 Snapshots --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("snapshot_term", "left"), [(1, "11"), (2, "")])
def test_behind_a_snapshot_the_log_stays_only_if_it_agrees_with_it(snapshot_term: int, left: str) -> None:
    """§5.1: entries that follow what the snapshot covers are kept; if the log conflicts with it, all of it goes."""
    net = raft()
    hold(net, ONE, "22222", term=2)
    hold(net, TWO, "22222", term=2)
    net.elect(ONE)
    snapshot = net.snapshot(ONE)
    base = snapshot.base._replace(slot=3, ballot=ballot(snapshot_term, snapshot_term))
    hold(net, THREE, "11111", term=2)
    net.install(THREE, snapshot._replace(base=base))
    stored = net[THREE].store.recover()
    assert stored.base.slot == stored.chosen == 3
    assert "".join(str(vote.ballot.round) for vote in stored.votes.values()) == left


# --- §6 Client interaction -------------------------------------------------------------------------------------------


def test_a_leader_steps_down_if_an_election_timeout_passes_without_a_majority() -> None:
    """§6.2."""
    net = led(5)
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MAX, ONE)
    assert net[ONE].leads
    net.tick(1, ONE)
    assert not net[ONE].leads
    assert term(net, ONE) == 1


def test_a_read_waits_until_an_entry_of_the_leaders_term_is_committed() -> None:
    """§6.4, step 1: until then its commit index may be out of date."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Committed)
    net.propose(ONE, "a")
    net.heal()
    net.crash(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Appended)
    net.elect(TWO)
    net.ask_barrier(TWO)
    net.talk()
    assert net[TWO].delivered < max(net.chosen)
    assert net[TWO].barriers == []
    net.heal()
    net.tick(3 * limits.RESEND_TICKS)
    (barrier,) = net[TWO].barriers
    assert barrier.slot >= max(net.chosen) - 1


def test_a_read_is_answered_only_after_a_majority_answered_a_new_round_of_heartbeats() -> None:
    """§6.4, steps 2 and 3: a leader that was replaced without knowing it must not serve a stale read."""
    net = led()
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
    assert barrier.slot >= net[TWO].delivered


@pytest.mark.parametrize("lost", [m.Heartbeat, m.HeartbeatAck])
def test_a_lost_confirmation_is_repeated(lost: type[Message]) -> None:
    """§6.4, step 3."""
    net = led(5)

    def lose(letter: Letter) -> bool:
        return isinstance(letter.message, lost)

    net.loses = lose
    net.ask_barrier(FIVE)
    net.talk()
    assert net[FIVE].barriers == []
    net.heal()
    net.tick(limits.RESEND_TICKS)
    assert [barrier.slot for barrier in net[FIVE].barriers] == [net[ONE].delivered]


def test_a_follower_reads_by_asking_the_leader_for_its_read_index() -> None:
    """§6.4, last paragraph."""
    net = led()
    net.propose(ONE, "a")
    net.ask_barrier(THREE)
    net.talk()
    assert [barrier.slot for barrier in net[THREE].barriers] == [net[ONE].delivered]


# --- §9.6 PreVote ----------------------------------------------------------------------------------------------------


def test_a_server_increments_its_term_only_if_it_would_win() -> None:
    """§9.6: a member that was cut off comes back in the term in which it left."""
    net = led()
    net.cut(THREE)
    net.tick(5 * limits.ELECTION_TICKS_MAX, THREE)
    assert net.said(m.PreVote, by=THREE)
    assert term(net, THREE) == 1
    net.heal()
    net.tick(2 * limits.ELECTION_TICKS_MAX)
    assert net[ONE].leads
    assert term(net, ONE) == 1


def test_who_hears_from_a_leader_would_not_vote() -> None:
    """§9.6: nor before a baseline election timeout has passed since."""
    net = led()
    for voter in (ONE, TWO):
        net.tell(voter, THREE, m.PreVote(2, 99, 9))
    assert net.said(m.PreVoteGranted, to=THREE) == []
    net.tick(limits.ELECTION_TICKS_MIN, TWO)
    net.tell(TWO, THREE, m.PreVote(term(net, TWO) + 1, 99, 9))
    assert net.said(m.PreVoteGranted, by=TWO, to=THREE)


def test_a_promise_to_vote_binds_nobody() -> None:
    """§9.6: it is given to as many as ask, and nothing is written for it."""
    net = raft()
    for candidate in (TWO, THREE):
        assert not any(isinstance(effect, Persist) for effect in net.tell(ONE, candidate, m.PreVote(1, 0, 0)))
    assert len(net.said(m.PreVoteGranted, by=ONE)) == 2
    assert term(net, ONE) == 0


def test_who_asks_in_a_term_that_is_over_is_told_the_present_one() -> None:
    """§9.6 and §3.3: else it would ask in vain for ever."""
    net = raft()
    hold(net, ONE, "5", term=5)
    net.tell(ONE, TWO, m.PreVote(3, 9, 5))
    assert net.said(m.HigherTerm, by=ONE, to=TWO) == [m.HigherTerm(5)]


# --- §10.2 Performance -----------------------------------------------------------------------------------------------


def test_the_leader_writes_to_its_disk_in_parallel_with_its_followers() -> None:
    """§10.2.1, figure 10.2."""
    net = led()
    net[ONE].slow_disk = True
    effects = net.step(ONE, Proposed(value("a")))
    appends = [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, m.Append)]
    assert [append.after for append in appends] == [0]


def test_the_leader_may_even_commit_an_entry_before_its_own_disk_has_it() -> None:
    """§10.2.1: "if a majority of followers have written it"."""
    net = led()
    net[ONE].slow_disk = True
    net.propose(ONE, "a")
    assert net.commands(ONE) == ["a"]
    assert net[ONE].unsynced


def test_a_leader_counts_itself_only_once_its_disk_has_the_entry() -> None:
    """§10.2.1, the other side of it."""
    net = led()
    net.cut(THREE)
    net[ONE].slow_disk = True
    net.propose(ONE, "a")
    assert net.commands(ONE) == []
    net.sync(ONE)
    net.talk()
    assert net.commands(ONE) == ["a"]


def test_entries_are_pipelined() -> None:
    """§10.2.2: the leader does not wait for an answer before it sends the next."""
    net = led()
    before = len(net.said(m.Append, to=TWO))
    for name in "abc":
        net.step(ONE, Proposed(value(name)))
    assert [len(append.entries) for append in net.said(m.Append, to=TWO)[before:]] == [1, 1, 1]
    net.talk()
    assert net.commands(TWO) == ["a", "b", "c"]

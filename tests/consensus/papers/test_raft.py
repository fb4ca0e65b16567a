"""What chapter 3 of Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014), demands of Raft.

Cited by its sections and figures; figures 3.6 and 3.7 are 7 and 8 of the shorter paper, "In Search of an Understandable
Consensus Algorithm" (2014).
"""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, Network, ballot
from tests.consensus.raft.group import entry, held, hold, led, raft, term

from quorate import limits
from quorate.consensus.core import Persist, Send
from quorate.consensus.messages import Message, TakeOver
from quorate.consensus.raft import messages as m
from quorate.types import NOOP

# --- §3.3 Raft basics: terms -----------------------------------------------------------------------------------------


def test_a_server_takes_over_a_larger_term() -> None:
    """§3.3: "If one server's current term is smaller than the other's, then it updates its current term"."""
    net = raft()
    net.tell(TWO, ONE, m.Heartbeat(7, 0, 0))
    assert term(net, TWO) == 7
    assert net[TWO].core.status().leader == ONE


@pytest.mark.parametrize("role", ["leader", "candidate"])
def test_a_leader_or_candidate_whose_term_is_out_of_date_becomes_a_follower(role: str) -> None:
    """§3.3: "immediately reverts to follower state"."""
    net = led()
    if role == "candidate":
        net.tell(TWO, ONE, TakeOver(ballot(1, 1)))
        assert net[TWO].core.status().role == "candidate"
    me = ONE if role == "leader" else TWO
    net.tell(me, THREE, m.HigherTerm(9))
    assert net[me].core.status().role == "follower"
    assert term(net, me) == 9


@pytest.mark.parametrize(
    "stale",
    [m.Append(1, 0, 0, (entry(1, 1),), 1), m.Heartbeat(1, 0, 0), m.Committed(1, 1), m.RequestVote(1, 9, 9, True)],
)
def test_a_server_rejects_a_request_of_a_stale_term(stale: Message) -> None:
    """§3.3, §3.5: and says so, for the sender is out of date."""
    net = raft()
    net.tell(TWO, ONE, m.Heartbeat(2, 0, 0))
    before = len(net[TWO].persists)
    net.tell(TWO, THREE, stale)
    assert net.said(m.HigherTerm, by=TWO, to=THREE) == [m.HigherTerm(2)]
    assert len(net[TWO].persists) == before
    assert net[TWO].core.status().leader == ONE


def test_a_leader_whose_term_is_over_hears_of_it_from_whoever_it_still_sends_to() -> None:
    """§3.3: without that, a member that stood in vain could never come back."""
    net = led()
    net.tell(THREE, TWO, m.HigherTerm(4))
    net.tick(limits.HEARTBEAT_TICKS, ONE)
    assert not net[ONE].leads
    assert term(net, ONE) == 4


# --- §3.4 Leader election --------------------------------------------------------------------------------------------


def test_a_candidate_wins_with_the_votes_of_a_majority_of_the_full_cluster() -> None:
    """§3.4."""
    net = raft(5)
    net.loses = lambda letter: isinstance(letter.message, m.VoteGranted) and letter.sender not in (TWO, THREE)
    net.elect(ONE)
    net = raft(5)
    net.loses = lambda letter: isinstance(letter.message, m.VoteGranted) and letter.sender != TWO
    net.tick(3 * limits.ELECTION_TICKS_MAX, ONE)
    assert net.said(m.RequestVote, by=ONE)
    assert not net[ONE].leads


def test_a_server_votes_for_one_candidate_in_a_term_on_a_first_come_first_served_basis() -> None:
    """§3.4; and for that one as often as it asks."""
    net = raft()
    for candidate in (ONE, TWO, ONE):
        net.tell(THREE, candidate, m.RequestVote(1, 0, 0, False))
    assert len(net.said(m.VoteGranted, by=THREE, to=ONE)) == 2
    assert net.said(m.VoteGranted, by=THREE, to=TWO) == []


def test_a_vote_is_kept_across_restarts() -> None:
    """Figure 3.1: currentTerm and votedFor are "updated on stable storage before responding to RPCs"."""
    net = raft()
    net[THREE].slow_disk = True
    effects = net.tell(THREE, ONE, m.RequestVote(1, 0, 0, False))
    (persist,) = (effect for effect in effects if isinstance(effect, Persist))
    (vote,) = (effect for effect in effects if isinstance(effect, Send))
    assert persist.promised == ballot(1, 1)
    assert vote.after == persist.seq
    assert net.said(m.VoteGranted) == []
    net.sync(THREE)
    net.restart(THREE)
    net.tell(THREE, TWO, m.RequestVote(1, 0, 0, False))
    assert net.said(m.VoteGranted, by=THREE, to=TWO) == []


def test_a_candidate_votes_for_itself_before_it_asks_others_and_counts_that_once_it_is_durable() -> None:
    """§3.4; a candidate that forgot its term could stand in it twice."""
    net = raft()
    net[ONE].slow_disk = True
    net.tick(limits.ELECTION_TICKS_MIN, ONE)
    assert net.said(m.PreVoteGranted, to=ONE)
    assert net.said(m.RequestVote) == []
    net.sync(ONE)
    assert net.said(m.RequestVote, by=ONE, to=TWO) == [m.RequestVote(1, 0, 0, False)]
    assert net[ONE].store.recover().promised == ballot(1, 1)


def test_a_candidate_that_hears_the_leader_of_its_term_returns_to_follower() -> None:
    """§3.4, outcome (b)."""
    net = led()
    net.tell(TWO, ONE, TakeOver(ballot(1, 1)))
    net.tell(TWO, THREE, m.Heartbeat(2, 0, 0))
    assert net[TWO].core.status().role == "follower"
    assert net[TWO].core.status().leader == THREE


def test_split_votes_are_resolved() -> None:
    """§3.4, outcome (c): randomised timeouts, though all members begin at the same moment."""
    net = raft(4)
    for me, sender in ((ONE, TWO), (TWO, ONE), (THREE, FOUR), (FOUR, THREE)):
        net.tell(me, sender, m.HigherTerm(3))
    net.tick(4 * limits.ELECTION_TICKS_MAX)
    assert net.leader in net.ids


# --- §3.5 Log replication --------------------------------------------------------------------------------------------


def test_an_entry_is_committed_once_the_leader_has_replicated_it_on_a_majority() -> None:
    """§3.5: "this also commits all preceding entries in the leader's log"."""
    net = led(5)
    before = net[ONE].delivered
    net.loses = lambda letter: isinstance(letter.message, m.Append)
    net.propose(ONE, "a", "b")
    net.tell(ONE, TWO, m.Appended(1, before + 2, 0))
    assert net[ONE].delivered == before
    net.tell(ONE, THREE, m.Appended(1, before + 2, 0))
    assert net.commands(ONE) == ["a", "b"]


def test_followers_learn_of_it_from_the_leader() -> None:
    """§3.5: "the leader keeps track of the highest index it knows to be committed"; here it tells it at once."""
    net = led()
    net.propose(ONE, "a")
    assert [net.commands(me) for me in net.ids] == [["a"]] * 3


def test_the_leader_retries_until_all_followers_store_all_entries() -> None:
    """§3.5: "even after it has responded to the client"."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Append) and letter.to == THREE
    net.propose(ONE, "a")
    assert net.commands(ONE) == ["a"]
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net.commands(THREE) == ["a"]


def test_the_consistency_check_refuses_what_does_not_follow() -> None:
    """§3.5, Log Matching: the induction step."""
    net = raft()
    hold(net, TWO, "11", term=1)
    for prev, prev_term in ((3, 1), (2, 2)):
        net.tell(TWO, ONE, m.Append(2, prev, prev_term, (entry(2, prev + 1),), 0))
    assert net.said(m.Mismatch, by=TWO) == [m.Mismatch(2, 3, 0), m.Mismatch(2, 2, 0)]
    assert net.said(m.Appended) == []
    assert held(net, TWO) == "11"


FIGURE_7 = {
    "a": "111445566",
    "b": "1114",
    "c": "11144556666",
    "d": "111445566677",
    "e": "1114444",
    "f": "11122233333",
}


@pytest.mark.parametrize("follower", FIGURE_7)
def test_the_leader_brings_a_followers_log_into_agreement_with_its_own(follower: str) -> None:
    """§3.5, figure 3.6 (figure 7 of the paper): (a-b) miss entries, (c-d) have extra ones, (e-f) both."""
    net = raft()
    hold(net, ONE, "1114455666", term=7)
    hold(net, TWO, "1114455666", term=7)
    hold(net, THREE, FIGURE_7[follower], term=7)
    net.elect(ONE)
    net.propose(ONE, "new")
    net.tick(2 * limits.RESEND_TICKS)
    assert term(net, ONE) == 8
    assert held(net, ONE) == held(net, TWO) == held(net, THREE) == "111445566688"
    assert net[THREE].delivered == net[ONE].delivered == 12


def test_a_leader_never_overwrites_or_deletes_entries_in_its_own_log() -> None:
    """§3.5, Leader Append-Only: not even those of old terms that nobody else has."""
    net = raft()
    hold(net, ONE, "13", term=5)
    hold(net, TWO, "12", term=5)
    net.elect(ONE)
    assert held(net, ONE) == held(net, TWO) == "136"
    assert all(persist.last is None for persist in net[ONE].persists)


def test_a_conflicting_suffix_is_removed_from_the_disk_too() -> None:
    """§3.5: the follower must not find it there again."""
    net = raft()
    hold(net, TWO, "1222", term=2)
    net.tell(TWO, ONE, m.Append(3, 1, 1, (entry(3, 2),), 0))
    assert net[TWO].persists[-1].last == 2
    assert held(net, TWO) == "13"
    net.restart(TWO)
    assert held(net, TWO) == "13"


def test_an_old_message_cuts_nothing_off() -> None:
    """§3.5, figure 3.1: entries are deleted only if one "conflicts with a new one"."""
    net = led()
    net.propose(ONE, "a", "b", "c")
    for letter in tuple(net.sent):
        net.tell(letter.to, letter.sender, letter.message)
        net.talk()
    net.tick(limits.ELECTION_TICKS_MAX)
    assert [net.commands(me) for me in net.ids] == [["a", "b", "c"]] * 3


def test_what_is_appended_is_durable_before_it_is_acknowledged() -> None:
    """§3.8: entries are persisted before they are counted towards their commitment."""
    net = led()
    net[TWO].slow_disk = True
    net.propose(ONE, "a")
    slot = net[ONE].core.status().chosen
    assert m.Appended(1, slot, slot - 1) not in net.said(m.Appended, by=TWO)
    net.sync(TWO)
    assert m.Appended(1, slot, slot - 1) in net.said(m.Appended, by=TWO)


# --- §3.6 Safety -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log", "votes"), [("", False), ("1", False), ("111", False), ("12", True), ("122", True)])
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(log: str, votes: bool) -> None:
    """§3.6.1: later last term, and then length; asked in advance the answer is the same (§9.6)."""
    net = raft()
    hold(net, TWO, "12", term=2)
    last = int(log[-1]) if log else 0
    net.tell(TWO, THREE, m.PreVote(3, len(log), last))
    net.tell(TWO, THREE, m.RequestVote(3, len(log), last, False))
    assert net.said(m.PreVoteGranted, by=TWO) == [m.PreVoteGranted(3)] * votes
    assert net.said(m.VoteGranted, by=TWO) == [m.VoteGranted(3)] * votes


def figure_3_7() -> Network:
    """Return (c): S1 leads term 4, and its entry of term 2 is on a majority; S5 holds one of term 3 in that slot."""
    net = raft(5)
    for me, log in ((ONE, "12"), (TWO, "12"), (THREE, "1"), (FOUR, "1"), (FIVE, "13")):
        hold(net, me, log, term=3)
    net.loses = lambda letter: isinstance(letter.message, m.Append) or FIVE in (letter.sender, letter.to)
    net.elect(ONE)
    net.tell(ONE, TWO, m.Appended(4, 2, 0))
    net.tell(ONE, THREE, m.Appended(4, 2, 0))
    return net


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting_replicas() -> None:
    """§3.6.2, figure 3.7 (c)."""
    net = figure_3_7()
    assert held(net, ONE) == "124"
    assert net[ONE].delivered == 0


def test_so_it_may_still_be_overwritten() -> None:
    """§3.6.2, figure 3.7 (d1)."""
    net = figure_3_7()
    net.crash(ONE)
    net.heal()
    net.elect(FIVE)
    net.tick(2 * limits.RESEND_TICKS)
    assert held(net, FIVE)[:2] == held(net, TWO)[:2] == held(net, THREE)[:2] == "13"


def test_once_an_entry_of_the_current_term_is_committed_all_before_it_are() -> None:
    """§3.6.2, figure 3.7 (d2): then S5 cannot win an election."""
    net = figure_3_7()
    net.heal()
    net.tick(2 * limits.RESEND_TICKS, ONE, TWO, THREE)
    assert net[ONE].delivered == 3
    net.crash(ONE)
    net.cut(FOUR)
    net.tick(4 * limits.ELECTION_TICKS_MAX, FIVE)
    assert not net[FIVE].leads
    assert net.said(m.RequestVote, by=FIVE) == []


def test_a_new_leader_has_all_that_was_committed() -> None:
    """§3.6.3, Leader Completeness: though nobody but the old leader knew."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Appended | m.Committed) or letter.to == THREE
    net.propose(ONE, "a")
    net.heal()
    net.crash(ONE)
    net.elect(TWO)
    assert net.commands(TWO) == net.commands(THREE) == ["a"]


def test_a_new_leader_appends_a_no_op() -> None:
    """§6.4, step 1, and §3.6.2: to find out what is committed without waiting for a client."""
    net = led()
    assert net.chosen == {1: NOOP}
    net.elect(TWO)
    assert net.chosen == {1: NOOP, 2: NOOP}


def test_a_follower_that_crashes_and_restarts_goes_on_where_its_disk_ended() -> None:
    """§3.7: what it is sent again does no harm."""
    net = led()
    net.propose(ONE, "a", "b")
    net.restart(TWO)
    net.crash(THREE)
    net.propose(ONE, "c")
    assert net.commands(ONE) == ["a", "b", "c"]
    net.tick(2 * limits.RESEND_TICKS, ONE, TWO)
    assert net.commands(TWO) == ["a", "b", "c"]

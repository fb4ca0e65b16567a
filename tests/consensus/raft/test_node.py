"""The core composed, where the dissertation leaves things open: catch-up, resending, what waits for which disk."""

from __future__ import annotations

from typing import Any

import pytest
from tests.consensus.conversation import FOUR, ONE, THREE, TWO, Network, ballot, members, value, vote
from tests.consensus.raft.group import led, raft

from quorate import limits
from quorate.consensus.core import Change, ChangeRequested, Persist, Persisted, Proposed, Send
from quorate.consensus.messages import Forward, Learn, Learned, Message, ReadQuery, TakeOver
from quorate.consensus.raft import messages as m
from quorate.storage.memory import MemoryStore
from quorate.types import NOOP, ReplicaId, Vote


def hold(net: Network, me: ReplicaId, *votes: Vote, promised: int) -> None:
    """Let a member start anew with these entries."""
    store = MemoryStore()
    store.commit([Persist(1, ballot(promised, 0), list(enumerate(votes, 1)), 0)])
    net.crash(me)
    net.revive(me, store)


def sends_of(effects: list[Any], kind: type[Message]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


# --- elections -------------------------------------------------------------------------------------------------------


def test_a_candidacy_without_answers_is_given_up_and_tried_in_a_higher_term() -> None:
    net = raft(3)
    net.loses = lambda letter: isinstance(letter.message, m.VoteGranted)
    net.tick(5 * limits.ELECTION_TICKS_MAX, ONE)
    tried = [request.term for request in net.said(m.RequestVote, by=ONE, to=TWO)]
    assert len(tried) > 1
    assert tried == sorted(set(tried))


@pytest.mark.parametrize("term", [1, 3])
def test_support_for_another_term_than_the_one_asked_for_is_ignored(term: int) -> None:
    net = raft(3)
    net.tell(ONE, TWO, m.HigherTerm(1))
    net.cut(ONE)
    net.tick(limits.ELECTION_TICKS_MAX, ONE)
    net.tell(ONE, TWO, m.PreVoteGranted(term))
    assert net.said(m.RequestVote) == []
    net.tell(ONE, TWO, m.PreVoteGranted(2))
    assert net.said(m.RequestVote)


def test_votes_of_an_earlier_term_are_not_counted() -> None:
    net = raft(5)
    net.tell(ONE, TWO, m.HigherTerm(4))
    net.loses = lambda letter: isinstance(letter.message, m.VoteGranted)
    net.tick(limits.ELECTION_TICKS_MAX, ONE)
    assert net[ONE].core.status().ballot == ballot(5, 1)
    for voter in (TWO, THREE):
        net.tell(ONE, voter, m.VoteGranted(4))
    assert not net[ONE].leads


def test_two_leaders_in_one_term_are_a_broken_invariant() -> None:
    net = led()
    with pytest.raises(AssertionError, match="two leaders in term 1"):
        net.tell(ONE, TWO, m.Heartbeat(1, 0, 0))


def test_a_learner_notices_that_the_leader_is_gone() -> None:
    """It may have been promoted without knowing it, and its vote be needed."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Appended | m.HeartbeatAck) and letter.sender == FOUR
    net.add(FOUR)
    net.tick(limits.HEARTBEAT_TICKS)
    assert net[FOUR].core.status().leader == ONE
    net.crash(ONE)
    net.tick(limits.ELECTION_TICKS_MAX, FOUR)
    assert net[FOUR].core.status().leader is None
    assert net.said(m.PreVote, by=FOUR) == []
    net.tell(FOUR, TWO, m.PreVote(2, 99, 1))
    assert net.said(m.PreVoteGranted, by=FOUR)


def test_commands_wait_for_a_candidates_success() -> None:
    net = led()
    net.crash(ONE)
    net.cut(TWO)
    net.tell(TWO, ONE, TakeOver(ballot(1, 1)))
    net.step(TWO, Proposed(value("a")))
    net.heal()
    net.elect(TWO)
    assert net.commands(TWO) == ["a"]


def test_who_loses_its_term_gives_what_waits_to_the_winner() -> None:
    net = led()
    net.cut(ONE)
    for number in range(limits.AHEAD_SLOTS + 1):
        net.step(ONE, Proposed(value(str(number))))
    net.elect(TWO)
    net.heal()
    net.tell(ONE, TWO, m.RequestVote(2, 99, 1, True))
    assert net.said(Forward, by=ONE, to=TWO) == [Forward(value(str(limits.AHEAD_SLOTS)))]


# --- replication -----------------------------------------------------------------------------------------------------


def test_peers_that_are_equally_far_get_one_message() -> None:
    net = led(5)
    (append,) = sends_of(net.step(ONE, Proposed(value("a"))), m.Append)
    assert append.to == tuple(ReplicaId(each) for each in (2, 3, 4, 5))


def test_what_waits_while_entries_are_in_flight_is_one_entry() -> None:
    net = led()
    names = [f"{number}." for number in range(limits.AHEAD_SLOTS + 5)]
    for name in names:
        net.step(ONE, Proposed(value(name)))
    net.talk()
    assert net.commands(TWO) == [*names[: limits.AHEAD_SLOTS], "".join(names[limits.AHEAD_SLOTS :])]


def test_a_follower_hears_at_once_what_is_chosen_unless_the_next_entries_tell_it() -> None:
    net = led()
    net.propose(ONE, "a")
    assert net.said(m.Committed, to=TWO)[-1].chosen == net[ONE].delivered
    before = len(net.said(m.Committed, to=TWO))
    for number in range(limits.AHEAD_SLOTS + 1):
        net.step(ONE, Proposed(value(str(number))))
    net.talk()
    told = net.said(m.Committed, to=TWO)[before:]
    assert len(told) == limits.AHEAD_SLOTS
    assert net.commands(TWO) == net.commands(ONE)


def test_a_lost_append_is_sent_again_to_those_who_have_not_answered() -> None:
    net = led(5)
    net.loses = lambda letter: isinstance(letter.message, m.Append) and letter.to != TWO
    net.propose(ONE, "a")
    assert net.commands(ONE) == []
    net.heal()
    before = len(net.sent)
    net.tick(limits.RESEND_TICKS)
    again = {letter.to for letter in net.sent[before:] if isinstance(letter.message, m.Append)}
    assert again == {ReplicaId(3), ReplicaId(4), ReplicaId(5)}
    assert net.commands(ONE) == ["a"]


def test_a_gap_is_filled_at_the_next_tick() -> None:
    net = led()
    net.crash(THREE)
    net.loses = lambda letter: isinstance(letter.message, m.Append)
    net.propose(ONE, "a")
    net.heal()
    net.propose(ONE, "b")
    assert len(net.said(m.Mismatch, by=TWO)) == 1
    assert net.commands(ONE) == []
    net.tick(1, ONE)
    assert net.commands(ONE) == ["a", "b"]


def test_who_lacks_what_the_leader_holds_no_longer_in_memory_fetches_it() -> None:
    net = led()
    net.cut(THREE)
    net.propose(ONE, "a", "b")
    net.heal()
    net.propose(ONE, "c")
    assert net.commands(THREE) == []
    net.tick(limits.RESEND_TICKS)
    assert net.commands(THREE) == ["a", "b", "c"]
    assert net.said(Learn, by=THREE) == [Learn(2)]


def test_meanwhile_what_it_cannot_use_is_not_sent_more_often_than_usual() -> None:
    net = led()
    net.cut(THREE)
    net.propose(ONE, "a", "b")
    net.heal()
    net.loses = lambda letter: isinstance(letter.message, Learn | Learned) or letter.to == TWO
    net.propose(ONE, "c")
    before = len(net.said(m.Append, to=THREE))
    net.tick(2 * limits.RESEND_TICKS, ONE, THREE)
    assert len(net.said(m.Append, to=THREE)) - before == 2


def test_a_follower_may_know_more_to_be_chosen_than_a_new_leader_does() -> None:
    """Then the leader goes on from there, for the follower holds nothing below in memory to compare."""
    net = led()
    net.loses = lambda letter: isinstance(letter.message, m.Committed | m.Heartbeat) and letter.to == TWO
    net.propose(ONE, "a", "b", "c")
    net.tick(limits.HEARTBEAT_TICKS)
    known = net[THREE].delivered
    assert net[TWO].delivered < known
    net.crash(ONE)
    net.loses = lambda letter: isinstance(letter.message, m.Append) and letter.message.prev < known
    net.elect(TWO)
    net.tick(3 * limits.RESEND_TICKS)
    assert net.commands(TWO) == ["a", "b", "c"]
    assert net[TWO].delivered == net[THREE].delivered == known + 1


def test_entries_past_the_window_are_not_taken_and_fetched_once_they_are_chosen() -> None:
    net = led()
    names = [f"{number}." for number in range(limits.WINDOW_SLOTS + limits.AHEAD_SLOTS)]
    net.loses = lambda letter: (
        isinstance(letter.message, m.Committed | m.Heartbeat | Learn)
        and THREE
        in (
            letter.to,
            letter.sender,
        )
    )
    for name in names:
        net.step(ONE, Proposed(value(name)))
        net.talk()
    assert len(net[THREE].store.recover().votes) <= limits.WINDOW_SLOTS
    net.heal()
    net.tick(3 * limits.RESEND_TICKS)
    assert net.commands(THREE) == names


def test_a_window_full_of_no_ops_is_chosen_all_the_same() -> None:
    """Each was left by a leader that came to nothing."""
    net = raft(3)
    failed = [Vote(ballot(term, 2), NOOP) for term in range(1, limits.WINDOW_SLOTS + 3)]
    for me in net.ids:
        hold(net, me, *failed, promised=len(failed))
    net.elect(ONE)
    net.propose(ONE, "a")
    net.tick(3 * limits.RESEND_TICKS)
    assert [net.commands(me) for me in net.ids] == [["a"]] * 3
    assert net[TWO].delivered == len(failed) + 2


def test_an_empty_append_asks_how_far_a_member_is() -> None:
    net = led()
    net.propose(ONE, "a")
    slot = net[TWO].delivered
    net.tell(TWO, ONE, m.Append(1, slot, 1, (), slot))
    assert net.said(m.Appended, by=TWO)[-1] == m.Appended(1, slot, slot)


@pytest.mark.parametrize("answer", [m.Appended(7, 99, 0), m.Mismatch(7, 99, 0), m.HeartbeatAck(7, 0, 0)])
def test_answers_to_another_leadership_count_for_nothing(answer: Message) -> None:
    net = led()
    net.elect(TWO)
    net.elect(ONE)
    net.cut(TWO, THREE)
    net.propose(ONE, "a")
    for sender in (TWO, THREE):
        net.tell(ONE, sender, answer)
    assert net.commands(ONE) == []


def test_words_of_strangers_count_for_nothing() -> None:
    net = led()
    net.cut(TWO, THREE)
    net.propose(ONE, "a")
    for stranger in (FOUR, ReplicaId(5)):
        net.tell(ONE, stranger, m.Mismatch(1, 99, 0))
        net.tell(ONE, stranger, m.Appended(1, net[ONE].delivered + 1, 0))
    assert net.commands(ONE) == []


# --- what is chosen --------------------------------------------------------------------------------------------------


def test_the_leaders_word_is_taken_only_as_far_as_the_logs_are_known_to_agree() -> None:
    """It may speak of other entries in the same slots."""
    net = raft(3)
    hold(net, THREE, vote(1, 2, "lost"), vote(1, 2, "too"), promised=1)
    net.tell(THREE, ONE, m.Heartbeat(2, 2, 0))
    net.tell(THREE, ONE, m.Committed(2, 2))
    assert net[THREE].delivered == 0
    net.tell(THREE, ONE, m.Append(2, 0, 0, (vote(2, 1, "a"),), 2))
    assert net.log(THREE) == ["a"]


def test_what_was_known_of_an_earlier_leaders_log_proves_nothing() -> None:
    net = raft(3)
    net.tell(THREE, TWO, m.Append(1, 0, 0, (vote(1, 2, "lost"),), 0))
    net.tell(THREE, ONE, m.Heartbeat(2, 1, 0))
    assert net[THREE].delivered == 0


def test_a_leader_that_lacks_what_is_chosen_gets_no_acknowledgement() -> None:
    """It was deposed, and does not know it yet."""
    net = raft(3)
    net.tell(THREE, ONE, Learned(1, (vote(2, 2, "a"), vote(2, 2, "b")), 2))
    net.tell(THREE, ONE, m.HigherTerm(3))
    for entries in ((vote(3, 1, "x"),), (vote(3, 1, "x"), vote(3, 1, "y")), ()):
        net.tell(THREE, ONE, m.Append(3, 0, 0, entries, 0))
    assert net.said(m.Appended, by=THREE) == []
    assert net.log(THREE) == ["a", "b"]


def test_chosen_values_replace_what_conflicts_with_them_on_the_disk_too() -> None:
    net = raft(3)
    hold(net, THREE, *(vote(1, 2, name) for name in ("a", "lost", "too")), promised=1)
    net.tell(THREE, ONE, Learned(1, (vote(1, 2, "a"), vote(2, 1, "b")), 2))
    assert net.log(THREE) == ["a", "b"]
    assert net[THREE].persists[-1].last == 2
    assert net[THREE].store.recover().votes == {}


def test_chosen_values_raise_the_term_that_they_are_of() -> None:
    net = raft(3)
    net.tell(THREE, ONE, Learned(1, (vote(4, 2, "a"),), 1))
    assert net[THREE].core.status().ballot == ballot(4, 0)


def test_a_leader_takes_no_chosen_values_from_others() -> None:
    net = led()
    before = net[ONE].delivered
    net.tell(ONE, TWO, Learned(before + 1, (vote(1, 1, "a"),), before + 1))
    assert net[ONE].delivered == before


def test_an_answer_without_values_is_not_answered_by_the_next_question() -> None:
    """Two members would keep each other busy for as long as the one has nothing to give."""
    net = raft(3)
    assert sends_of(net.tell(THREE, ONE, Learned(1, (), 9)), Learn) == []


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_acknowledged_while_entries_are_on_their_way_to_the_disk() -> None:
    net = led()
    net[TWO].slow_disk = True
    net.propose(ONE, "a")
    before = len(net.said(m.HeartbeatAck, by=TWO))
    net.tick(limits.HEARTBEAT_TICKS, ONE)
    assert len(net.said(m.HeartbeatAck, by=TWO)) > before


def test_a_heartbeat_of_a_new_term_is_acknowledged_only_once_the_term_is_durable() -> None:
    net = raft(3)
    net[TWO].slow_disk = True
    for _ in range(2):
        net.tell(TWO, ONE, m.Heartbeat(5, 0, 0))
    assert net.said(m.HeartbeatAck) == []
    net.sync(TWO)
    assert net.said(m.HeartbeatAck, by=TWO) == [m.HeartbeatAck(5, 0, 0)] * 2


def test_a_member_that_crashes_before_its_disk_finished_has_said_nothing() -> None:
    net = led()
    stored = net[TWO].store.recover()
    net[TWO].slow_disk = net[THREE].slow_disk = True
    before = len(net.said(m.Appended, by=TWO))
    net.propose(ONE, "a")
    assert len(net.said(m.Appended, by=TWO)) == before
    assert net.restart(TWO).store.recover() == stored


def test_persisted_out_of_order_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        raft(1)[ONE].core.step(Persisted(1))


def test_nothing_is_persisted_for_what_changes_nothing() -> None:
    net = led()
    before = [len(net[me].persists) for me in net.ids]
    net.tick(10 * limits.HEARTBEAT_TICKS)
    assert [len(net[me].persists) for me in net.ids] == before


# --- members ---------------------------------------------------------------------------------------------------------


def test_a_new_member_is_sent_entries_before_its_coming_is_chosen() -> None:
    net = led()
    net.join(FOUR)
    net.cut(TWO, THREE)
    net.step(ONE, ChangeRequested(1, Change(FOUR, "host4:7000")))
    assert [append.entries[-1].batch for append in net.said(m.Append, to=FOUR)] == [
        members(1, 2, 3, version=1, learners=(4,)).batch()
    ]
    assert net.said(m.Append, to=FOUR) == net.said(m.Append, to=TWO)[-1:]


def test_commands_wait_for_a_change_to_be_chosen() -> None:
    net = led()
    net.cut(TWO, THREE)
    net.step(ONE, ChangeRequested(1, Change(THREE, None)))
    net.step(ONE, Proposed(value("a")))
    assert net.said(m.Append, to=TWO)[-1].entries[-1].batch == members(1, 2, version=1, last_id=3).batch()
    net.loses = lambda letter: THREE in (letter.sender, letter.to)
    net.tick(2 * limits.RESEND_TICKS, ONE, TWO)
    assert net.commands(TWO) == ["a"]


def test_a_candidate_that_learns_of_its_removal_steps_down() -> None:
    net = led()
    net.cut(THREE)
    net.remove(THREE)
    net.tell(THREE, ONE, TakeOver(ballot(1, 1)))
    assert net[THREE].core.status().role == "candidate"
    votes = net[ONE].store.read(net[THREE].delivered + 1, net[ONE].delivered, limits.LEARN_BYTES)
    net.tell(THREE, ONE, Learned(net[THREE].delivered + 1, tuple(votes), net[ONE].delivered))
    assert net[THREE].core.status().role == "follower"


# --- reads -----------------------------------------------------------------------------------------------------------


def test_a_leader_steps_down_for_a_reader_that_knows_a_higher_term() -> None:
    net = led()
    net.tell(ONE, TWO, ReadQuery(1, ballot(9, 3)))
    assert not net[ONE].leads


def test_who_voted_for_another_in_the_same_term_follows_reads_and_takes_over_like_any_other() -> None:
    """What it promised names the one it voted for, and the leader is another."""
    net = raft(5)
    for me in net.ids:
        net.tell(me, THREE, m.HigherTerm(4))
    net.tell(TWO, THREE, m.RequestVote(5, 0, 0, False))
    net.cut(TWO, THREE)
    assert net.elect(ONE) == ballot(5, 1)
    net.heal()
    net.tick(2 * limits.RESEND_TICKS)
    assert net[TWO].core.status().ballot == ballot(5, 3)
    net.ask_barrier(TWO)
    net.talk()
    assert len(net[TWO].barriers) == 1
    net.tell(TWO, ONE, TakeOver(ballot(5, 1)))
    net.talk()
    assert net.leader == TWO

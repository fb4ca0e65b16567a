"""The learner: a value is chosen by a quorum at one ballot, delivered in slot order, fetched where it is missing."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, ballot, value, vote

from quorate import limits
from quorate.consensus.paxos.learner import PATIENCE_TICKS, Learner
from quorate.types import Ballot, ReplicaId, Slot, Vote

FIRST, SECOND = ballot(1, 1), ballot(2, 2)


def learner(members: int = 3, chosen: Slot = 0) -> Learner:
    return Learner(tuple(ReplicaId(n) for n in range(1, members + 1)), chosen, random.Random(1))


def hear(one: Learner, ballot_: Ballot, slot: Slot, voters: Iterable[ReplicaId]) -> None:
    for voter in voters:
        one.on_vote(voter, ballot_, slot)


def test_a_quorum_at_one_ballot_chooses() -> None:
    one = learner()
    votes = {1: vote(1, 1, "a")}
    hear(one, FIRST, 1, [ONE])
    assert one.next_value(votes) is None
    hear(one, FIRST, 1, [THREE])
    assert one.next_value(votes) == value("a")
    assert one.chosen == 1


def test_the_same_voter_twice_counts_once() -> None:
    one = learner()
    hear(one, FIRST, 1, [TWO, TWO, TWO])
    assert one.next_value({1: vote(1, 1, "a")}) is None


def test_votes_at_different_ballots_do_not_add_up() -> None:
    one = learner(members=5)
    hear(one, FIRST, 1, [ONE, TWO])
    hear(one, SECOND, 1, [THREE, FOUR])
    hear(one, FIRST, 1, [FIVE])
    assert one.next_value({1: vote(2, 2, "a")}) is None
    hear(one, SECOND, 1, [FIVE])
    assert one.next_value({1: vote(2, 2, "a")}) == value("a")


def test_an_own_vote_of_an_older_ballot_is_not_taken_for_the_value() -> None:
    one = learner()
    hear(one, SECOND, 1, [TWO, THREE])
    assert one.next_value({1: vote(1, 1, "perhaps another")}) is None
    assert one.chosen == 0


def test_an_own_vote_of_a_later_ballot_holds_the_same_value() -> None:
    """P2b: what is proposed at a higher ballot is what was chosen at the lower one."""
    one = learner()
    hear(one, FIRST, 1, [TWO, THREE])
    assert one.next_value({1: vote(2, 2, "a")}) == value("a")


def test_values_come_in_slot_order_and_once() -> None:
    one = learner()
    votes = {1: vote(1, 1, "a"), 2: vote(1, 1, "b")}
    hear(one, FIRST, 2, [ONE, TWO])
    assert one.next_value(votes) is None
    hear(one, FIRST, 1, [ONE, TWO])
    assert [one.next_value(votes) for _ in range(3)] == [value("a"), value("b"), None]


def test_votes_in_the_prefix_or_far_above_it_take_no_memory() -> None:
    one = learner(chosen=10)
    far = 10 + 2 * limits.WINDOW_SLOTS + 1
    for slot in (10, far):
        hear(one, FIRST, slot, [ONE, TWO])
        assert list(one.voters(slot, FIRST)) == []


def test_voters_are_told_of_one_ballot_alone() -> None:
    one = learner()
    hear(one, FIRST, 1, [TWO])
    assert set(one.voters(1, FIRST)) == {TWO}
    assert set(one.voters(1, SECOND)) == set()


def test_the_leaders_word_makes_votes_at_its_own_ballot_chosen() -> None:
    one = learner()
    votes = {1: vote(1, 1, "a"), 2: vote(1, 1, "b"), 3: vote(1, 1, "c")}
    one.on_leader_prefix(FIRST, 2, votes)
    assert [one.next_value(votes) for _ in range(3)] == [value("a"), value("b"), None]


def test_the_leaders_word_says_nothing_about_votes_of_older_ballots() -> None:
    one = learner()
    votes = {1: vote(1, 1, "perhaps another")}
    one.on_leader_prefix(SECOND, 1, votes)
    assert one.next_value(votes) is None
    assert one.chosen_known == 1


def test_a_peer_that_is_ahead_is_asked_after_some_patience_and_once() -> None:
    one = learner()
    one.hear_of(TWO, 3)
    for _ in range(PATIENCE_TICKS):
        assert one.peer_to_ask(at_once=False) is None
        one.tick()
    assert one.peer_to_ask(at_once=False) == TWO
    assert one.peer_to_ask(at_once=True) is None
    for _ in range(limits.RESEND_TICKS):
        one.tick()
    assert one.peer_to_ask(at_once=False) == TWO


def test_a_far_gap_needs_no_patience() -> None:
    one = learner()
    one.hear_of(TWO, limits.WINDOW_SLOTS + 1)
    assert one.peer_to_ask(at_once=False) == TWO


def test_after_an_answer_the_next_question_may_follow() -> None:
    one = learner()
    one.hear_of(TWO, 3)
    assert one.peer_to_ask(at_once=True) == TWO
    one.answered()
    assert one.peer_to_ask(at_once=True) == TWO


def test_nobody_is_asked_when_nobody_is_ahead() -> None:
    one = learner(chosen=5)
    one.hear_of(TWO, 5)
    one.hear_of(THREE, 4)
    assert one.peer_to_ask(at_once=True) is None


def test_a_peers_prefix_never_falls() -> None:
    one = learner()
    one.hear_of(TWO, 5)
    one.hear_of(TWO, 3)
    assert one.chosen_known == 5


def test_only_the_next_slot_can_be_learnt() -> None:
    with pytest.raises(AssertionError):
        learner(chosen=3).learn(5)


def test_every_peer_that_is_ahead_is_asked_in_time() -> None:
    """A dead peer is routed around."""
    one = learner(members=5)
    for peer in (TWO, THREE, FOUR):
        one.hear_of(peer, 9)
    asked = set()
    for _ in range(50):
        asked.add(one.peer_to_ask(at_once=True))
        one.answered()
    assert asked == {TWO, THREE, FOUR}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4)), max_size=60))
def test_a_slot_is_chosen_only_by_three_of_five_at_one_ballot(heard: list[tuple[int, int, int]]) -> None:
    """Against the slow, obvious count. All votes of a slot name one value, as a ballot's rules see to."""
    one, counts = learner(members=5), dict[tuple[int, Slot], set[int]]()
    votes: dict[Slot, Vote] = {slot: vote(9, 1, f"{slot}") for slot in range(1, 5)}
    for voter, round_, slot in heard:
        one.on_vote(ReplicaId(voter), ballot(round_, 1), slot)
        counts.setdefault((round_, slot), set()).add(voter)
        while one.next_value(votes) is not None:
            assert any(len(who) >= 3 for (_, at), who in counts.items() if at == one.chosen)

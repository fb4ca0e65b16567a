"""The learner: a value is chosen by a quorum of its slot's voters at one ballot, and delivered in slot order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO, ballot, value, vote

from quorate import limits
from quorate.consensus.paxos.learner import Learner
from quorate.types import Ballot, ReplicaId, Slot, Vote

FIRST, SECOND = ballot(1, 1), ballot(2, 2)


OF_THREE = (ONE, TWO, THREE)
OF_FIVE = (*OF_THREE, FOUR, FIVE)


def hear(one: Learner, ballot_: Ballot, slot: Slot, voters: Iterable[ReplicaId]) -> None:
    for voter in voters:
        one.on_vote(voter, ballot_, slot)


def test_a_quorum_at_one_ballot_chooses() -> None:
    one = Learner(0)
    votes = {1: vote(1, 1, "a")}
    hear(one, FIRST, 1, [ONE])
    assert one.next_value(votes, OF_THREE) is None
    hear(one, FIRST, 1, [THREE])
    assert one.next_value(votes, OF_THREE) == value("a")
    assert one.chosen == 1


def test_the_same_voter_twice_counts_once() -> None:
    one = Learner(0)
    hear(one, FIRST, 1, [TWO, TWO, TWO])
    assert one.next_value({1: vote(1, 1, "a")}, OF_THREE) is None


def test_votes_at_different_ballots_do_not_add_up() -> None:
    one = Learner(0)
    hear(one, FIRST, 1, [ONE, TWO])
    hear(one, SECOND, 1, [THREE, FOUR])
    hear(one, FIRST, 1, [FIVE])
    assert one.next_value({1: vote(2, 2, "a")}, OF_FIVE) is None
    hear(one, SECOND, 1, [FIVE])
    assert one.next_value({1: vote(2, 2, "a")}, OF_FIVE) == value("a")


def test_an_own_vote_of_an_older_ballot_is_not_taken_for_the_value() -> None:
    one = Learner(0)
    hear(one, SECOND, 1, [TWO, THREE])
    assert one.next_value({1: vote(1, 1, "perhaps another")}, OF_THREE) is None
    assert one.chosen == 0


def test_an_own_vote_of_a_later_ballot_holds_the_same_value() -> None:
    """P2b: what is proposed at a higher ballot is what was chosen at the lower one."""
    one = Learner(0)
    hear(one, FIRST, 1, [TWO, THREE])
    assert one.next_value({1: vote(2, 2, "a")}, OF_THREE) == value("a")


def test_values_come_in_slot_order_and_once() -> None:
    one = Learner(0)
    votes = {1: vote(1, 1, "a"), 2: vote(1, 1, "b")}
    hear(one, FIRST, 2, [ONE, TWO])
    assert one.next_value(votes, OF_THREE) is None
    hear(one, FIRST, 1, [ONE, TWO])
    assert [one.next_value(votes, OF_THREE) for _ in range(3)] == [value("a"), value("b"), None]


def test_votes_in_the_prefix_or_far_above_it_take_no_memory() -> None:
    one = Learner(10)
    far = 10 + 2 * limits.WINDOW_SLOTS + 1
    for slot in (10, far):
        hear(one, FIRST, slot, [ONE, TWO])
        assert list(one.voters(slot, FIRST)) == []


def test_voters_are_told_of_one_ballot_alone() -> None:
    one = Learner(0)
    hear(one, FIRST, 1, [TWO])
    assert set(one.voters(1, FIRST)) == {TWO}
    assert set(one.voters(1, SECOND)) == set()


def test_the_leaders_word_makes_votes_at_its_own_ballot_chosen() -> None:
    one = Learner(0)
    votes = {1: vote(1, 1, "a"), 2: vote(1, 1, "b"), 3: vote(1, 1, "c")}
    one.on_leader_prefix(FIRST, 2, votes)
    assert [one.next_value(votes, OF_THREE) for _ in range(3)] == [value("a"), value("b"), None]


def test_the_leaders_word_says_nothing_about_votes_of_older_ballots() -> None:
    one = Learner(0)
    votes = {1: vote(1, 1, "perhaps another")}
    one.on_leader_prefix(SECOND, 1, votes)
    assert one.next_value(votes, OF_THREE) is None


def test_the_prefix_never_shrinks() -> None:
    one = Learner(3)
    for slot in (2, 3):
        with pytest.raises(AssertionError):
            one.extend(slot)
    assert one.chosen == 3


def test_the_prefix_may_jump_and_what_it_passes_is_forgotten() -> None:
    """As a snapshot makes it."""
    one = Learner(0)
    for slot in (1, 2, 5):
        hear(one, FIRST, slot, [ONE, TWO])
    one.extend(4)
    assert list(one.voters(2, FIRST)) == []
    assert one.next_value({5: vote(1, 1, "e")}, OF_THREE) == value("e")


def test_votes_of_those_who_do_not_vote_in_the_slot_do_not_count() -> None:
    """Learners vote too, and so may a replica that was removed."""
    one = Learner(0)
    votes = {1: vote(1, 1, "a")}
    hear(one, FIRST, 1, [ONE, FOUR, FIVE])
    assert one.next_value(votes, OF_THREE) is None
    assert one.next_value(votes, (ONE, FOUR, FIVE)) == value("a")


def test_votes_told_before_it_is_known_who_votes_are_counted_once_it_is() -> None:
    one = Learner(0)
    votes = {1: vote(1, 1, "a change of voters"), 2: vote(1, 1, "b")}
    hear(one, FIRST, 2, [FOUR, FIVE])
    hear(one, FIRST, 1, [ONE, TWO])
    assert one.next_value(votes, OF_THREE) is not None
    assert one.next_value(votes, OF_THREE) is None
    assert one.next_value(votes, (THREE, FOUR, FIVE)) == value("b")


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4)), max_size=60))
def test_a_slot_is_chosen_only_by_three_of_five_at_one_ballot(heard: list[tuple[int, int, int]]) -> None:
    """Against the slow, obvious count. All votes of a slot name one value, as a ballot's rules see to."""
    one, counts = Learner(0), dict[tuple[int, Slot], set[int]]()
    votes: dict[Slot, Vote] = {slot: vote(9, 1, f"{slot}") for slot in range(1, 5)}
    for voter, round_, slot in heard:
        one.on_vote(ReplicaId(voter), ballot(round_, 1), slot)
        counts.setdefault((round_, slot), set()).add(voter)
        while one.next_value(votes, OF_FIVE) is not None:
            assert any(len(who) >= 3 for (_, at), who in counts.items() if at == one.chosen)

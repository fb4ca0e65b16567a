"""Progress: what a majority has, what to send to whom, and what to send again."""

from __future__ import annotations

import pytest
from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO

from quorate import limits
from quorate.consensus.raft.progress import Replication
from quorate.types import ReplicaId, Slot

OF_FIVE = (ONE, TWO, THREE, FOUR, FIVE)
PEERS = (TWO, THREE)


def replication(**matches: Slot) -> Replication:
    """Return the view of a leader of five that knows these matches, by r1 to r5."""
    one = Replication()
    one.begin(OF_FIVE)
    for name, slot in matches.items():
        one.on_match(ReplicaId(int(name[1:])), slot)
    return one


# --- matches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matches", "voters", "agreed"),
    [
        ({}, OF_FIVE, 0),
        ({"r1": 9, "r2": 9}, OF_FIVE, 0),
        ({"r1": 9, "r2": 8, "r3": 7}, OF_FIVE, 7),
        ({"r1": 9, "r2": 8, "r3": 7}, (ONE, TWO, THREE), 8),
        ({"r2": 8, "r3": 7}, (ONE, TWO, THREE), 7),
        ({"r1": 9, "r2": 8}, (ONE, TWO), 8),
        ({"r1": 9, "r4": 9, "r5": 9}, (ONE, TWO, THREE), 0),
        ({"r1": 4}, (ONE,), 4),
    ],
)
def test_what_a_majority_of_the_voters_has(
    matches: dict[str, Slot], voters: tuple[ReplicaId, ...], agreed: int
) -> None:
    assert replication(**matches).agreed(voters) == agreed


def test_a_match_is_never_taken_back() -> None:
    one = replication(r2=5)
    one.on_match(TWO, 3)
    assert one.match(TWO) == 5


def test_who_is_no_member_counts_for_nothing() -> None:
    one = replication(r2=5)
    one.keep((ONE, THREE))
    one.on_match(TWO, 9)
    assert one.match(TWO) == 0


def test_who_comes_has_nothing_and_who_stays_keeps_what_it_has() -> None:
    one = Replication()
    one.begin((ONE, TWO))
    one.on_match(TWO, 5)
    one.keep((ONE, TWO, THREE))
    assert (one.match(TWO), one.match(THREE)) == (5, 0)


def test_a_new_leadership_knows_nothing_of_anybody() -> None:
    one = replication(r2=5)
    one.begin(OF_FIVE)
    assert one.match(TWO) == 0


# --- sending ---------------------------------------------------------------------------------------------------------


def test_peers_that_were_sent_equally_much_share_a_message() -> None:
    one = replication()
    one.sent((TWO, THREE), 7)
    one.sent((FOUR,), 6)
    assert one.by_sent((TWO, THREE, FOUR, FIVE), 5) == {7: [TWO, THREE], 6: [FOUR], 5: [FIVE]}


def test_what_lies_below_the_prefix_is_not_sent() -> None:
    one = replication()
    one.sent(PEERS, 3)
    assert one.by_sent(PEERS, 8) == {8: [TWO, THREE]}


def test_an_answer_is_overdue_after_a_while() -> None:
    one = replication()
    one.sent(PEERS, 3)
    waits = [one.overdue(PEERS, 0, 3) for _ in range(limits.RESEND_TICKS)]
    assert waits == [[]] * (limits.RESEND_TICKS - 1) + [[TWO, THREE]]


def test_an_answer_that_brings_something_new_buys_time() -> None:
    one = replication()
    one.sent(PEERS, 3)
    for _ in range(limits.RESEND_TICKS - 1):
        one.overdue(PEERS, 0, 3)
    one.on_match(TWO, 2)
    assert one.overdue(PEERS, 0, 3) == [THREE]


@pytest.mark.parametrize(("match", "chosen"), [(3, 0), (0, 3)])
def test_nothing_is_overdue_of_what_is_answered_or_chosen(match: Slot, chosen: Slot) -> None:
    one = replication(r2=match)
    assert [one.overdue((TWO,), chosen, 3) for _ in range(2 * limits.RESEND_TICKS)] == [[]] * 2 * limits.RESEND_TICKS


def test_a_hastened_answer_is_overdue_at_once() -> None:
    one = replication()
    one.sent(PEERS, 3)
    one.hasten(TWO)
    one.hasten(ReplicaId(9))
    assert one.overdue(PEERS, 0, 3) == [TWO]


@pytest.mark.parametrize(("known", "again"), [(2, 4), (6, 6)])
def test_what_is_sent_again_lies_behind_all_that_is_known_to_agree(known: Slot, again: Slot) -> None:
    one = replication(r2=4)
    one.sent((TWO,), 9)
    one.rewind(TWO, known)
    assert one.by_sent((TWO,), 0) == {again: [TWO]}
    assert one.overdue((TWO,), 0, 9) == []


def test_what_was_answered_need_not_be_sent() -> None:
    one = replication()
    one.rewind(TWO, 0)
    one.on_match(TWO, 5)
    assert one.by_sent((TWO,), 0) == {5: [TWO]}

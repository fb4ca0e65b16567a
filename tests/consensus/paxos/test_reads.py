"""Read confirmation: one round serves all that waited when it began, and counts only words given in it."""

from __future__ import annotations

from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO

from quorate.consensus.paxos.reads import Barrier, ReadConfirmation

OF_FIVE = (ONE, TWO, THREE, FOUR, FIVE)


def barrier(reader: int, query: int = 1, slot: int = 7) -> Barrier:
    return Barrier(OF_FIVE[reader - 1], query, slot)


def test_a_lone_member_confirms_itself() -> None:
    assert ReadConfirmation(ONE, (ONE,)).ask(barrier(1))


def test_among_three_a_followers_question_is_its_word() -> None:
    reads = ReadConfirmation(ONE, (ONE, TWO, THREE))
    assert reads.ask(barrier(2))
    assert not reads.ask(barrier(1))


def test_a_round_ends_with_a_quorum() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    assert not reads.ask(barrier(2))
    assert reads.begin_round()
    assert reads.on_ack(THREE, reads.round) == []
    assert reads.on_ack(THREE, reads.round) == []
    assert reads.on_ack(FOUR, reads.round) == [barrier(2)]
    assert reads.on_ack(FIVE, reads.round) == []


def test_words_of_earlier_rounds_do_not_count() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    reads.ask(barrier(2))
    reads.begin_round()
    for replica in (THREE, FOUR, FIVE):
        assert reads.on_ack(replica, reads.round - 1) == []


def test_whoever_asks_during_a_round_waits_for_the_next() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    reads.ask(barrier(2))
    assert reads.begin_round()
    reads.ask(barrier(3))
    assert not reads.begin_round()
    reads.on_ack(FOUR, reads.round)
    assert reads.on_ack(FIVE, reads.round) == [barrier(2)]
    assert reads.begin_round()
    reads.on_ack(FOUR, reads.round)
    assert reads.on_ack(FIVE, reads.round) == [barrier(3)]


def test_one_round_serves_many() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    asked = [barrier(2), barrier(3), barrier(1, query=9)]
    for one in asked:
        reads.ask(one)
    reads.begin_round()
    reads.on_ack(FOUR, reads.round)
    assert reads.on_ack(FIVE, reads.round) == asked


def test_a_repeated_question_takes_no_second_place() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    reads.ask(barrier(2, slot=7))
    reads.ask(barrier(2, slot=8))
    reads.begin_round()
    reads.on_ack(FOUR, reads.round)
    assert reads.on_ack(FIVE, reads.round) == [barrier(2, slot=8)]


def test_nobody_waits_no_round() -> None:
    assert not ReadConfirmation(ONE, OF_FIVE).begin_round()


def test_who_loses_leadership_answers_nobody() -> None:
    reads = ReadConfirmation(ONE, OF_FIVE)
    reads.ask(barrier(2))
    reads.begin_round()
    reads.ask(barrier(3))
    reads.reset()
    assert reads.on_ack(FOUR, reads.round) == reads.on_ack(FIVE, reads.round) == []
    assert not reads.begin_round()

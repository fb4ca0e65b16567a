"""Read confirmation: one round serves all that waited when it began, and counts only words given in it."""

from __future__ import annotations

from tests.consensus.conversation import FIVE, FOUR, ONE, THREE, TWO

from quorate.consensus.reads import Barrier, ReadConfirmation

OF_THREE = (ONE, TWO, THREE)
OF_FIVE = (ONE, TWO, THREE, FOUR, FIVE)


def barrier(reader: int, query: int = 1, slot: int = 7) -> Barrier:
    return Barrier(OF_FIVE[reader - 1], query, slot)


def asked(*barriers: Barrier) -> ReadConfirmation:
    """Return the confirmation, at the first of five, of barriers none of which is confirmed yet."""
    reads = ReadConfirmation(ONE)
    assert not any(reads.ask(each, OF_FIVE) for each in barriers)
    return reads


def test_a_lone_member_confirms_itself() -> None:
    assert ReadConfirmation(ONE).ask(barrier(1), (ONE,))


def test_among_three_a_followers_question_is_its_word() -> None:
    assert ReadConfirmation(ONE).ask(barrier(2), OF_THREE)
    assert not ReadConfirmation(ONE).ask(barrier(1), OF_THREE)


def test_a_learners_question_is_nobodys_word() -> None:
    assert not ReadConfirmation(ONE).ask(barrier(4), OF_THREE)


def test_a_round_ends_with_a_quorum() -> None:
    reads = asked(barrier(2))
    assert reads.begin_round()
    assert reads.on_ack(THREE, reads.round, OF_FIVE) == []
    assert reads.on_ack(THREE, reads.round, OF_FIVE) == []
    assert reads.on_ack(FOUR, reads.round, OF_FIVE) == [barrier(2)]
    assert reads.on_ack(FIVE, reads.round, OF_FIVE) == []


def test_only_voters_are_counted_at_the_end_of_a_round() -> None:
    """Who acknowledges as a learner, or was removed meanwhile, adds nothing."""
    reads = asked(barrier(2))
    reads.begin_round()
    assert reads.on_ack(FOUR, reads.round, OF_THREE) == []
    assert reads.on_ack(TWO, reads.round, OF_THREE) == [barrier(2)]


def test_words_of_earlier_rounds_do_not_count() -> None:
    reads = asked(barrier(2))
    reads.begin_round()
    for replica in (THREE, FOUR, FIVE):
        assert reads.on_ack(replica, reads.round - 1, OF_FIVE) == []


def test_whoever_asks_during_a_round_waits_for_the_next() -> None:
    reads = asked(barrier(2))
    assert reads.begin_round()
    reads.ask(barrier(3), OF_FIVE)
    assert not reads.begin_round()
    reads.on_ack(FOUR, reads.round, OF_FIVE)
    assert reads.on_ack(FIVE, reads.round, OF_FIVE) == [barrier(2)]
    assert reads.begin_round()
    reads.on_ack(FOUR, reads.round, OF_FIVE)
    assert reads.on_ack(FIVE, reads.round, OF_FIVE) == [barrier(3)]


def test_one_round_serves_many() -> None:
    questions = [barrier(2), barrier(3), barrier(1, query=9)]
    reads = asked(*questions)
    reads.begin_round()
    reads.on_ack(FOUR, reads.round, OF_FIVE)
    assert reads.on_ack(FIVE, reads.round, OF_FIVE) == questions


def test_a_repeated_question_takes_no_second_place() -> None:
    reads = asked(barrier(2, slot=7), barrier(2, slot=8))
    reads.begin_round()
    reads.on_ack(FOUR, reads.round, OF_FIVE)
    assert reads.on_ack(FIVE, reads.round, OF_FIVE) == [barrier(2, slot=8)]


def test_nobody_waits_no_round() -> None:
    assert not ReadConfirmation(ONE).begin_round()


def test_who_loses_leadership_answers_nobody() -> None:
    reads = asked(barrier(2))
    reads.begin_round()
    reads.ask(barrier(3), OF_FIVE)
    reads.reset()
    assert [reads.on_ack(voter, reads.round, OF_FIVE) for voter in (FOUR, FIVE)] == [[], []]
    assert not reads.begin_round()

"""Catching up: who is asked for what is missing, and when."""

from __future__ import annotations

import random

from tests.consensus.conversation import FOUR, ONE, THREE, TWO

from quorate import limits
from quorate.consensus.catchup import PATIENCE_TICKS, CatchUp
from quorate.types import ReplicaId, Slot


def catch_up(*reached: tuple[ReplicaId, Slot]) -> CatchUp:
    one = CatchUp(random.Random(1))
    for peer, slot in reached:
        one.hear_of(peer, slot)
    return one


def test_a_peer_that_is_ahead_is_asked_after_some_patience_and_once() -> None:
    one = catch_up((TWO, 3))
    for _ in range(PATIENCE_TICKS):
        assert one.peer_to_ask(0, at_once=False) is None
        one.tick(0)
    assert one.peer_to_ask(0, at_once=False) == TWO
    assert one.peer_to_ask(0, at_once=True) is None
    for _ in range(limits.RESEND_TICKS):
        one.tick(0)
    assert one.peer_to_ask(0, at_once=False) == TWO


def test_a_prefix_that_grows_needs_no_help() -> None:
    one = catch_up((TWO, 3))
    for _ in range(3 * PATIENCE_TICKS):
        one.tick(0)
        one.moved()
        assert one.peer_to_ask(0, at_once=False) is None


def test_a_far_gap_needs_no_patience() -> None:
    assert catch_up((TWO, limits.WINDOW_SLOTS)).peer_to_ask(0, at_once=False) is None
    assert catch_up((TWO, limits.WINDOW_SLOTS + 1)).peer_to_ask(0, at_once=False) == TWO


def test_after_an_answer_the_next_question_may_follow() -> None:
    one = catch_up((TWO, 3))
    assert one.peer_to_ask(0, at_once=True) == TWO
    one.answered()
    assert one.peer_to_ask(0, at_once=True) == TWO


def test_nobody_is_asked_when_nobody_is_ahead() -> None:
    assert catch_up((TWO, 5), (THREE, 4)).peer_to_ask(5, at_once=True) is None


def test_a_peers_prefix_never_falls() -> None:
    one = catch_up((TWO, 5), (TWO, 3))
    assert one.reached == {TWO: 5}
    assert one.chosen_known == 5


def test_every_peer_that_is_ahead_is_asked_in_time() -> None:
    """A dead peer is routed around."""
    one = catch_up((TWO, 9), (THREE, 9), (FOUR, 9))
    asked = set()
    for _ in range(50):
        asked.add(one.peer_to_ask(0, at_once=True))
        one.answered()
    assert asked == {TWO, THREE, FOUR}


def test_a_peer_that_trimmed_what_comes_next_is_not_asked_again() -> None:
    one = catch_up((TWO, 9), (THREE, 9))
    one.refused(TWO, 4)
    for _ in range(20):
        assert one.peer_to_ask(0, at_once=True) == THREE
        one.answered()


def test_a_refusal_frees_the_way_for_the_next_question() -> None:
    one = catch_up((TWO, 9))
    assert one.peer_to_ask(0, at_once=True) == TWO
    one.hear_of(THREE, 9)
    one.refused(TWO, 4)
    assert one.peer_to_ask(0, at_once=True) == THREE


def test_once_a_snapshot_reaches_its_base_a_peer_that_trimmed_is_asked_again() -> None:
    one = catch_up((TWO, 9))
    one.refused(TWO, 4)
    one.refused(TWO, 2)
    assert one.peer_to_ask(3, at_once=True) is None
    assert one.peer_to_ask(4, at_once=True) == TWO


def test_who_is_no_member_any_more_is_forgotten() -> None:
    one = catch_up((TWO, 9), (THREE, 5))
    one.refused(TWO, 4)
    one.keep((ONE, THREE))
    assert one.reached == {THREE: 5}
    one.hear_of(TWO, 9)
    assert one.peer_to_ask(0, at_once=True) in (TWO, THREE)


def test_of_no_peers_nothing_is_known() -> None:
    assert catch_up().chosen_known == 0

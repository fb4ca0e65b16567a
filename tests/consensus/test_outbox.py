"""The outbox: what vouches for state waits for the disk; what a replica says to itself waits too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.consensus.conversation import ONE, THREE, TWO

from quorate.consensus.core import Effect, Persist, Send, Trace
from quorate.consensus.outbox import Outbox
from quorate.types import NO_BALLOT, Slot


class Desk:
    """An outbox, and whether there is something to persist."""

    def __init__(self) -> None:
        self.out = Outbox(ONE, stored_chosen=0)
        self.dirty = False
        self.chosen: Slot = 0
        self.heard: list[Any] = []

    def settle(self) -> list[Effect]:
        self.out.settle(self.take_persist, self.heard.append)
        effects = self.out.effects
        self.out.begin()
        return effects

    def take_persist(self, seq: int) -> Persist | None:
        dirty, self.dirty = self.dirty, False
        return persist(seq, self.chosen) if dirty else None


def persist(seq: int, chosen: Slot = 0) -> Persist:
    return Persist(seq, NO_BALLOT, (), chosen)


def test_what_vouches_for_nothing_leaves_at_once_and_to_nobody_nothing_leaves() -> None:
    desk = Desk()
    desk.out.send((TWO,), "a")
    desk.out.send((), "b")
    desk.out.trace("what", why="because")
    assert desk.settle() == [Send((TWO,), "a"), Trace("what", {"why": "because"})]


def test_what_vouches_for_a_change_follows_its_persist_and_waits_for_it() -> None:
    desk = Desk()
    desk.dirty = True
    desk.out.vouch((TWO, THREE), "voted")
    assert desk.settle() == [persist(1), Send((TWO, THREE), "voted", after=1)]


def test_without_a_change_it_waits_for_the_last_persist_and_once_that_is_durable_for_nothing() -> None:
    desk = Desk()
    desk.dirty = True
    desk.settle()
    desk.out.vouch((TWO,), "again")
    assert desk.settle() == [Send((TWO,), "again", after=1)]
    desk.out.on_persisted(1)
    desk.out.vouch((TWO,), "and again")
    assert desk.settle() == [Send((TWO,), "and again", after=0)]


def test_what_speaks_for_an_older_persist_alone_does_not_wait_for_younger_ones() -> None:
    desk = Desk()
    for _ in range(2):
        desk.dirty = True
        desk.settle()
    desk.out.vouch((TWO,), "promise", after=1)
    assert desk.settle() == [Send((TWO,), "promise", after=1)]
    desk.out.on_persisted(1)
    desk.out.vouch((TWO,), "promise", after=1)
    assert desk.settle() == [Send((TWO,), "promise", after=0)]


def test_a_replica_hears_itself_once_it_is_durable_and_is_never_sent_to() -> None:
    desk = Desk()
    desk.dirty = True
    desk.out.vouch((ONE, TWO), "voted")
    assert desk.settle() == [persist(1), Send((TWO,), "voted", after=1)]
    assert desk.heard == []
    desk.out.on_persisted(1)
    assert desk.settle() == []
    assert desk.heard == ["voted"]


def test_a_replica_hears_itself_in_the_order_in_which_it_spoke() -> None:
    desk = Desk()
    desk.dirty = True
    desk.out.vouch((ONE,), "first")
    desk.settle()
    desk.out.on_persisted(1)
    desk.out.vouch((ONE,), "second")
    desk.settle()
    assert desk.heard == ["first", "second"]


def test_what_comes_of_hearing_oneself_is_persisted_too() -> None:
    desk = Desk()

    def hear(message: Any) -> None:
        desk.dirty = message == "one"
        desk.out.vouch((TWO,), f"heard {message}")

    desk.out.vouch((ONE,), "one")
    desk.out.settle(desk.take_persist, hear)
    assert desk.out.effects == [persist(1), Send((TWO,), "heard one", after=1)]


def test_the_stored_prefix_is_that_of_the_last_durable_persist() -> None:
    desk = Desk()
    for chosen in (3, 5, 8):
        desk.dirty, desk.chosen = True, chosen
        desk.settle()
    desk.out.on_persisted(2)
    assert desk.out.stored_chosen == 5
    desk.out.on_persisted(3)
    assert desk.out.stored_chosen == 8


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_persisted_out_of_order_is_a_broken_invariant(seq: int) -> None:
    desk = Desk()
    for _ in range(2):
        desk.dirty = True
        desk.settle()
    desk.out.on_persisted(1)
    with pytest.raises(AssertionError):
        desk.out.on_persisted(seq)

"""Reads on their way through a barrier: arrived, asked for, released to wait for their slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quorate.types import Slot


class Answer(NamedTuple):
    """What a client is told: the state after `slot`, and a write's status or a register's value."""

    slot: Slot
    value: int


Done = Callable[[Answer | None], None]
"""Told once what came of a call, or None if it was refused; if the process dies it is never told."""


class Read(NamedTuple):
    """A client's read of one register."""

    register: int
    done: Done


class Reads:
    """All reads of one process; one barrier is outstanding at a time."""

    def __init__(self) -> None:
        self.arrived: list[Read] = []
        self.asked: list[Read] = []
        self._released: list[tuple[Slot, list[Read]]] = []
        self.token = 0
        self.observed: Slot = 0
        """What clients had seen when the outstanding barrier was asked for."""

    def ask(self, observed: Slot) -> None:
        """Let one barrier serve all that have arrived."""
        self.asked, self.arrived = self.arrived, []
        self.token += 1
        self.observed = observed

    def release(self, slot: Slot) -> None:
        """The barrier is answered: its reads wait for `slot` only."""
        self._released.append((slot, self.asked))
        self.asked = []

    def take(self, delivered: Slot) -> list[Read]:
        """Return the reads that a replica which has delivered up to `delivered` may answer."""
        ready = [read for slot, reads in self._released if slot <= delivered for read in reads]
        if ready:
            self._released = [(slot, reads) for slot, reads in self._released if slot > delivered]
        return ready

"""Clients: each has one call outstanding, a numbered write or a read, and tries until it is answered.

A call that is refused, or not answered in time, is tried again at a replica drawn anew; a write keeps its number, as a
client keeps its Idempotency-Key. What any client was told is never forgotten: `Invariants` holds later answers to it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial

from quorate.sim.clock import TICK, Clock
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.types import Slot

REFUSED_TICKS_MAX = 5
"""Longest pause before a refused call is tried again."""

LEADER_SHARE = 0.5
"""How often a call goes to whoever believes to lead: the deposed, above all, must be asked."""


class Client:
    """Makes one call after the other: a write for each True that `calls` yields, a read for each False."""

    def __init__(
        self,
        calls: Iterator[bool],
        numbers: Iterator[int],
        machines: Sequence[Machine],
        think_ticks: int,
        patience_ticks: int,
        clock: Clock,
        rng: random.Random,
        invariants: Invariants,
    ) -> None:
        self._calls = calls
        self._numbers = numbers
        self._machines = machines
        self._clock = clock
        self._rng = rng
        self._invariants = invariants
        self._think = think_ticks * TICK
        self._patience = patience_ticks * TICK
        self._write = False
        self._number = 0
        self._attempt = 0
        self.waits = False
        """A call is outstanding."""
        self.reads_done = 0

    def call(self) -> None:
        """Begin the next call, if there is one."""
        write = next(self._calls, None)
        if write is None:
            return
        self.waits = True
        self._write, self._number = write, next(self._numbers)
        if write:
            self._invariants.on_submitted(self._number)
        self._try()

    def _try(self) -> None:
        self._attempt += 1
        number, done = self._number, partial(self._done, self._number, self._attempt)
        machine = self._pick()
        self._clock.after(self._patience, partial(self._try_again, self._attempt))
        if self._write:
            reached = machine.reach(lambda process: process.submit(number, done))
        else:
            reached = machine.reach(lambda process: process.read(done))
        if not reached:
            done(None)

    def _pick(self) -> Machine:
        leaders = [machine for machine in self._machines if machine.leads()]
        if leaders and self._rng.random() < LEADER_SHARE:
            return self._rng.choice(leaders)
        return self._rng.choice(self._machines)

    def _done(self, number: int, attempt: int, slot: Slot | None) -> None:
        if number != self._number or not self.waits:
            return  # of a call that was answered to another attempt
        if slot is None:
            pause = self._rng.randint(TICK // 4, REFUSED_TICKS_MAX * TICK)
            self._clock.after(pause, partial(self._try_again, attempt))
            return
        self._invariants.on_answered(slot, number if self._write else None)
        self.waits = False
        self.reads_done += not self._write
        self._clock.after(self._rng.randint(0, self._think), self.call)

    def _try_again(self, attempt: int) -> None:
        if self.waits and attempt == self._attempt:
            self._try()

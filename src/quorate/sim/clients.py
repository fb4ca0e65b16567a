"""Clients: each has one call outstanding, a numbered write or a read, and tries until it is answered.

A call that is refused, or not answered in time, is tried again at a replica drawn anew; a write keeps its number, as a
client keeps its Idempotency-Key. Such a key is good for as long as replicas remember it: past that the client gives up
and never knows what came of its write. What any client was told is never forgotten: `Invariants` holds later answers to
it, and in a share of the seeds the whole history is searched for a linearization.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from quorate.sim.app import DONE, SESSION_COMMANDS, register_of
from quorate.sim.checker import UNSEEN, Operation, Read, Register, Write, check
from quorate.sim.clock import TICK, Clock
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.reads import Answer
from quorate.sim.violation import require
from quorate.types import ReplicaId

REFUSED_TICKS_MAX = 5
"""Longest pause before a refused call is tried again."""

LEADER_SHARE = 0.5
"""How often a call goes to whoever believes to lead: the deposed, above all, must be asked."""

KEY_COMMANDS = 3 * SESSION_COMMANDS
"""After so many commands of all clients a write is not tried again: `limits.TOMBSTONE_WINDOW` less a window."""


class Surroundings(NamedTuple):
    """What all clients of a world share."""

    clock: Clock
    rng: random.Random
    invariants: Invariants
    numbers: Iterator[int]
    history: list[Operation]
    patience_ticks: int


class Client:
    """Makes one call after the other: a write for each True that `calls` yields, a read for each False."""

    def __init__(
        self,
        name: int,
        calls: Iterator[bool],
        machines: dict[ReplicaId, Machine],
        think_ticks: int,
        surroundings: Surroundings,
    ) -> None:
        self._name = name
        self._calls = calls
        self._machines = machines
        self._think = think_ticks * TICK
        self._clock, self._rng, self._invariants, self._numbers, self._history, patience = surroundings
        self._patience = patience * TICK
        self._write = False
        self._number = 0
        self._attempt = 0
        self._called = 0
        self._called_index = 0
        self.waits = False
        """A call is outstanding."""
        self.reads_done = 0
        self.retries = 0

    def call(self) -> None:
        """Begin the next call, if there is one."""
        write = next(self._calls, None)
        if write is None:
            return
        self.waits = True
        self._write, self._number = write, next(self._numbers)
        self._called, self._called_index = self._clock.now, self._invariants.index
        if write:
            self._invariants.on_submitted(self._number)
        self._try()

    def _try(self) -> None:
        self._attempt += 1
        number, done = self._number, partial(self._done, self._number, self._attempt)
        there = [machine for machine in self._machines.values() if not machine.gone]
        if not there or (self._write and self._invariants.index > self._called_index + KEY_COMMANDS):
            self._give_up()
            return
        machine = self._pick(there)
        self._clock.after(self._patience, partial(self._try_again, self._attempt))
        if self._write:
            reached = machine.reach(lambda process: process.submit(number, done))
        else:
            reached = machine.reach(lambda process: process.read(register_of(number), done))
        if not reached:
            done(None)

    def _pick(self, there: list[Machine]) -> Machine:
        leaders = [machine for machine in there if machine.leads()] if self._rng.random() < LEADER_SHARE else []
        return self._rng.choice(leaders or there)

    def _done(self, number: int, attempt: int, answer: Answer | None) -> None:
        if number != self._number or not self.waits:
            return  # of a call that was answered to another attempt
        if answer is None:
            pause = self._rng.randint(TICK // 4, REFUSED_TICKS_MAX * TICK)
            self._clock.after(pause, partial(self._try_again, attempt))
        elif self._write and answer.value != DONE:
            self._give_up()
        else:
            self._invariants.on_answered(answer.slot, number if self._write else None)
            self._end(answer.value)

    def _try_again(self, attempt: int) -> None:
        if self.waits and attempt == self._attempt:
            self.retries += 1
            self._try()

    def _end(self, value: int) -> None:
        self._record(value, self._clock.now)
        self.reads_done += not self._write
        self._go_on()

    def _give_up(self) -> None:
        self._record(None, None)
        self._go_on()

    def _go_on(self) -> None:
        self.waits = False
        self._clock.after(self._rng.randint(0, self._think), self.call)

    def _record(self, value: int | None, returned: int | None) -> None:
        register = register_of(self._number)
        if self._write:
            self._history.append(Operation(self._name, register, Write(self._number), UNSEEN, self._called, returned))
        elif returned is not None:
            self._history.append(Operation(self._name, register, Read(), value, self._called, returned))


def judge_history(history: list[Operation]) -> None:
    """Search a whole history for a linearization of its registers."""
    verdict = check(history, Register(0))
    require(verdict.linearizable, "histories are linearizable", verdict.reason)

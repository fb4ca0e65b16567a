"""What a client does with answers, refusals and silence."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import cast

from quorate.sim.clients import REFUSED_TICKS_MAX, Client
from quorate.sim.clock import TICK, Clock
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.process import Done, Process

PATIENCE_TICKS = 10


class Counter:
    """Stands where a machine stands, takes down the calls that reach it, and answers none by itself."""

    def __init__(self) -> None:
        self.alive = True
        self.leader = False
        self.submitted: list[tuple[int, Done]] = []
        self.reads: list[Done] = []

    def reach(self, happening: Callable[[Process], None]) -> bool:
        if self.alive:
            happening(cast(Process, self))
        return self.alive

    def leads(self) -> bool:
        return self.leader

    def submit(self, command: int, done: Done) -> None:
        self.submitted.append((command, done))

    def read(self, done: Done) -> None:
        self.reads.append(done)


class Bench:
    def __init__(self, *calls: bool) -> None:
        self.clock = Clock()
        self.judge = Invariants({})
        self.machine = Counter()
        numbers: Iterator[int] = itertools.count(1)
        machines = [cast(Machine, self.machine)]
        circumstances = (self.clock, random.Random(1), self.judge)
        self.client = Client(iter(calls), numbers, machines, 0, PATIENCE_TICKS, *circumstances)
        self.client.call()

    def ticks(self, count: int) -> None:
        self.clock.run_until(self.clock.now + count * TICK)

    @property
    def commands(self) -> list[int]:
        return [command for command, _ in self.machine.submitted]


def test_calls_follow_one_another_until_there_are_none() -> None:
    bench = Bench(True, False, True)
    bench.machine.submitted[0][1](4)
    bench.ticks(1)
    bench.machine.reads[0](5)
    bench.ticks(1)
    bench.machine.submitted[1][1](6)
    bench.ticks(1)
    assert bench.commands == [1, 3]
    assert not bench.client.waits
    assert bench.client.reads_done == 1
    assert bench.judge.observed == 6


def test_silence_is_answered_by_the_same_command_again() -> None:
    bench = Bench(True)
    bench.ticks(PATIENCE_TICKS)
    assert bench.commands == [1, 1]
    assert bench.client.waits
    bench.machine.submitted[0][1](3)
    assert not bench.client.waits
    bench.ticks(3 * PATIENCE_TICKS)
    assert bench.commands == [1, 1]


def test_a_refusal_is_tried_again_soon_and_only_once() -> None:
    bench = Bench(True)
    bench.machine.submitted[0][1](None)
    bench.ticks(REFUSED_TICKS_MAX)
    assert bench.commands == [1, 1]
    bench.ticks(PATIENCE_TICKS - REFUSED_TICKS_MAX)
    assert bench.commands == [1, 1]


def test_a_dead_replica_counts_as_a_refusal() -> None:
    bench = Bench(False)
    bench.machine.alive = False
    bench.machine.reads[0](None)
    bench.ticks(REFUSED_TICKS_MAX)
    bench.machine.alive = True
    bench.ticks(REFUSED_TICKS_MAX)
    assert len(bench.machine.reads) == 2


def test_a_late_answer_to_an_earlier_call_is_nobodys() -> None:
    bench = Bench(False, True)
    first = bench.machine.reads[0]
    first(1)
    bench.ticks(1)
    first(9)
    assert bench.client.waits
    assert bench.judge.observed == 1


def test_half_of_all_calls_seek_a_leader() -> None:
    bench = Bench()
    machines = [Counter() for _ in range(10)]
    machines[3].leader = True
    client = Client(
        itertools.repeat(False),
        itertools.count(1),
        cast(list[Machine], machines),
        0,
        PATIENCE_TICKS,
        bench.clock,
        random.Random(1),
        bench.judge,
    )
    client.call()
    bench.ticks(200 * PATIENCE_TICKS)
    asked = [len(machine.reads) for machine in machines]
    assert 80 < asked[3] < 140
    assert sum(asked) == 201
    assert all(asked)

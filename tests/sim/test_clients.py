"""What a client does with answers, refusals and silence."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from quorate.sim.app import DONE
from quorate.sim.checker import Operation
from quorate.sim.clients import KEY_COMMANDS, REFUSED_TICKS_MAX, Client, Surroundings, judge_history
from quorate.sim.clock import TICK, Clock
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.process import Process
from quorate.sim.reads import Answer, Done
from quorate.sim.rules_paxos import PaxosRules
from quorate.sim.violation import Violation
from quorate.types import ReplicaId, founding

PATIENCE_TICKS = 10


class Counter:
    """Stands where a machine stands, takes down the calls that reach it, and answers none by itself."""

    def __init__(self) -> None:
        self.alive = True
        self.leader = False
        self.gone = ""
        self.submitted: list[tuple[int, Done]] = []
        self.reads: list[Done] = []
        self.registers: list[int] = []

    def reach(self, happening: Callable[[Process], None]) -> bool:
        if self.alive:
            happening(cast(Process, self))
        return self.alive

    def leads(self) -> bool:
        return self.leader

    def submit(self, command: int, done: Done) -> None:
        self.submitted.append((command, done))

    def read(self, register: int, done: Done) -> None:
        self.reads.append(done)
        self.registers.append(register)


def done(slot: int, value: int = DONE) -> Answer:
    return Answer(slot, value)


class Bench:
    def __init__(self, *calls: bool) -> None:
        self.clock = Clock()
        self.judge = Invariants(founding({}), PaxosRules)
        self.machine = Counter()
        self.history: list[Operation] = []
        numbers: Iterator[int] = itertools.count(1)
        self.surroundings = Surroundings(
            self.clock, random.Random(1), self.judge, numbers, self.history, PATIENCE_TICKS
        )
        machines = {ReplicaId(1): cast(Machine, self.machine)}
        self.client = Client(1, iter(calls), machines, 0, self.surroundings)
        self.client.call()

    def ticks(self, count: int) -> None:
        self.clock.run_until(self.clock.now + count * TICK)

    @property
    def commands(self) -> list[int]:
        return [command for command, _ in self.machine.submitted]


def test_calls_follow_one_another_until_there_are_none() -> None:
    bench = Bench(True, False, True)
    bench.machine.submitted[0][1](done(4))
    bench.ticks(1)
    bench.machine.reads[0](done(5, 0))
    bench.ticks(1)
    bench.machine.submitted[1][1](done(6))
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
    bench.machine.submitted[0][1](done(3))
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
    first(done(1, 0))
    bench.ticks(1)
    first(done(9, 0))
    assert bench.client.waits
    assert bench.judge.observed == 1


def test_half_of_all_calls_seek_a_leader() -> None:
    bench = Bench()
    machines = [Counter() for _ in range(10)]
    machines[3].leader = True
    by_id = {ReplicaId(number): cast(Machine, machine) for number, machine in enumerate(machines)}
    client = Client(2, itertools.repeat(False), by_id, 0, bench.surroundings)
    client.call()
    bench.ticks(200 * PATIENCE_TICKS)
    asked = [len(machine.reads) for machine in machines]
    assert 80 < asked[3] < 140
    assert sum(asked) == 201
    assert all(asked)


def test_those_that_are_gone_are_not_asked_and_when_all_are_the_client_gives_up() -> None:
    bench = Bench(False)
    bench.machine.gone = "removed"
    bench.ticks(PATIENCE_TICKS)
    assert not bench.client.waits
    assert len(bench.machine.reads) == 1


def test_a_key_that_may_be_forgotten_is_not_tried_again() -> None:
    bench = Bench(True)
    bench.judge.index = KEY_COMMANDS + 1
    bench.ticks(PATIENCE_TICKS)
    assert not bench.client.waits
    assert bench.commands == [1]
    assert bench.history[0].returned is None


def test_a_write_whose_session_has_passed_has_an_unknown_outcome() -> None:
    bench = Bench(True)
    bench.machine.submitted[0][1](done(4, 409))
    assert not bench.client.waits
    assert bench.history[0].returned is None
    assert bench.judge.observed == 0


def test_the_history_is_searched() -> None:
    bench = Bench(True, False)
    bench.machine.submitted[0][1](done(1))
    bench.ticks(1)
    bench.machine.reads[0](done(1, 0))
    write, read = bench.history
    judge_history([write, read])  # they touch different registers
    with pytest.raises(Violation, match="histories are linearizable"):
        judge_history([write, read._replace(key=write.key, called=read.called + 1)])

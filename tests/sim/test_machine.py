"""Lives, deaths and pauses of one machine."""

from __future__ import annotations

import random

from quorate.consensus.core import Recovered
from quorate.consensus.paxos.messages import PaxosMessage, Preempted
from quorate.consensus.paxos.node import PaxosCore
from quorate.sim.clock import TICK, Clock, Transcript
from quorate.sim.disk import Disk
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.network import Network
from quorate.sim.process import Surroundings
from quorate.sim.swarm import Faults
from quorate.types import NO_BALLOT, Ballot, ReplicaId
from quorate.wire import MessageCodec

ME = ReplicaId(1)


class Bench:
    """A machine that is a cluster of its own, and the starts of its core."""

    def __init__(self) -> None:
        self.clock = Clock()
        faults = Faults(random.Random(1), {})
        self.disk = Disk(self.clock, random.Random(1), faults, (10, 10))
        self.judge = Invariants({ME: self.disk.image})
        self.network = Network(self.clock, random.Random(1), faults, (1, 1))
        surroundings = Surroundings(MessageCodec(PaxosMessage), self.network, self.judge, Transcript(self.clock), 16)
        self.starts: list[tuple[float, Recovered]] = []
        self.machine = Machine(ME, self.build, 1, self.clock, self.disk, surroundings)

    def build(self, rng: random.Random, recovered: Recovered) -> PaxosCore:
        self.starts.append((rng.random(), recovered))
        return PaxosCore(ME, (ME,), rng, recovered)

    def ticks(self, count: int) -> None:
        self.clock.run_until(self.clock.now + count * TICK)

    def write(self, number: int) -> list[object]:
        """Submit a command; the list returned fills with the answer."""
        answers: list[object] = []
        self.judge.on_submitted(number)
        if not self.machine.reach(lambda process: process.submit(number, answers.append)):
            answers.append("unreachable")
        return answers


def booted() -> Bench:
    bench = Bench()
    bench.machine.boot()
    bench.ticks(30)
    assert bench.machine.leads()
    return bench


def test_a_dead_machine_is_out_of_reach() -> None:
    bench = Bench()
    assert bench.write(1) == ["unreachable"]
    assert not bench.machine.leads()


def test_each_life_starts_from_the_disk_with_randomness_of_its_own() -> None:
    bench = booted()
    answers = bench.write(1)
    bench.ticks(1)
    assert answers == [1]
    bench.machine.crash()
    assert bench.machine.process is None
    bench.machine.boot()
    (first_draw, fresh), (second_draw, recovered) = bench.starts
    assert first_draw != second_draw
    assert fresh.promised == NO_BALLOT
    assert recovered.promised == Ballot(1, ME)
    assert {1} == set(recovered.votes) or recovered.chosen == 1


def test_a_crash_leaves_nothing_of_the_old_life_running() -> None:
    bench = booted()
    answers = bench.write(1)
    bench.machine.crash()
    bench.machine.boot()
    bench.ticks(40)
    assert answers == []
    assert bench.machine.leads()
    assert len(bench.starts) == 2


def test_a_paused_machine_finds_everything_it_missed_in_order() -> None:
    bench = booted()
    bench.machine.pause()
    answers = bench.write(1)
    bench.network.send(ReplicaId(2), ME, MessageCodec(PaxosMessage).encode(Preempted(Ballot(9, ReplicaId(2)))))
    bench.ticks(50)
    assert answers == []
    assert bench.machine.leads()
    bench.machine.resume()
    bench.ticks(1)
    assert not bench.machine.leads()


def test_a_crash_forgets_what_a_paused_machine_missed() -> None:
    bench = booted()
    bench.machine.pause()
    answers = bench.write(1)
    bench.machine.crash()
    bench.machine.boot()
    bench.ticks(40)
    assert not bench.machine.paused
    assert answers == []

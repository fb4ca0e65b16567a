"""The simulated driver against its contract, with a core that does what the test tells it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from quorate.consensus.core import (
    Deliver,
    Effect,
    Event,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Send,
    SendChosen,
    Status,
    Tick,
    Trace,
)
from quorate.consensus.paxos.messages import Forward, Learned, PaxosMessage, Preempted
from quorate.sim.clock import Clock, Transcript
from quorate.sim.disk import Disk
from quorate.sim.invariants import Invariants, Violation, batch_of
from quorate.sim.network import Network
from quorate.sim.process import Process, Surroundings
from quorate.sim.swarm import Faults
from quorate.types import NOOP, Ballot, ReplicaId, Slot, Vote
from quorate.wire import MessageCodec

R1, R2 = ReplicaId(1), ReplicaId(2)
B1 = Ballot(1, R1)
COMMIT = 10


class ScriptedCore:
    """Records its events and answers each type with the effects the test put there."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.script: dict[type, list[Effect]] = {}
        self.open = True

    def step(self, event: Event) -> list[Effect]:
        self.events.append(event)
        return self.script.pop(type(event), [])

    def status(self) -> Status:
        return Status("follower", None, B1, 0, 0)

    def accepts_proposals(self) -> bool:
        return self.open

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> Learned:
        return Learned(first, tuple(votes), first)


class Bench:
    """One process on a disk and a network without faults; `heard` is what reached the other replica."""

    def __init__(self) -> None:
        self.clock = Clock()
        faults = Faults(random.Random(1), {})
        self.disk = Disk(self.clock, random.Random(1), faults, (COMMIT, COMMIT))
        other = Disk(self.clock, random.Random(1), faults, (COMMIT, COMMIT))
        self.judge = Invariants({R1: self.disk.image, R2: other.image})
        self.other = other.image
        network = Network(self.clock, random.Random(1), faults, (1, 1))
        self.heard: list[Any] = []
        codec = MessageCodec(PaxosMessage)
        network.attach(R2, lambda _sender, data: self.heard.append(codec.decode(data)))
        surroundings = Surroundings(codec, network, self.judge, Transcript(self.clock), learn_slots=2)
        self.codec = codec
        self.core = ScriptedCore()
        self.process = Process(R1, 1, self.core, self.disk, surroundings)
        self.disk.on_durable = self.process.persisted
        self.answers: list[Slot | None] = []

    def when(self, event: type, *effects: Effect) -> None:
        self.core.script[event] = list(effects)

    def wait(self, units: int) -> None:
        self.clock.run_until(self.clock.now + units)

    def choose(self, slot: Slot, command: int) -> Deliver:
        """Put the command on both disks, and return its delivery."""
        self.judge.on_submitted(command)
        for image in (self.disk.image, self.other):
            image.votes[slot] = Vote(B1, batch_of(command))
        return Deliver(slot, batch_of(command))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_send_waits_for_its_persist_and_one_that_vouches_for_nothing_does_not(bench: Bench) -> None:
    bench.when(
        Tick,
        Persist(1, B1, [], 0),
        Send((R2,), Preempted(B1), after=1),
        Send((R2,), Forward(batch_of(1))),
        Trace("note", {}),
    )
    bench.process.tick()
    bench.wait(COMMIT - 1)
    assert bench.heard == [Forward(batch_of(1))]
    bench.wait(3)
    assert bench.heard[1:] == [Preempted(B1)]
    assert bench.core.events == [Tick(), Persisted(1)]


def test_messages_reach_the_core_decoded(bench: Bench) -> None:
    bench.process.receive(R2, bench.codec.encode(Preempted(B1)))
    assert bench.core.events == [Received(R2, Preempted(B1))]


def test_chosen_values_are_read_from_the_disk_within_the_limit(bench: Bench) -> None:
    for slot in (1, 2, 3):
        bench.judge.on_deliver(R1, *bench.choose(slot, slot))
    bench.when(Tick, SendChosen(R2, 1, 3))
    bench.process.tick()
    bench.wait(1)
    assert bench.heard == [Learned(1, (Vote(B1, batch_of(1)), Vote(B1, batch_of(2))), 1)]


def test_chosen_values_that_are_not_on_disk_break_the_contract(bench: Bench) -> None:
    bench.when(Tick, SendChosen(R2, 1, 1))
    with pytest.raises(Violation, match="what is to be sent is on disk"):
        bench.process.tick()


def test_a_write_is_answered_when_it_is_delivered_and_at_once_when_it_was(bench: Bench) -> None:
    delivery = bench.choose(1, 7)
    bench.process.submit(7, bench.answers.append)
    assert bench.core.events == [Proposed(batch_of(7))]
    assert bench.answers == []
    bench.when(Tick, delivery)
    bench.process.tick()
    assert bench.answers == [1]
    bench.process.submit(7, bench.answers.append)
    assert bench.answers == [1, 1]
    assert bench.core.events == [Proposed(batch_of(7)), Tick()]


def test_a_write_is_refused_when_the_core_takes_none(bench: Bench) -> None:
    bench.core.open = False
    bench.process.submit(7, bench.answers.append)
    assert bench.answers == [None]
    assert bench.core.events == []


def test_reads_that_arrive_while_a_barrier_is_outstanding_share_the_next_one(bench: Bench) -> None:
    for _ in range(3):
        bench.process.read(bench.answers.append)
    assert bench.core.events == [ReadRequested(1)]
    bench.when(Tick, ReadReady(1, 0))
    bench.process.tick()
    assert bench.answers == [0]
    assert bench.core.events == [ReadRequested(1), Tick(), ReadRequested(2)]
    bench.when(Tick, ReadReady(2, 0))
    bench.process.tick()
    assert bench.answers == [0, 0, 0]


def test_a_read_waits_until_its_barrier_is_delivered(bench: Bench) -> None:
    delivery = bench.choose(1, 7)
    bench.process.read(bench.answers.append)
    bench.when(Tick, ReadReady(1, 1))
    bench.process.tick()
    assert bench.answers == []
    bench.when(Tick, delivery)
    bench.process.tick()
    assert bench.answers == [1]


def test_the_next_barrier_is_asked_for_after_all_effects_of_the_step(bench: Bench) -> None:
    bench.process.read(bench.answers.append)
    bench.process.read(bench.answers.append)
    bench.when(Tick, ReadReady(1, 0), Persist(1, B1, [], 0))
    bench.when(ReadRequested, Persist(2, B1, [(1, Vote(B1, NOOP))], 0))
    bench.process.tick()
    bench.wait(2 * COMMIT)
    assert bench.core.events[-2:] == [Persisted(1), Persisted(2)]


@pytest.mark.parametrize("token", [0, 1, 2])
def test_a_barrier_nobody_waits_for_breaks_the_contract(bench: Bench, token: int) -> None:
    bench.when(Tick, ReadReady(token, 0))
    with pytest.raises(Violation, match="barriers are answered once"):
        bench.process.tick()

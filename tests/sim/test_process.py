"""The simulated driver against its contract, with a core that does what the test tells it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.sim.court import B1, R1, R2, batch_of, members
from tests.sim.worlds import PEACE

from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Deliver,
    Effect,
    Event,
    HandOverRequested,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Reconfigured,
    Recovered,
    Send,
    SendChosen,
    SnapshotNeeded,
    Status,
    Tick,
    Trace,
    Trimmed,
)
from quorate.consensus.messages import Forward, Learned
from quorate.consensus.paxos.messages import PaxosMessage, Preempted
from quorate.sim.app import DONE, number_of
from quorate.sim.clock import TICK
from quorate.sim.kits import PAXOS
from quorate.sim.process import HAND_OVER_TICKS, Process
from quorate.sim.reads import Answer
from quorate.sim.rules import Record
from quorate.sim.swarm import Fault
from quorate.sim.violation import Violation
from quorate.sim.world import World
from quorate.storage.room import Room
from quorate.types import NOOP, Base, Membership, ReplicaId, Slot, Vote
from quorate.wire import Channel, MessageCodec, decode_batch

COMMIT = 10
CIRCUMSTANCES = PEACE._replace(replicas=2, latency=(1, 1), commit=(COMMIT, COMMIT), learn_slots=2)


class ScriptedCore:
    """Records its events and answers each type with the effects the test put there."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        self.events: list[Event] = []
        self.script: dict[type, list[Effect]] = {}
        self.open = True
        self.recovered = recovered
        self._membership = founding

    def step(self, event: Event) -> list[Effect]:
        self.events.append(event)
        return self.script.pop(type(event), [])

    def status(self) -> Status:
        return Status("follower", None, B1, 0, 0, self._membership, {})

    def accepts_proposals(self) -> bool:
        return self.open

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> Learned:
        return Learned(first, tuple(votes), first)


class Bench(World):
    """One process without a clock, on a disk and a network without faults; `heard` is what reached the other."""

    def __init__(self) -> None:
        super().__init__(CIRCUMSTANCES, PAXOS._replace(core=ScriptedCore))
        self.machine = self._new_machine(R1)
        self.other = self._new_machine(R2)
        self.heard: list[Any] = []
        self.codec = MessageCodec(PaxosMessage)
        self._network.attach(R2, self._hear)
        self.invariants.records[R2] = Record()
        self.answers: list[Answer | None] = []
        self.restart()

    def _hear(self, _: ReplicaId, channel: Channel, data: bytes) -> None:
        if channel is Channel.ORDER:
            self.heard.append(self.codec.decode(data))

    def restart(self) -> None:
        self.core = ScriptedCore(R1, self._founding, random.Random(1), self.machine.disk.image.recovered())
        self.machine.process = self.process = Process(self.machine, 1, self.core, self._founding, random.Random(1))
        self.process.start()

    def when(self, event: type, *effects: Effect) -> None:
        self.core.script[event] = list(effects)

    def wait(self, units: int) -> None:
        self.clock.run_until(self.clock.now + units)

    def choose(self, slot: Slot, number: int) -> Deliver:
        """Put the command on both disks, and return its delivery."""
        self.invariants.on_submitted(number)
        vote = Vote(B1, batch_of(number))
        self.machine.disk.image.votes[slot] = vote
        for replica in (R1, R2):
            self.invariants.records[replica].votes[slot] = vote
        return Deliver(slot, vote.batch)

    def deliver(self, slot: Slot, number: int) -> None:
        self.when(Tick, self.choose(slot, number))
        self.process.tick()


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- the driver ------------------------------------------------------------------------------------------------------


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
    bench.process.receive(R2, Channel.ORDER, bench.codec.encode(Preempted(B1)))
    assert bench.core.events == [Received(R2, Preempted(B1))]


def test_chosen_values_are_read_from_the_disk_within_the_limit(bench: Bench) -> None:
    for slot in (1, 2, 3):
        bench.deliver(slot, slot)
    bench.when(Tick, SendChosen(R2, 1, 3))
    bench.process.tick()
    bench.wait(2)
    assert bench.heard == [Learned(1, (Vote(B1, batch_of(1)), Vote(B1, batch_of(2))), 1)]


def test_chosen_values_that_are_not_on_disk_break_the_contract(bench: Bench) -> None:
    bench.when(Tick, SendChosen(R2, 1, 1))
    with pytest.raises(Violation, match="what is to be sent is on disk"):
        bench.process.tick()


def test_a_disk_without_room_takes_no_commands_and_a_full_one_no_messages(bench: Bench) -> None:
    bench.machine.disk.room = Room.LOW
    bench.process.submit(7, bench.answers.append)
    bench.process.receive(R2, Channel.ORDER, bench.codec.encode(Preempted(B1)))
    bench.machine.disk.room = Room.FULL
    bench.process.receive(R2, Channel.ORDER, bench.codec.encode(Preempted(B1)))
    assert bench.answers == [None]
    assert bench.core.events == [Received(R2, Preempted(B1))]
    assert bench._faults.hits[Fault.DISK_FULL] == 2
    for _ in range(HAND_OVER_TICKS):
        bench.process.tick()
    assert HandOverRequested() in bench.core.events


def test_changes_are_asked_for_and_answered(bench: Bench) -> None:
    refusals: list[str] = []
    change = Change(ReplicaId(3), "host3:7000")
    bench.process.change(change, refusals.append)
    assert bench.core.events == [ChangeRequested(1, change)]
    bench.when(Tick, Reconfigured(members(1, 2)), ChangeAnswered(1, "no"))
    bench.process.tick()
    assert refusals == ["no"]
    assert bench.process.membership == members(1, 2)
    bench.when(Tick, ChangeAnswered(1, ""))
    with pytest.raises(Violation, match="changes are answered once"):
        bench.process.tick()


# --- calls -----------------------------------------------------------------------------------------------------------


def test_a_write_is_answered_when_it_is_delivered_and_at_once_when_it_was(bench: Bench) -> None:
    delivery = bench.choose(1, 7)
    bench.process.submit(7, bench.answers.append)
    (proposed,) = bench.core.events
    assert isinstance(proposed, Proposed)
    assert [number_of(command) for command in decode_batch(proposed.batch)] == [7]
    assert bench.answers == []
    bench.when(Tick, delivery)
    bench.process.tick()
    assert bench.answers == [Answer(1, DONE)]
    bench.process.submit(7, bench.answers.append)
    assert bench.answers == [Answer(1, DONE)] * 2
    assert bench.core.events == [proposed, Tick()]


def test_a_write_is_refused_when_the_core_takes_none(bench: Bench) -> None:
    bench.core.open = False
    bench.process.submit(7, bench.answers.append)
    assert bench.answers == [None]
    assert bench.core.events == []


def test_a_command_is_stamped_with_the_clock_on_the_wall(bench: Bench) -> None:
    bench.machine.wall_offset_ms = -5
    for _ in range(2):
        bench.process.submit(7, bench.answers.append)
        bench.machine.wall_offset_ms += 1000
    times = [decode_batch(event.batch)[0].time_ms for event in bench.core.events if isinstance(event, Proposed)]
    assert times[1] - times[0] == 1000


def test_reads_that_arrive_while_a_barrier_is_outstanding_share_the_next_one(bench: Bench) -> None:
    for _ in range(3):
        bench.process.read(0, bench.answers.append)
    assert bench.core.events == [ReadRequested(1)]
    bench.when(Tick, ReadReady(1, 0))
    bench.process.tick()
    assert bench.answers == [Answer(0, 0)]
    assert bench.core.events == [ReadRequested(1), Tick(), ReadRequested(2)]
    bench.when(Tick, ReadReady(2, 0))
    bench.process.tick()
    assert bench.answers == [Answer(0, 0)] * 3


def test_a_read_waits_until_its_barrier_is_delivered(bench: Bench) -> None:
    delivery = bench.choose(1, 7)
    bench.process.read(7 % 5, bench.answers.append)
    bench.when(Tick, ReadReady(1, 1))
    bench.process.tick()
    assert bench.answers == []
    bench.when(Tick, delivery)
    bench.process.tick()
    assert bench.answers == [Answer(1, 7)]


def test_the_next_barrier_is_asked_for_after_all_effects_of_the_step(bench: Bench) -> None:
    bench.process.read(0, bench.answers.append)
    bench.process.read(0, bench.answers.append)
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


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_the_state_comes_back_from_snapshot_and_log(bench: Bench) -> None:
    for slot in range(1, 13):
        bench.deliver(slot, slot)
        bench.wait(3 * TICK)
    assert bench.machine.disk.image.ends() == 7  # the first replica is a third of the way ahead
    digest = bench.process.app.digest
    bench.machine.disk.image.chosen = 12
    bench.restart()
    assert bench.process.app.digest == digest
    assert bench.process.delivered == 12
    del bench.machine.disk.image.votes[9]
    with pytest.raises(Violation, match="the log reaches back to the snapshot"):
        bench.restart()


def test_a_log_is_trimmed_once_and_the_core_told(bench: Bench) -> None:
    base = Base(1, 1, B1)
    bench.process.trim(base)
    bench.process.trim(base)
    assert bench.core.events == [Trimmed(base)]


def test_a_needed_snapshot_is_asked_for_when_one_is_offered(bench: Bench) -> None:
    bench.when(Tick, SnapshotNeeded(5))
    bench.process.tick()
    assert bench.process.snapshots._needed == 5


def test_waiting_writes_are_answered_out_of_a_snapshot(bench: Bench) -> None:
    bench.deliver(1, 7)
    snapshot = bench.process.snapshot()
    bench.invariants.delivered[R1] = 0
    bench.process.delivered = 0
    bench.process.app = type(bench.process.app)()
    bench.process.submit(7, bench.answers.append)
    bench.process.install(snapshot)
    assert bench.answers == [Answer(1, DONE)]
    assert bench.process.delivered == 1

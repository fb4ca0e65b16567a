"""Checkpoints: at places told by the log, between two commands, of a service that is left alone meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replica.copies import Copy, Mesh, bodies
from tests.replica.parts import batch_of, call, command, until

from quorate import limits
from quorate.errors import Misbehaviour
from quorate.replica.apply import Applied, Mark
from quorate.replica.checkpoints import Schedule
from quorate.replica.drivers import Sink
from quorate.replica.sessions import SessionTable
from quorate.types import Batch, Membership, ReplicaId, founding

FAR = 1 << 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_SECONDS", "TICK_SECONDS", "NEIGHBOUR_WATCH_SECONDS"):
        monkeypatch.setattr(limits, name, 0.005)


# --- when ------------------------------------------------------------------------------------------------------------


def members(count: int) -> Membership:
    return founding({ReplicaId(number): "" for number in range(1, count + 1)})


def due(schedule: Schedule, count: int, voters: int) -> list[int]:
    """Return the indices at which checkpoints are due, if every batch holds one command of 7 bytes."""
    marks = itertools.pairwise(Mark(number, 7 * number) for number in range(count + 1))
    return [after.commands for before, after in marks if schedule.due(before, after, members(voters))]


def test_replicas_take_turns() -> None:
    assert due(Schedule(ReplicaId(1), 30, FAR), 100, 3) == [30, 60, 90]
    assert due(Schedule(ReplicaId(2), 30, FAR), 100, 3) == [10, 40, 70, 100]
    assert due(Schedule(ReplicaId(3), 30, FAR), 100, 3) == [20, 50, 80]


def test_they_take_turns_by_bytes_too() -> None:
    indices = [due(Schedule(ReplicaId(me), FAR, 210), 100, 3) for me in (1, 2, 3)]
    assert indices == [[30, 60, 90], [10, 40, 70, 100], [20, 50, 80]]


def test_a_replica_that_is_no_member_takes_none() -> None:
    assert due(Schedule(ReplicaId(4), 10, FAR), 100, 3) == []


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 60), st.integers(1, 9), st.data())
def test_however_commands_are_batched_one_is_due_in_every_distance(
    sizes: list[int], every: int, voters: int, data: st.DataObject
) -> None:
    schedule = Schedule(ReplicaId(data.draw(st.integers(1, voters))), every, FAR)
    ends = [Mark(end, 0) for end in itertools.accumulate(sizes, initial=0)]
    last = 0
    for before, after in itertools.pairwise(ends):
        if schedule.due(before, after, members(voters)):
            last = after.commands
        else:
            assert after.commands - last < 2 * every + max(sizes)


# --- taking one ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def copy(tmp_path: Path) -> AsyncIterator[Copy]:
    copy = Copy(1, tmp_path, Mesh())
    yield copy
    await copy.close()


async def test_a_snapshot_holds_what_was_applied_up_to_its_index(copy: Copy) -> None:
    copy.run()
    for first in (1, 11, 21):
        copy.deliver(*range(first, first + 10))
        await copy.has_snapshot(first + 9)
    copy.deliver(*range(31, 36))
    snapshot = copy.store.newest_sound()
    assert snapshot is not None
    assert b"".join(snapshot.service()).split(b"\n") == [b"30", *bodies(1, 30)]
    assert len(SessionTable.load(snapshot.sessions())) == 30
    facts = snapshot.manifest.facts
    assert (facts.base.slot, facts.base.index, facts.membership) == (30, 30, copy.ordering.membership)
    assert facts.log_bytes == sum(len(batch.payload) for batch in copy.ordering.log[:30])
    await copy.ready(35)


async def test_a_checkpoint_waits_for_the_end_of_its_batch(copy: Copy) -> None:
    taken: list[int] = []
    copy.run()
    for first, last in ((1, 14), (15, 21), (22, 35)):
        copy.deliver(*range(first, last + 1), together=7)
        await copy.has_snapshot(last)
        await until(lambda: copy.checkpoints.statistics().taken == len(taken) + 1)
        taken.append(copy.store.held[0].index)
    assert taken == [14, 21, 35]


async def test_a_change_of_members_is_in_the_snapshot(copy: Copy) -> None:
    copy.run()
    new = Membership(1, copy.ordering.membership.voters, (ReplicaId(4),), (), ReplicaId(4))
    copy.deliver(*range(1, 6))
    copy.ordering.deliver(new.batch())
    copy.deliver(*range(6, 11))
    await copy.has_snapshot(10)
    assert copy.store.held[0].manifest.facts.membership == new
    assert copy.store.held[0].slot == 11


class Gate:
    """A driver that stops in the middle of a capture until it is let go, or fails."""

    name = "gate"
    offline = False

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.fails: Exception | None = None
        self.during: Callable[[], None] = lambda: None

    def capture(self, sink: Sink) -> None:
        self.entered.set()
        assert self.open.wait(20)
        if self.fails is not None:
            raise self.fails
        sink.write(b"state")

    def restore(self, size: int, pieces: Iterator[bytes]) -> None:
        b"".join(pieces)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
async def gated(tmp_path: Path, gate: Gate) -> AsyncIterator[Copy]:
    copy = Copy(1, tmp_path, Mesh(), driver=gate, depth=8)
    yield copy
    gate.open.set()
    await copy.close()


async def test_nothing_goes_to_the_service_while_its_state_is_taken(gated: Copy, gate: Gate) -> None:
    gated.run()
    gated.deliver(*range(1, 16))
    await until(gate.entered.is_set)
    gated.deliver(*range(16, 19))
    await asyncio.sleep(0)
    assert gated.keeper.bodies() == bodies(1, 10)
    assert (gated.applier.in_flight, gated.applier.applied) == (0, 10)
    gate.open.set()
    await gated.ready(18)
    assert gated.keeper.bodies() == bodies(1, 18)
    await gated.has_snapshot(10)
    assert len(SessionTable.load(gated.store.held[0].sessions())) == 10


async def test_an_answer_that_leads_to_a_call_does_not_disturb_it(gated: Copy, gate: Gate) -> None:
    """What is proposed from within `on_applied` may be delivered at once."""

    def propose_another(applied: Applied) -> None:
        if applied.index == 10:
            gated.ordering.propose(batch_of(command(99)))

    gated.ordering.at_once = True
    gated.applier.on_applied = propose_another
    gated.run()
    gated.deliver(*range(1, 11))
    await until(gate.entered.is_set)
    assert gated.keeper.bodies() == bodies(1, 10)
    gate.open.set()
    await gated.ready(11)


@pytest.mark.parametrize("why", [Misbehaviour("no state today"), OSError(28, "No space left on device")])
async def test_a_checkpoint_that_fails_holds_nobody_up(gated: Copy, gate: Gate, why: Exception) -> None:
    gate.fails = why
    gate.open.set()
    gated.run()
    gated.deliver(*range(1, 16))
    await gated.ready(15)
    await until(lambda: gated.checkpoints.statistics().failed == 1)
    gate.fails = None
    gated.deliver(*range(16, 31))
    await gated.has_snapshot(20)
    assert gated.checkpoints.statistics().taken >= 1


async def test_a_state_that_may_be_anothers_is_thrown_away(gated: Copy, gate: Gate) -> None:
    """The service dies while its state is taken: what was read may be the fresh one's, whose index is another."""
    gated.run()
    gated.deliver(*range(1, 11))
    await until(gate.entered.is_set)
    await gated.process.kill()
    await until(lambda: not gated.recovery.ready)
    await gated.ready(10)
    gate.open.set()
    await until(lambda: not list(gated.store._directory.iterdir()))
    assert gated.checkpoints.statistics()[:3] == (0, 0, 1)
    assert gated.store.held == ()
    gated.deliver(11)
    await gated.ready(11)


async def test_one_that_comes_due_before_the_last_is_finished_is_left_out(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NEIGHBOUR_WATCH_SECONDS", 0.5)
    copy.run()
    copy.deliver(*range(1, 36))
    await copy.ready(35)
    await copy.has_snapshot(10)
    assert copy.checkpoints.statistics().skipped == 2
    assert [snapshot.index for snapshot in copy.store.held] == [10]


async def test_reads_are_served_meanwhile(gated: Copy, gate: Gate) -> None:
    gated.run()
    gated.deliver(*range(1, 11))
    await until(gate.entered.is_set)
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    one = call(method=b"GET", path=b"/")
    gated.pool.call(one.head + b"\r\n", b"GET", answered.set_result)
    async with asyncio.timeout(10):
        assert b"10" in (await answered).body  # type: ignore[attr-defined]
    assert not gate.open.is_set()


async def test_copies_of_one_log_checkpoint_at_different_indices(tmp_path: Path) -> None:
    log: list[Batch] = []
    mesh = Mesh()
    copies = [Copy(number, tmp_path / str(number), mesh, log, entries=30) for number in (1, 2, 3)]
    for copy in copies:
        copy.run()
    log += [batch_of(command(number)) for number in range(1, 32)]
    for copy in copies:
        copy.ordering.on_delivered()
        await copy.has_snapshot(10)
    assert [copy.store.held[0].index for copy in copies] == [30, 10, 20]
    for copy in copies:
        await copy.close()

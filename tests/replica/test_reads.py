"""Calls off the log: after their barrier, not before what the client has seen, and never across a write in contract."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from tests.replica.parts import (
    Held,
    MemoryOrdering,
    Request,
    TinyService,
    batch_of,
    call,
    command,
    free_address,
    hang,
    hang_up,
    http,
    raw,
    until,
)

from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import Applier
from quorate.replica.reads import BAD_UPSTREAM, NO_QUORUM, PASS_UNKNOWN, READ_TIMEOUT, SERVICE_DOWN, Read, Reads
from quorate.replica.upstream import Upstream
from quorate.types import NOOP, Call, Index, Outcome, ReadMode, Reply

GET = call(method=b"GET")
POST = call(b"passed")


class Copy:
    """A waiting room between an order, an applier and a service."""

    def __init__(self, address: str, *, exclusive: bool = False) -> None:
        self.ordering = MemoryOrdering()
        self.lane = Upstream(address, HttpLimits(), 1)
        self.pool = Upstream(address, HttpLimits(), 4, retry_lost=True)
        self.applier = Applier(self.ordering, self.lane)
        self.passes = Upstream(address, HttpLimits(), 4, retry_lost=True)
        self.reads = Reads(self.ordering, self.applier, self.pool, self.passes, exclusive=exclusive)
        self.ordering.on_delivered = self.applier.advance
        self.applier.on_progress = self.reads.release
        self.applier.on_applied = lambda _: self.reads.release()
        self.replies: list[Reply] = []
        self.applier.start()

    def take(
        self, mode: ReadMode = ReadMode.LINEARIZABLE, at_least: Index = 0, seconds: float = 60, call: Call = GET
    ) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        self.reads.take(Read(call, mode, at_least, deadline, self.replies.append))

    async def replied(self, count: int = 1) -> Reply:
        await until(lambda: len(self.replies) >= count)
        assert len(self.replies) == count
        return self.replies[-1]

    async def close(self) -> None:
        await self.lane.close()
        await self.pool.close()
        await self.passes.close()


@pytest.fixture
async def copy(service: TinyService) -> AsyncIterator[Copy]:
    copy = Copy(service.address)
    yield copy
    await copy.close()


@pytest.fixture
async def contract(service: TinyService) -> AsyncIterator[Copy]:
    copy = Copy(service.address, exclusive=True)
    yield copy
    await copy.close()


async def test_a_read_is_answered_by_the_service_and_bears_the_applied_index(copy: Copy, service: TinyService) -> None:
    copy.ordering.deliver(batch_of(command(1), command(2)))
    await until(lambda: copy.applier.applied == 2)
    copy.take()
    reply = await copy.replied()
    assert (reply.outcome.status, reply.outcome.body, reply.index) == (200, b"2", 2)
    fields = service.got[-1].fields
    assert (fields["quorate-index"], fields["log-index"]) == ("2", "2")
    assert "quorate-request-id" not in fields


async def test_a_read_waits_until_its_barrier_is_applied(copy: Copy, service: TinyService) -> None:
    copy.applier.stop()
    copy.ordering.deliver(batch_of(command(1)), batch_of(command(2)))
    copy.take()
    await until(lambda: not copy.ordering.barriers_waiting)
    assert service.got == []
    copy.applier.start()
    assert (await copy.replied()).index == 2


async def test_a_barrier_in_a_no_op_is_reached_too(copy: Copy) -> None:
    copy.ordering.deliver(batch_of(command(1)), NOOP)
    copy.take()
    assert (await copy.replied()).index == 1


@pytest.mark.parametrize("mode", [ReadMode.LINEARIZABLE, ReadMode.STALE])
async def test_a_client_never_reads_an_older_state_than_it_has_seen(copy: Copy, mode: ReadMode) -> None:
    copy.take(mode, at_least=2)
    copy.ordering.deliver(batch_of(command(1)))
    await until(lambda: copy.applier.applied == 1)
    assert copy.replies == []
    copy.ordering.deliver(batch_of(command(2)))
    assert (await copy.replied()).index == 2


async def test_a_stale_read_asks_for_no_barrier(copy: Copy) -> None:
    copy.ordering.quorum = False
    copy.take(ReadMode.STALE)
    assert (await copy.replied()).outcome.status == 200
    assert copy.ordering.barriers_waiting == []


async def test_a_passed_call_bears_no_place_in_the_order(copy: Copy, service: TinyService) -> None:
    copy.take(ReadMode.PASS)
    await copy.replied()
    assert not {"quorate-index", "log-index"} & service.got[-1].fields.keys()


async def test_passed_calls_leave_the_connections_of_reads_alone(copy: Copy, service: TinyService) -> None:
    held = Held()
    service.answer = held.keep
    for _ in range(5):
        copy.take(ReadMode.PASS)
    await until(lambda: len(held.waiting) == 4)
    assert copy.reads.passing == 5
    service.answer = service.count
    copy.take()
    assert (await copy.replied()).outcome.body == b"0"
    held.answer_all()
    await copy.replied(6)
    assert (copy.reads.passing, len(copy.reads)) == (0, 0)


async def test_many_reads_run_side_by_side(copy: Copy, service: TinyService) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    service.answer = keep
    for _ in range(4):
        copy.take()
    await until(lambda: len(writers) == 4)
    for writer in writers:
        writer.write(http(b""))
    await copy.replied(4)


# --- barriers --------------------------------------------------------------------------------------------------------


async def test_one_barrier_is_under_way_and_serves_all_reads_that_came_before_it(copy: Copy) -> None:
    copy.ordering.quorum = False
    for _ in range(3):
        copy.take()
    await until(lambda: copy.ordering.barriers_waiting)
    for _ in range(2):
        copy.take()
        await asyncio.sleep(0)
    assert len(copy.ordering.barriers_waiting) == 1
    copy.ordering.answer_barriers()
    await copy.replied(3)
    await until(lambda: copy.ordering.barriers_waiting)
    assert len(copy.ordering.barriers_waiting) == 1
    copy.ordering.answer_barriers()
    await copy.replied(5)


async def test_a_read_that_comes_while_a_barrier_is_under_way_is_not_served_by_it(copy: Copy) -> None:
    copy.ordering.quorum = False
    copy.take()
    await until(lambda: copy.ordering.barriers_waiting)
    (early,) = copy.ordering.barriers_waiting
    copy.applier.holds = 1
    copy.ordering.deliver(batch_of(command(1)))
    copy.take()
    early(0)
    await copy.replied()
    copy.applier.holds = 0
    copy.applier.advance()
    await until(lambda: len(copy.ordering.barriers_waiting) == 2)
    copy.ordering.answer_barriers()
    assert (await copy.replied(2)).index == 1


def reads_in_memory() -> int:
    gc.collect()
    return sum(isinstance(one, Read) for one in gc.get_objects())


async def test_reads_that_expire_without_a_quorum_leave_no_trace(copy: Copy) -> None:
    copy.ordering.quorum = False
    for _ in range(50):
        for _ in range(4):
            copy.take(seconds=-1)
        await asyncio.sleep(0)
        copy.reads.sweep(serving=True)
    assert (len(copy.replies), len(copy.reads)) == (200, 0)
    assert len(copy.ordering.barriers_waiting) == 1
    assert reads_in_memory() <= 4, "those that asked for the barrier"
    copy.ordering.quorum = True
    copy.ordering.answer_barriers()
    copy.take()
    assert (await copy.replied(201)).outcome.status == 200


# --- deadlines and failures ------------------------------------------------------------------------------------------


async def test_without_a_quorum_a_read_ends_with_its_deadline(copy: Copy) -> None:
    copy.ordering.quorum = False
    copy.take(seconds=-1)
    copy.take(seconds=60)
    copy.reads.sweep(serving=True)
    assert (await copy.replied()).outcome == NO_QUORUM
    assert len(copy.reads) == 1


async def test_a_barrier_that_comes_after_the_deadline_starts_nothing(copy: Copy, service: TinyService) -> None:
    copy.ordering.quorum = False
    copy.take(seconds=-1)
    copy.reads.sweep(serving=True)
    copy.ordering.answer_barriers()
    copy.take(ReadMode.STALE)
    await copy.replied(2)
    assert len(service.got) == 1


async def test_a_slow_service_ends_with_the_deadline_and_its_answer_is_dropped(
    copy: Copy, service: TinyService
) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    service.answer = keep
    copy.take(ReadMode.STALE, seconds=-1)
    await until(lambda: writers)
    copy.reads.sweep(serving=True)
    assert (await copy.replied()).outcome == READ_TIMEOUT
    writers[0].write(http(b"late"))
    service.answer = service.count
    copy.take(ReadMode.STALE)
    assert (await copy.replied(2)).outcome.body == b"0"
    assert len(copy.reads) == 0


async def test_a_parked_read_whose_deadline_passes_is_forgotten(copy: Copy, service: TinyService) -> None:
    copy.take(ReadMode.STALE, at_least=1, seconds=-1)
    copy.reads.sweep(serving=True)
    assert (await copy.replied()).outcome == READ_TIMEOUT
    copy.ordering.deliver(batch_of(command(1)))
    await until(lambda: copy.applier.applied == 1)
    assert [request.line.split()[0] for request in service.got] == ["POST"]


async def test_a_service_that_is_down_has_no_read_wait_for_it_to_apply_more(copy: Copy) -> None:
    copy.take(ReadMode.STALE, at_least=1)
    copy.reads.sweep(serving=True)
    assert not copy.replies
    copy.reads.sweep(serving=False)
    assert (await copy.replied()).outcome == SERVICE_DOWN
    assert len(copy.reads) == 0


@pytest.mark.parametrize(("nonsense", "status"), [(True, 502), (False, 503)])
async def test_a_service_that_fails_a_read(copy: Copy, service: TinyService, nonsense: bool, status: int) -> None:
    service.answer = raw(b"nonsense\r\n\r\n") if nonsense else hang_up
    copy.take()
    reply = await copy.replied()
    assert reply.outcome == (BAD_UPSTREAM if nonsense else SERVICE_DOWN)
    assert reply.outcome.status == status


async def test_a_service_that_is_not_there() -> None:
    copy = Copy(free_address())
    copy.take(ReadMode.PASS)
    assert (await copy.replied()).outcome == SERVICE_DOWN
    copy.take(ReadMode.PASS, call=POST)
    assert (await copy.replied(2)).outcome == SERVICE_DOWN, "nothing was sent"
    await copy.close()


@pytest.mark.parametrize(
    ("passed", "lost", "late"), [(GET, SERVICE_DOWN, READ_TIMEOUT), (POST, PASS_UNKNOWN, PASS_UNKNOWN)]
)
async def test_what_is_said_of_a_passed_call_without_an_answer(
    copy: Copy, service: TinyService, passed: Call, lost: Outcome, late: Outcome
) -> None:
    """A call that may have changed something must not be called one that may be sent again (P6)."""
    service.answer = hang_up
    copy.take(ReadMode.PASS, call=passed)
    assert (await copy.replied()).outcome == lost
    service.answer = hang
    copy.take(ReadMode.PASS, call=passed, seconds=-1)
    copy.reads.sweep(serving=True)
    assert (await copy.replied(2)).outcome == late


# --- contract: reads take turns with writes --------------------------------------------------------------------------


async def test_a_read_waits_for_the_write_under_way(contract: Copy, service: TinyService) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    service.answer = keep
    contract.ordering.deliver(batch_of(command(1)))
    await until(lambda: writers)
    contract.take(ReadMode.STALE)
    assert len(service.got) == 1
    service.answer = service.count
    writers[0].write(http(b"written"))
    assert (await contract.replied()).index == 1


async def test_a_write_waits_for_the_reads_under_way(contract: Copy, service: TinyService) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    service.answer = keep
    contract.take(ReadMode.STALE)
    contract.take(ReadMode.STALE)
    await until(lambda: len(writers) == 2)
    contract.ordering.deliver(batch_of(command(1)))
    for writer in writers:
        assert service.bodies() == []
        writer.write(http(b"read"))
    await until(lambda: service.bodies() == [b"1"])


async def test_reads_and_writes_never_overlap_and_neither_starves(contract: Copy, service: TinyService) -> None:
    at_service: list[str] = []
    overlaps: list[list[str]] = []

    async def watch(request: Request, writer: asyncio.StreamWriter) -> None:
        at_service.append(request.line.split()[0])
        await asyncio.sleep(0)
        if len(set(at_service)) > 1 or at_service.count("POST") > 1:
            overlaps.append(at_service[:])
        at_service.remove(request.line.split()[0])
        writer.write(http(request.fields["log-index"].encode()))

    service.answer = watch
    for number in range(1, 31):
        contract.ordering.deliver(batch_of(command(number)))
        contract.take()
        contract.take(ReadMode.STALE)
    await contract.replied(60)
    await until(lambda: contract.applier.applied == 30)
    assert overlaps == []
    assert all(int(reply.outcome.body) == reply.index for reply in contract.replies)


async def test_a_passed_call_may_wait_for_a_write(contract: Copy, service: TinyService) -> None:
    held = Held()
    service.answer = held.keep
    contract.take(ReadMode.PASS, call=call(b"passed"))
    await held.gets(b"passed")
    contract.ordering.deliver(batch_of(command(1)))
    await held.gets(b"passed", b"1")
    contract.take(ReadMode.PASS, call=call(b"also"))
    await held.gets(b"passed", b"1", b"also")
    held.answer_all()
    await contract.replied(2)


async def test_a_write_that_waits_is_not_starved_by_new_reads(contract: Copy, service: TinyService) -> None:
    held = Held()
    service.answer = held.keep
    contract.take(ReadMode.STALE)
    await held.gets(b"")
    contract.ordering.deliver(batch_of(command(1)))
    contract.take(ReadMode.STALE)
    contract.take()
    for at_service in ([b""], [b"1"], [b"", b""]):
        await held.gets(*at_service)
        held.answer_all()
    await contract.replied(3)
    assert [reply.index for reply in contract.replies] == [0, 1, 1]


async def test_a_client_that_reads_again_at_once_does_not_starve_a_write(contract: Copy, service: TinyService) -> None:
    reading = True

    def read_again(_: Reply) -> None:
        if reading:
            contract.reads.take(Read(GET, ReadMode.STALE, 0, float("inf"), read_again))

    for _ in range(3):
        contract.reads.take(Read(GET, ReadMode.STALE, 0, float("inf"), read_again))
    await until(lambda: len(service.got) > 20)
    contract.ordering.deliver(batch_of(command(1)))
    await until(lambda: contract.applier.applied == 1, seconds=5)
    reading = False
    await until(lambda: not len(contract.reads))


async def test_a_read_that_fails_lets_the_writes_go_on(contract: Copy, service: TinyService) -> None:
    service.answer = hang
    contract.take(ReadMode.STALE)
    await until(lambda: service.got)
    contract.ordering.deliver(batch_of(command(1)))
    service.answer = service.count
    contract.pool.reset()
    await until(lambda: contract.applier.applied == 1)
    assert contract.applier.holds == 0

"""Recovery: a service that dies, hangs or answers nonsense is rebuilt from the log, or its answer settled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from tests.replica.parts import (
    Answer,
    Held,
    MemoryOrdering,
    Process,
    Request,
    TinyService,
    batch_of,
    command,
    echo,
    hang,
    hang_up,
    http,
    raw,
    until,
)

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.replica.apply import OUTCOME_FORGOTTEN, Applied, Applier
from quorate.replica.reads import BAD_UPSTREAM
from quorate.replica.recovery import Recovery, StateMode
from quorate.replica.upstream import Upstream
from quorate.types import NOOP, Slot


class Copy:
    """One copy under recovery."""

    def __init__(self, mode: StateMode = "volatile", depth: int = 1) -> None:
        self.tiny = TinyService()
        self.process = Process(self.tiny)
        self.ordering = MemoryOrdering()
        self.lane = Upstream(self.tiny.address, HttpLimits(), 1, depth=depth)
        self.pool = Upstream(self.tiny.address, HttpLimits(), 4, retry_lost=True)
        self.applier = Applier(self.ordering, self.lane, depth)
        self.ordering.on_delivered = self.applier.advance
        self.recovery = Recovery(mode, self.process, self.ordering, self.applier, self.lane, self.pool)
        self.applied: list[Applied] = []
        self.applier.on_applied = self.applied.append
        self.turns: list[bool] = []
        self.recovery.on_ready = self.turns.append
        self._running: asyncio.Task[None] | None = None

    def run(self) -> None:
        self._running = asyncio.create_task(self.recovery.run())

    async def ready(self, index: int = 0) -> None:
        await until(lambda: self.recovery.ready and self.applier.applied >= index)

    async def failed(self) -> None:
        """Return once recovery has ended by itself; raises what ended it."""
        assert self._running is not None
        running, self._running = self._running, None
        async with asyncio.timeout(10):
            await running

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        await self.lane.close()
        await self.pool.close()

    def deliver(self, *names: int) -> None:
        for name in names:
            self.ordering.deliver(batch_of(command(name)))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.005)
    monkeypatch.setattr(limits, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(limits, "BACKOFF_SECONDS_MIN", 0.01)
    monkeypatch.setattr(limits, "SERVICE_WATCH_SECONDS", 0.01)


@pytest.fixture
async def copy() -> AsyncIterator[Copy]:
    copy = Copy()
    yield copy
    await copy.close()


@pytest.fixture
async def pipelined() -> AsyncIterator[Copy]:
    copy = Copy(depth=4)
    copy.tiny.answer = echo
    yield copy
    await copy.close()


@pytest.fixture
async def contract() -> AsyncIterator[Copy]:
    copy = Copy("contract")
    yield copy
    await copy.close()


def misbehave_at(copy: Copy, body: bytes, answer: Answer, times: int = 1) -> Answer:
    """Answer like a good service, but the first few deliveries of `body` as told."""
    left = [times]

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.body == body and left[0]:
            left[0] -= 1
            await answer(request, writer)
        else:
            await copy.tiny.count(request, writer)

    return respond


# --- coming up -------------------------------------------------------------------------------------------------------


async def test_an_empty_cluster_is_ready_at_once(copy: Copy) -> None:
    assert (copy.recovery.state, copy.recovery.ready) == ("starting", False)
    copy.run()
    await copy.ready()
    assert copy.turns[-1] is True


async def test_a_copy_is_ready_once_it_has_replayed_the_log(copy: Copy) -> None:
    copy.ordering.log = [batch_of(command(n)) for n in range(1, 21)]
    copy.run()
    await copy.ready()
    assert copy.applier.applied == 20
    replayed = ["quorate-replay" in request.fields for request in copy.tiny.got]
    assert replayed[0]
    copy.deliver(99)
    await copy.ready(21)
    assert "quorate-replay" not in copy.tiny.got[-1].fields


async def test_a_copy_without_a_quorum_is_not_ready(copy: Copy) -> None:
    """It can't know what the cluster has answered meanwhile."""
    copy.ordering.quorum = False
    copy.deliver(1)
    copy.run()
    await until(lambda: copy.applier.applied == 1)
    assert copy.recovery.state == "replaying"
    copy.ordering.answer_barriers()
    await copy.ready()


async def test_a_copy_that_lags_leaves_service_until_it_has_caught_up(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LAG_MAX", 4)
    copy.run()
    await copy.ready()
    copy.applier.holds = 1
    copy.deliver(*range(1, 7))
    await until(lambda: copy.recovery.state == "lagging")
    assert not copy.recovery.ready
    copy.applier.holds = 0
    copy.applier.advance()
    await copy.ready(6)


# --- a service that fails --------------------------------------------------------------------------------------------


async def test_a_killed_service_is_rebuilt_from_the_log(copy: Copy) -> None:
    copy.run()
    copy.deliver(1, 2, 3)
    await copy.ready(3)
    digest = copy.applier.digest
    await copy.process.kill()
    await until(lambda: not copy.recovery.ready)
    await copy.ready(3)
    assert copy.process.lives[0] == copy.tiny.bodies() == [b"1", b"2", b"3"]
    assert copy.applier.digest == digest


async def test_what_is_ordered_while_the_service_is_away_is_applied_when_it_is_back(copy: Copy) -> None:
    copy.run()
    copy.deliver(1)
    await copy.ready(1)
    await copy.process.kill()
    copy.deliver(2, 3)
    await copy.ready(3)
    assert copy.tiny.bodies() == [b"1", b"2", b"3"]


async def test_a_lost_connection_leads_to_one_rebuild(copy: Copy) -> None:
    copy.tiny.answer = misbehave_at(copy, b"2", hang_up)
    copy.run()
    copy.deliver(1, 2, 3)
    await copy.ready(3)
    assert copy.process.restarts == 1
    assert copy.tiny.bodies() == [b"1", b"2", b"3"]
    assert [one.outcome.status for one in copy.applied[-3:]] == [200] * 3


async def test_a_command_that_loses_its_connection_every_time_is_recorded_as_502(copy: Copy) -> None:
    copy.tiny.answer = misbehave_at(copy, b"2", hang_up, times=99)
    copy.run()
    copy.deliver(1, 2, 3)
    await copy.ready(3)
    assert copy.process.restarts == 1
    assert [one.outcome for one in copy.applied if one.index == 2] == [BAD_UPSTREAM]
    assert copy.applied[-1].outcome.status == 200


@pytest.mark.parametrize("nonsense", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbroken"])
async def test_nonsense_of_a_living_service_is_recorded_as_502(copy: Copy, nonsense: bytes) -> None:
    copy.tiny.answer = misbehave_at(copy, b"2", raw(nonsense, close=True), times=99)
    copy.run()
    copy.deliver(1, 2, 3)
    await copy.ready(3)
    assert [one.outcome for one in copy.applied if one.index == 2] == [BAD_UPSTREAM]
    assert copy.process.restarts == 0


async def test_an_answer_that_broke_off_by_death_is_no_answer(copy: Copy) -> None:
    async def die(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbrok")
        asyncio.get_running_loop().create_task(copy.process.kill())

    copy.tiny.answer = misbehave_at(copy, b"2", die)
    copy.run()
    copy.deliver(1, 2)
    await copy.ready(2)
    assert [one.outcome.status for one in copy.applied if one.index == 2] == [200]


async def test_a_hung_service_is_restarted(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVICE_CALL_SECONDS_MAX", 0.05)
    copy.tiny.answer = misbehave_at(copy, b"2", hang)
    copy.run()
    copy.deliver(1, 2, 3)
    await copy.ready(3)
    assert copy.process.restarts == 1
    assert copy.tiny.bodies() == [b"1", b"2", b"3"]


async def test_the_service_ends_with_its_recovery(copy: Copy) -> None:
    copy.run()
    await copy.ready()
    await copy.close()
    assert await copy.process.has_ended()


class Undecided(Exception):
    pass


async def test_an_exception_while_catching_up_ends_recovery(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_undecided(_: Callable[[Slot], None]) -> None:
        raise Undecided

    monkeypatch.setattr(copy.ordering, "read_barrier", raise_undecided)
    copy.run()
    with pytest.raises(Undecided):
        await copy.failed()
    assert await copy.process.has_ended()


# --- several commands at the service ---------------------------------------------------------------------------------


async def test_a_suspect_goes_alone_after_the_rebuild(pipelined: Copy) -> None:
    held = Held()
    first, second = hangs_up_at(b"3"), held.keep

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        await (second if len(pipelined.process.lives) > 1 else first)(request, writer)

    pipelined.tiny.answer = respond
    pipelined.ordering.log = [batch_of(*(command(n) for n in range(1, 8)))]
    pipelined.run()
    for together in ([b"1", b"2"], [b"3"], [b"4", b"5", b"6", b"7"]):
        await held.gets(*together)
        held.answer_all()
    await pipelined.ready(7)
    assert pipelined.process.restarts == 1
    assert [one.outcome.body for one in pipelined.applied[-7:]] == [b"%d" % n for n in range(1, 8)]


async def test_of_pipelined_commands_only_the_guilty_one_is_recorded_as_502(pipelined: Copy) -> None:
    pipelined.tiny.answer = hangs_up_at(b"3")
    pipelined.ordering.log = [batch_of(*(command(n) for n in range(1, 8)))]
    pipelined.run()
    await pipelined.ready(7)
    assert pipelined.process.restarts == 1
    assert [one.index for one in pipelined.applied if one.outcome == BAD_UPSTREAM] == [3]
    assert pipelined.tiny.bodies() == [b"%d" % n for n in range(1, 8)]


def hangs_up_at(body: bytes) -> Answer:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await (hang_up if request.body == body else echo)(request, writer)

    return answer


# --- contract --------------------------------------------------------------------------------------------------------


def saves_its_index(copy: Copy, told: Callable[[int], int] = lambda index: index) -> Answer:
    """A service that keeps the index of its last delivery through every death (K8ShMiR's contract)."""
    saved = [0]

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.line.startswith("GET /last-index"):
            writer.write(http(b'{"index": %d}' % told(saved[0])))
            return
        saved[0] = int(request.fields["log-index"])
        await copy.tiny.count(request, writer)

    return respond


async def test_a_contract_service_goes_on_after_its_own_last_index(contract: Copy) -> None:
    contract.tiny.answer = saves_its_index(contract)
    contract.run()
    contract.deliver(1, 2, 3)
    await contract.ready(3)
    await contract.process.kill()
    contract.deliver(4)
    await contract.ready(4)
    assert contract.process.lives[0] == [b"1", b"2", b"3"]
    assert contract.tiny.bodies() == [b"4"]


async def test_a_contract_service_that_lost_some_gets_them_again(contract: Copy) -> None:
    contract.tiny.answer = saves_its_index(contract, lambda index: min(index, 1))
    contract.run()
    contract.deliver(1, 2, 3)
    await contract.ready(3)
    await contract.process.kill()
    await until(lambda: not contract.recovery.ready)
    await contract.ready(3)
    assert contract.tiny.bodies() == [b"2", b"3"]


async def test_a_contract_service_ahead_of_the_known_order_is_waited_for(contract: Copy) -> None:
    contract.tiny.answer = saves_its_index(contract, lambda index: max(index, 2))
    contract.ordering.log = [batch_of(command(1))]
    contract.run()
    await until(lambda: contract.tiny.got)
    assert not contract.recovery.ready
    contract.ordering.deliver(batch_of(command(2)), NOOP, batch_of(command(3)))
    await contract.ready(3)
    assert contract.tiny.bodies() == [b"3"]


async def test_a_command_that_a_contract_service_took_before_it_died_is_not_repeated(contract: Copy) -> None:
    saved = [0]

    async def die_after_saving(request: Request, writer: asyncio.StreamWriter) -> None:
        saved[0] = max(saved[0], int(request.fields.get("log-index", "0")))
        if request.body == b"2":
            writer.transport.abort()
        else:
            writer.write(http(b'{"index": %d}' % saved[0]))

    contract.tiny.answer = die_after_saving
    contract.run()
    contract.deliver(1, 2, 3)
    await contract.ready(3)
    given = contract.process.lives[0] + contract.tiny.bodies()
    assert given == [b"1", b"2", b"3"]
    outcome = next(one.outcome for one in contract.applied if one.index == 2)
    assert outcome == OUTCOME_FORGOTTEN


@pytest.mark.parametrize("bad", [http(b"{}"), http(b"none", 404), http(b'{"index": "three"}'), b"nonsense\r\n\r\n"])
async def test_a_contract_service_that_does_not_say_is_asked_until_it_does(contract: Copy, bad: bytes) -> None:
    contract.tiny.answer = raw(bad, close=True)
    contract.deliver(1)
    contract.run()
    await until(lambda: len(contract.tiny.got) >= 3)
    assert contract.tiny.bodies() == []
    contract.tiny.answer = saves_its_index(contract)
    await contract.ready(1)
    assert contract.tiny.bodies() == [b"1"]


async def test_a_contract_service_that_hangs_when_asked_is_restarted(
    contract: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVICE_CALL_SECONDS_MAX", 0.05)
    contract.tiny.answer = hang
    contract.run()
    await until(lambda: contract.process.restarts)
    contract.tiny.answer = saves_its_index(contract)
    contract.deliver(1)
    await contract.ready(1)


async def test_recovery_may_end_while_it_waits_for_the_last_index(contract: Copy) -> None:
    """The answer that comes all the same, for the service dies, is nobody's any more."""
    contract.tiny.answer = hang
    contract.run()
    await until(lambda: contract.tiny.got)
    await contract.close()
    assert await contract.process.has_ended()

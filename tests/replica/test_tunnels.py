"""Asking a service to go on in WebSocket: it says yes, no, nonsense or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from tests.replica.parts import Answer, TinyService, call, free_address, hang, hang_up, http, raw, until

from quorate.protocols.fields import HttpLimits
from quorate.replica.reads import BAD_UPSTREAM, READ_TIMEOUT, SERVICE_DOWN
from quorate.replica.relay import Tunnel
from quorate.replica.tunnels import Tunnels, Upgrade
from quorate.types import Outcome

GET = call(method=b"GET", path=b"/ws")
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCH = b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT


@pytest.fixture
async def tunnels(service: TinyService) -> AsyncIterator[Tunnels]:
    opened = Tunnels(service.address, HttpLimits(), 3)
    yield opened
    await opened.close()


async def ask(tunnels: Tunnels, seconds: float = 20) -> tuple[Outcome, Upgrade | None]:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[Outcome, Upgrade | None]] = loop.create_future()
    tunnels.open(GET, ACCEPT, loop.time() + seconds, lambda *answer: answered.set_result(answer))
    async with asyncio.timeout(20):
        return await answered


class Client:
    """A client's connection, whose transport is to be joined."""

    def __init__(self) -> None:
        self.gone = False

    async def join(self, upgrade: Upgrade, held: bytes = b"") -> Tunnel:
        accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

        class Door(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.set_result(cast("asyncio.Transport", transport))

        self.server = await asyncio.get_running_loop().create_server(Door, "127.0.0.1", 0)
        self.reader, self.writer = await asyncio.open_connection(*self.server.sockets[0].getsockname())
        return upgrade.join(await accepted, b"answer", held, self.leave, client_ended=False)

    def leave(self) -> None:
        self.gone = True
        self.server.close()


async def test_the_service_gets_the_handshake_on_a_connection_of_its_own(
    tunnels: Tunnels, service: TinyService
) -> None:
    service.answer = raw(SWITCH)
    for _ in range(2):
        outcome, upgrade = await ask(tunnels)
        assert (outcome.status, outcome.body) == (101, b"")
        assert upgrade is not None
        upgrade.close()
    (request, _) = service.got
    assert request.line == "GET /ws HTTP/1.1"
    assert (request.fields["connection"], request.fields["upgrade"]) == ("Upgrade", "websocket")
    assert service.connections == 2
    await until(lambda: len(tunnels) == 0)


async def test_bytes_behind_the_101_and_those_held_are_the_tunnels() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b" early")
        got.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        tunnels = Tunnels(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", HttpLimits(), 1)
        _, upgrade = await ask(tunnels)
        assert upgrade is not None
        client = Client()
        await client.join(upgrade, b"held")
        async with asyncio.timeout(10):
            assert await client.reader.readexactly(12) == b"answer early"
            assert (len(tunnels), tunnels.room, client.gone) == (1, False, False)
            client.writer.close()
            assert await got == b"held"
        await until(lambda: client.gone and not len(tunnels))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (raw(http(b"who are you", 401, b"A: b\r\n")), Outcome(401, b"A: b\r\n", b"who are you")),
        (raw(b"HTTP/1.1 403 .\r\n\r\nby the end", close=True), Outcome(403, b"", b"by the end")),
        (raw(http(b"", 200)), Outcome(200, b"", b"")),
        (raw(SWITCH.replace(b"s3p", b"S3P")), BAD_UPSTREAM),
        (raw(b"nonsense\r\n\r\n"), BAD_UPSTREAM),
        (hang_up, BAD_UPSTREAM),
    ],
)
async def test_any_other_answer_ends_the_connection(
    tunnels: Tunnels, service: TinyService, answer: Answer, outcome: Outcome
) -> None:
    service.answer = answer
    assert await ask(tunnels) == (outcome, None)
    await until(lambda: len(tunnels) == 0)


async def test_a_service_that_says_nothing_is_given_up_at_the_deadline(tunnels: Tunnels, service: TinyService) -> None:
    service.answer = hang
    assert await ask(tunnels, seconds=0.05) == (READ_TIMEOUT, None)
    await until(lambda: len(tunnels) == 0)


async def test_a_service_that_is_not_there() -> None:
    tunnels = Tunnels(free_address(), HttpLimits(), 1)
    assert await ask(tunnels) == (SERVICE_DOWN, None)
    assert tunnels.room


async def test_a_service_that_dies_with_its_101_has_given_none(tunnels: Tunnels, service: TinyService) -> None:
    service.answer = raw(SWITCH, close=True)
    outcome, upgrade = await ask(tunnels)
    assert upgrade is not None or outcome == BAD_UPSTREAM
    if upgrade is not None:
        client = Client()
        await client.join(upgrade)
        async with asyncio.timeout(10):
            assert await client.reader.read() == b"answer"
        client.writer.close()
        await until(lambda: client.gone)
    await until(lambda: len(tunnels) == 0)


async def test_those_that_are_opening_take_room_and_are_dropped_at_the_end(
    tunnels: Tunnels, service: TinyService
) -> None:
    service.answer = hang
    answers: list[Outcome] = []
    for _ in range(3):
        assert tunnels.room
        tunnels.open(GET, ACCEPT, float("inf"), lambda outcome, _: answers.append(outcome))
    assert not tunnels.room
    await until(lambda: len(service.got) == 3)
    await tunnels.close()
    await until(lambda: len(tunnels) == 0)
    assert answers == []

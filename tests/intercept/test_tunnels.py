"""A WebSocket through the front door: who gets one, what it carries, and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from tests.intercept.doors import Client, Door, open_door, until
from tests.intercept.hostile import answers_of

from quorate import limits
from quorate.intercept.connection import Deadlines
from quorate.intercept.policy import Mode, Route, RoutePolicy
from quorate.intercept.server import ServerOptions
from quorate.protocols.fields import HttpLimits
from quorate.replica.tunnels import Tunnels
from quorate.types import ReadMode

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
ASKING = b"GET /ws/%b HTTP/1.1\r\nHost: a\r\n" + UPGRADE + KEY + b"Sec-WebSocket-Version: 13\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Via: 1.1 quorate-r1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
ROUTES = RoutePolicy([Route("/ws/*", Mode.PASS)])
DEADLINES = Deadlines(idle_seconds_max=0.2, head_seconds_max=0.2, write_seconds_max=0.3)


class Service:
    """Says yes below /ws/yes once it is told to, and echoes from then on what comes; says no elsewhere."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.heads: list[bytes] = []
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self.may_answer.wait()
            if not self.heads[-1].startswith(b"GET /ws/yes "):
                writer.write(b"HTTP/1.1 401 .\r\nContent-Length: 2\r\n\r\nno")
            else:
                writer.write(SWITCH)
                while data := await reader.read(1 << 16):
                    writer.write(data)
                    await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self.writers.discard(writer)
            writer.close()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def door(service: Service) -> AsyncIterator[Door]:
    """A door that is impatient with all but tunnels."""
    async with await asyncio.start_server(service.serve, "127.0.0.1", 0) as listener:
        opened = await open_door(ROUTES, ServerOptions(deadlines=DEADLINES, sweep_seconds=0.02))
        host, port = listener.sockets[0].getsockname()
        opened.replica.tunnels = Tunnels(f"{host}:{port}", HttpLimits(), 4096)
        yield opened
        opened.server.close()
        await opened.replica.tunnels.close()
        await until(lambda: not opened.server.statistics().connections and not service.writers)


async def open_tunnel(door: Door, behind: bytes = b"") -> Client:
    client = await door.connect()
    client.send(ASKING % b"yes" + behind)
    async with asyncio.timeout(10):
        assert await client.reader.readexactly(len(SWITCHED)) == SWITCHED
    return client


async def echoed(client: Client, data: bytes) -> None:
    client.send(data)
    async with asyncio.timeout(10):
        assert await client.reader.readexactly(len(data)) == data


def tunnels(door: Door) -> int:
    assert door.replica.tunnels is not None
    return len(door.replica.tunnels)


# --- coming about ----------------------------------------------------------------------------------------------------


async def test_a_tunnel_comes_about_and_may_be_silent_for_longer_than_any_deadline(door: Door) -> None:
    client = await open_tunnel(door)
    await echoed(client, b"GET / HTTP/1.1\r\n\r\n\x00\xff")
    loop = asyncio.get_running_loop()
    end = loop.time() + 2 * DEADLINES.write_seconds_max  # the longest of them
    await until(lambda: loop.time() > end)
    await echoed(client, b"still here")
    assert (tunnels(door), door.server.statistics().connections) == (1, 1)
    await client.close()
    await until(lambda: not tunnels(door) and not door.server.statistics().connections)


async def test_the_handshake_reaches_the_service_as_a_call_does(door: Door, service: Service) -> None:
    client = await door.connect()
    fields = b"Quorate-Index: 1\r\nX-Hop: 1\r\nTE: x\r\n"
    client.send(ASKING.replace(UPGRADE, fields + b"Connection: X-Hop, upgrade\r\nUPGRADE: WebSocket\r\n") % b"yes")
    await client.reader.readuntil(b"\r\n\r\n")
    assert service.heads == [
        b"GET /ws/yes HTTP/1.1\r\nHost: a\r\n" + KEY + b"Sec-WebSocket-Version: 13\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nVia: 1.1 quorate-r1\r\n" + UPGRADE + b"\r\n"
    ]  # fmt: skip
    await client.close()


async def test_what_came_before_the_101_goes_to_the_tunnel_after_it(door: Door, service: Service) -> None:
    service.may_answer.clear()
    client = await door.connect()
    behind = b"\r\nGET /ws/no HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(ASKING % b"yes" + behind)
    await until(lambda: len(service.heads) == 1)
    assert behind not in service.heads[0]
    service.may_answer.set()
    async with asyncio.timeout(10):
        assert await client.reader.readexactly(len(SWITCHED + behind)) == SWITCHED + behind
    assert len(service.heads) == 1
    await client.close()


async def test_a_flood_before_the_101_waits_unread(door: Door, service: Service) -> None:
    service.may_answer.clear()
    client = await door.connect()
    flood = b"x" * (32 << 20)
    client.send(ASKING % b"yes" + flood)
    await until(lambda: bool(service.heads))
    client_buffer = client.writer.transport.get_write_buffer_size
    await until(lambda: client_buffer() > 0)
    service.may_answer.set()
    async with asyncio.timeout(30):
        assert await client.reader.readexactly(len(SWITCHED + flood)) == SWITCHED + flood
    await client.close()


async def test_a_refused_upgrade_is_an_answer_and_what_came_behind_it_is_read_by_nobody(
    door: Door, service: Service
) -> None:
    received = await door.exchange(ASKING % b"no" + ASKING % b"yes")
    (answer,) = answers_of(received)
    assert (answer.status, answer.body, answer.fields["connection"]) == (401, b"no", "close")
    assert len(service.heads) == 1
    assert tunnels(door) == 0


async def test_a_request_before_an_upgrade_on_the_same_connection(door: Door) -> None:
    client = await door.connect()
    client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" + ASKING % b"yes" + b"tunnelled")
    assert b"done" in await client.answer()
    async with asyncio.timeout(10):
        assert await client.reader.readexactly(len(SWITCHED) + 9) == SWITCHED + b"tunnelled"
    await client.close()


async def test_on_other_routes_the_field_is_dropped(door: Door) -> None:
    received = await door.exchange(ASKING.replace(b"/ws/", b"/other/").replace(UPGRADE, UPGRADE + b"A: b\r\n") % b"x")
    assert answers_of(received)[0].status == 200
    (read,) = door.replica.reads
    assert read.mode is ReadMode.LINEARIZABLE
    assert b"pgrade" not in read.call.head


async def test_what_is_no_websocket_is_passed_without_the_field(door: Door) -> None:
    for asking in (ASKING.replace(b"websocket", b"h2c"), ASKING.replace(b"GET", b"POST")):
        assert answers_of(await door.exchange(asking % b"x"))[0].status == 200
    assert [read.mode for read in door.replica.reads] == [ReadMode.PASS] * 2
    assert not any(b"pgrade" in read.call.head for read in door.replica.reads)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"]
)
async def test_an_upgrade_with_content_is_refused(door: Door, service: Service, framing: bytes) -> None:
    received = await door.exchange(ASKING.removesuffix(b"\r\n") % b"yes" + framing + ASKING % b"yes")
    (answer,) = answers_of(received)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
    assert service.heads == []


# --- ending ----------------------------------------------------------------------------------------------------------


async def test_the_end_of_the_service_is_the_end_for_the_client(door: Door, service: Service) -> None:
    clients = [await open_tunnel(door) for _ in range(5)]
    for writer in tuple(service.writers):
        writer.transport.abort()
    for client in clients:
        assert await client.rest() == b""
        await client.close()
    await until(lambda: not tunnels(door))


async def test_a_client_that_has_gone_before_the_101_leaves_nothing_behind(door: Door, service: Service) -> None:
    service.may_answer.clear()
    client = await door.connect()
    client.send(ASKING % b"yes")
    await until(lambda: bool(service.heads))
    own = client.writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it closes by a reset
    client.writer.transport.abort()
    await until(lambda: not door.server.statistics().connections)
    service.may_answer.set()
    await until(lambda: not tunnels(door))


async def test_a_client_that_has_ended_its_side_before_the_101_still_gets_its_echo(
    door: Door, service: Service
) -> None:
    service.may_answer.clear()
    client = await door.connect()
    client.send(ASKING % b"yes" + b"last words")
    client.writer.write_eof()
    await until(lambda: bool(service.heads))
    service.may_answer.set()
    assert await client.rest() == SWITCHED + b"last words"
    await client.close()


async def test_draining_ends_tunnels_at_once(door: Door, service: Service) -> None:
    client = await open_tunnel(door)
    draining = asyncio.create_task(door.server.drain(60))
    assert await client.rest() == b""
    await client.close()
    async with asyncio.timeout(10):
        await draining
    assert (tunnels(door), len(service.writers)) == (0, 0)


async def test_a_tunnel_that_opens_while_the_door_drains_ends_at_once(door: Door, service: Service) -> None:
    service.may_answer.clear()
    client = await door.connect()
    client.send(ASKING % b"yes")
    await until(lambda: bool(service.heads))
    draining = asyncio.create_task(door.server.drain(60))
    await until(lambda: door.server.draining)
    service.may_answer.set()
    assert await client.rest() == SWITCHED
    await client.close()
    async with asyncio.timeout(10):
        await draining


@pytest.mark.parametrize("draining", [True, False])
async def test_a_client_that_reads_no_more_is_cut(door: Door, monkeypatch: pytest.MonkeyPatch, draining: bool) -> None:
    """One that is closed is not waited for as long as one that is merely slow."""
    monkeypatch.setattr(limits, "TUNNEL_ENDING_SECONDS_MAX", 0.1)
    host, _, port = door.address.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, ASKING % b"yes")
        flood = asyncio.create_task(loop.sock_sendall(client, b"x" * (64 << 20)))
        await until(lambda: tunnels(door) == 1)
        if draining:
            await door.server.drain(60)
        await until(lambda: not tunnels(door) and not door.server.statistics().connections)
        with pytest.raises(ConnectionError):
            await flood
    assert door.server.statistics().refused.get("slow_reader", 0) == (not draining)


async def test_many_tunnels_side_by_side(door: Door) -> None:
    clients = [await open_tunnel(door) for _ in range(200)]
    assert tunnels(door) == 200
    await asyncio.gather(*(echoed(client, b"%d" % number * 1000) for number, client in enumerate(clients)))
    for client in clients:
        await client.close()
    await until(lambda: not tunnels(door))

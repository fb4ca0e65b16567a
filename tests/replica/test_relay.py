"""Two connections joined: bytes both ways, no faster than they are read, and one end for both."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
from tests.replica.parts import until

from quorate import limits
from quorate.replica.relay import Tunnel

MEGABYTE = 1 << 20
READ_BYTES_MAX = 256 * 1024
"""What either loop reads of a connection in one go."""


class Peer:
    """Whoever is at the far side of one end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hears(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            assert await self.reader.readexactly(len(data)) == data

    async def hears_the_end(self) -> None:
        async with asyncio.timeout(20):
            assert await self.reader.read() == b""


class Joined(NamedTuple):
    client: Peer
    service: Peer
    ends: list[asyncio.Transport]
    """Our transports, towards the client and towards the service."""
    tunnel: Tunnel
    gone: list[bool]

    def held(self) -> int:
        """Bytes that the tunnel holds."""
        return sum(end.get_write_buffer_size() for end in self.ends)


@pytest.fixture
async def join() -> AsyncIterator[Callable[..., Awaitable[Joined]]]:
    """Join two connections; both are closed in the end."""
    opened: list[Joined] = []

    async def join(to_client: bytes = b"", to_service: bytes = b"", *, client_ended: bool = False) -> Joined:
        (client, near), (service, far) = await connection(), await connection()
        gone: list[bool] = []
        tunnel = Tunnel(near, far, lambda: gone.append(True))
        opened.append(Joined(client, service, [near, far], tunnel, gone))
        tunnel.begin(to_client, to_service, client_ended=client_ended)
        return opened[-1]

    yield join
    for joined in opened:
        joined.tunnel.abort()
        for peer in (joined.client, joined.service):
            peer.writer.transport.abort()
        await until(lambda: joined.gone)  # noqa: B023


Join = Callable[..., Awaitable[Joined]]


async def connection() -> tuple[Peer, asyncio.Transport]:
    """Return both sides of a new TCP connection, the second one for a tunnel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()
    return Peer(*await asyncio.open_connection(sock=theirs)), transport


# --- bytes -----------------------------------------------------------------------------------------------------------


async def test_what_came_before_goes_first_and_all_else_follows(join: Join) -> None:
    joined = await join(b"answer", b"held")
    await joined.client.hears(b"answer")
    await joined.service.hears(b"held")
    for number in range(20):
        joined.client.writer.write(b"up %d" % number)
        await joined.service.hears(b"up %d" % number)
        joined.service.writer.write(b"down %d" % number)
        await joined.client.hears(b"down %d" % number)


@pytest.mark.parametrize("upwards", [True, False])
async def test_a_slow_reader_is_waited_for_and_little_is_held(join: Join, upwards: bool) -> None:
    joined = await join()
    sender, reader = (joined.client, joined.service) if upwards else (joined.service, joined.client)
    data = random.Random(1).randbytes(MEGABYTE) * 32
    sender.writer.write(data)
    await until(lambda: joined.held() > limits.TUNNEL_BUFFER_BYTES)
    most = 0
    received = bytearray()
    async with asyncio.timeout(60):
        while len(received) < len(data):
            most = max(most, joined.held())
            received += await reader.reader.read(100_000)
            await asyncio.sleep(0)
    assert received == data
    assert most <= limits.TUNNEL_BUFFER_BYTES + READ_BYTES_MAX


async def test_both_ways_at_once(join: Join) -> None:
    joined = await join()
    data = random.Random(2).randbytes(MEGABYTE) * 8
    joined.client.writer.write(data)
    joined.service.writer.write(data)
    await asyncio.gather(joined.client.hears(data), joined.service.hears(data))


async def test_one_who_does_not_read_stops_only_its_own_direction(join: Join) -> None:
    joined = await join()
    joined.service.writer.write(b"x" * (32 * MEGABYTE))
    await until(lambda: joined.held() > limits.TUNNEL_BUFFER_BYTES)
    joined.client.writer.write(b"still here")
    await joined.service.hears(b"still here")
    loop = asyncio.get_running_loop()
    await until(lambda: joined.tunnel.unread_for(loop.time()) > 0)
    assert not joined.tunnel.overdue(loop.time() + 1e6), "to be slow is not to be ending"


# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_first", [True, False])
async def test_the_end_of_one_side_is_passed_on_and_the_other_may_still_speak(join: Join, client_first: bool) -> None:
    joined = await join()
    first, second = (joined.client, joined.service) if client_first else (joined.service, joined.client)
    first.writer.write(b"last words")
    first.writer.write_eof()
    await second.hears(b"last words")
    await second.hears_the_end()
    second.writer.write(b"an answer")
    await first.hears(b"an answer")
    assert joined.gone == []
    second.writer.write_eof()
    await first.hears_the_end()
    await until(lambda: joined.gone == [True])


async def test_a_client_that_had_ended_before(join: Join) -> None:
    joined = await join(b"", b"held", client_ended=True)
    await joined.service.hears(b"held")
    await joined.service.hears_the_end()
    joined.service.writer.write(b"bye")
    joined.service.writer.close()
    await joined.client.hears(b"bye")
    await joined.client.hears_the_end()
    await until(lambda: joined.gone == [True])


@pytest.mark.parametrize("client_first", [True, False])
async def test_the_loss_of_one_side_ends_the_other(join: Join, client_first: bool) -> None:
    joined = await join()
    first, second = (joined.client, joined.service) if client_first else (joined.service, joined.client)
    joined.client.writer.write(b"up")
    await joined.service.hears(b"up")
    first.writer.transport.abort()
    await second.hears_the_end()
    second.writer.close()
    await until(lambda: joined.gone == [True])


async def test_closing_ends_both_sides_behind_what_was_under_way(join: Join) -> None:
    joined = await join(b"to client", b"to service")
    joined.tunnel.close()
    await joined.service.hears(b"to service")
    await joined.client.hears(b"to client")
    await joined.service.hears_the_end()
    await joined.client.hears_the_end()
    await until(lambda: joined.gone == [True])


async def test_an_ending_that_nobody_reads_is_overdue_and_can_be_cut(join: Join) -> None:
    joined = await join()
    loop = asyncio.get_running_loop()
    joined.service.writer.write(b"x" * (32 * MEGABYTE))
    await until(lambda: joined.held() > limits.TUNNEL_BUFFER_BYTES)
    joined.service.writer.transport.abort()
    joined.client.writer.write(b"is anybody there")
    joined.tunnel.close()
    await until(lambda: joined.ends[1].is_closing())
    assert not joined.tunnel.overdue(loop.time())
    assert joined.tunnel.overdue(loop.time() + limits.TUNNEL_ENDING_SECONDS_MAX + 1)
    assert joined.gone == []
    joined.tunnel.abort()
    await until(lambda: joined.gone == [True])


async def test_tcp_asks_whether_silent_ends_are_still_there(join: Join) -> None:
    joined = await join()
    for end in joined.ends:
        own = end.get_extra_info("socket")
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == limits.TUNNEL_KEEPALIVE_SECONDS

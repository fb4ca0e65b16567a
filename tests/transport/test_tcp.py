"""The TCP mesh against strangers, garbage, silence and slow readers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from quorate import limits
from quorate.errors import Misbehaviour, Misuse, NetworkRefused
from quorate.transport.tcp import TcpMesh
from quorate.types import ReplicaId
from quorate.wire import WIRE_MAGIC, WIRE_VERSION, FrameReader, Hello, encode_frame

ME, PEER = ReplicaId(1), ReplicaId(2)
HELLO = Hello(WIRE_MAGIC, WIRE_VERSION, "bank", 1, PEER, ME)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


class Host:
    """A started mesh of one, whose peer is played by the test."""

    def __init__(self) -> None:
        self.address, self.peer_address = free_address(), free_address()
        self.mesh = TcpMesh(ME, {ME: self.address, PEER: self.peer_address}, "bank", 1, random.Random(1))
        self.heard: list[tuple[ReplicaId, bytes]] = []
        self.mesh.on_message = lambda sender, payload: self.heard.append((sender, payload))
        self._writers: list[asyncio.StreamWriter] = []

    def refused(self) -> int:
        return self.mesh.statistics().refused_connections

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Come as whoever, without a greeting."""
        host, _, port = self.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._writers.append(writer)
        return reader, writer

    async def greet(self, hello: Hello = HELLO) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Hello]:
        """Come with a greeting and return the answer."""
        reader, writer = await self.connect()
        writer.write(encode_frame(hello.encode()))
        return reader, writer, await read_hello(reader)

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.mesh.close()


async def read_hello(reader: asyncio.StreamReader) -> Hello:
    frames: list[bytes] = []
    frame_reader = FrameReader()
    while not frames:
        data = await reader.read(1024)
        assert data, "closed without a greeting"
        frames += frame_reader.feed(data)
    return Hello.decode(frames[0])


async def at_end(reader: asyncio.StreamReader) -> bool:
    """Wait for the other side to close."""
    try:
        async with asyncio.timeout(10):
            return await reader.read() is not None
    except ConnectionResetError:
        return True


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.mesh.start()
    yield host
    await host.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


class TestAccepting:
    async def test_a_peer_is_greeted_and_heard(self, host: Host) -> None:
        _, writer, answer = await host.greet()
        assert answer == Hello(WIRE_MAGIC, WIRE_VERSION, "bank", 1, ME, PEER)
        writer.write(encode_frame(b"one") + encode_frame(b"two"))
        await until(lambda: len(host.heard) == 2)
        assert host.heard == [(PEER, b"one"), (PEER, b"two")]

    @pytest.mark.parametrize(
        "changed", [{"cluster": "shop"}, {"epoch": 2}, {"sender": 1}, {"sender": 9}, {"receiver": 3}, {"receiver": 0}]
    )
    async def test_a_stranger_is_told_and_closed(self, host: Host, changed: dict[str, object]) -> None:
        reader, writer, answer = await host.greet(msgspec.structs.replace(HELLO, **changed))
        assert answer.receiver == 0
        writer.write(encode_frame(b"believe me"))
        assert await at_end(reader)
        assert host.refused() == 1
        assert host.heard == []

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\xff" * 100,
            encode_frame(b"no greeting"),
            encode_frame(b"x" * (limits.HELLO_BYTES_MAX + 1)),
            encode_frame(msgspec.structs.replace(HELLO, version=2).encode()),
            encode_frame(msgspec.structs.replace(HELLO, magic=b"etcd").encode()),
            b"\x00\x00\x00\x01\x00\x00\x00\x00x",
        ],
        ids=["http", "huge length", "no hello", "large hello", "version", "magic", "checksum"],
    )
    async def test_garbage_is_closed_without_a_word(self, host: Host, garbage: bytes) -> None:
        reader, writer = await host.connect()
        writer.write(garbage)
        assert await reader.read() == b""
        assert host.refused() == 1

    @pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\x00\x00\x00\x01\x00\x00\x00\x00x"], ids=["length", "checksum"])
    async def test_garbage_after_the_greeting_is_closed(self, host: Host, garbage: bytes) -> None:
        reader, writer, _ = await host.greet()
        writer.write(encode_frame(b"good"))
        await until(lambda: host.heard)
        writer.write(garbage)
        assert await at_end(reader)
        assert host.refused() == 1

    async def test_misbehaviour_found_by_the_listener_closes_too(self, host: Host) -> None:
        def refuse(sender: ReplicaId, payload: bytes) -> None:
            raise Misbehaviour("nonsense")

        host.mesh.on_message = refuse
        reader, writer, _ = await host.greet()
        writer.write(encode_frame(b"\xff"))
        assert await at_end(reader)
        assert host.refused() == 1

    async def test_a_newer_connection_replaces_the_older(self, host: Host) -> None:
        older, _, _ = await host.greet()
        _, writer, _ = await host.greet()
        assert await at_end(older)
        writer.write(encode_frame(b"still here"))
        await until(lambda: host.heard)
        assert host.refused() == 0

    async def test_silence_is_closed(self, host: Host) -> None:
        reader, writer = await host.connect()
        writer.write(encode_frame(HELLO.encode())[:-1])
        assert await reader.read() == b""
        assert host.refused() == 1

    async def test_strangers_are_bounded_and_peers_do_not_count(self, host: Host) -> None:
        await host.greet()
        waiting = [await host.connect() for _ in range(limits.UNGREETED_CONNECTIONS_MAX)]
        reader, _ = await host.connect()
        assert await reader.read() == b""
        assert host.refused() == 1
        waiting[0][1].close()
        await at_end(waiting[0][0])
        await host.greet()


class TestDialling:
    async def test_the_peer_is_dialled_and_greeted(self, host: Host) -> None:
        async with playing_peer(host) as connections:
            reader, writer = await connections.get()
            assert await read_hello(reader) == Hello(WIRE_MAGIC, WIRE_VERSION, "bank", 1, ME, PEER)
            host.mesh.send((PEER,), b"too early")
            assert host.mesh.statistics().dropped_frames == 1
            writer.write(encode_frame(HELLO.encode()))
            await until(lambda: host.mesh.connected() == {PEER})
            host.mesh.send((PEER,), b"now")
            host.mesh.flush()
            assert await reader.readexactly(11) == encode_frame(b"now")

    async def test_another_replica_at_the_address_is_refused(self) -> None:
        third = ReplicaId(3)
        addresses = [free_address() for _ in range(2)]
        mesh = TcpMesh(ME, {ME: addresses[0], PEER: addresses[1], third: addresses[1]}, "bank", 1, random.Random(1))
        peer = TcpMesh(PEER, {ME: addresses[0], PEER: addresses[1]}, "bank", 1, random.Random(2))
        await peer.start()
        await mesh.start()
        await until(lambda: mesh.connected() == {PEER} and mesh.statistics().refused_connections >= 2)
        await mesh.close()
        await peer.close()

    async def test_frames_on_a_dialled_connection_are_refused(self, host: Host) -> None:
        async with playing_peer(host) as connections:
            reader, writer = await connections.get()
            writer.write(encode_frame(HELLO.encode()) + encode_frame(b"psst"))
            assert await at_end(reader)
            assert host.heard == []
            assert host.refused() == 1

    async def test_a_peer_that_never_greets_is_dialled_again(self, host: Host) -> None:
        async with playing_peer(host) as connections:
            silent, _ = await connections.get()
            assert await at_end(silent)
            reader, writer = await connections.get()
            await read_hello(reader)
            writer.write(encode_frame(HELLO.encode()))
            await until(lambda: host.mesh.connected() == {PEER})

    async def test_a_peer_that_reads_nothing_fills_its_buffer_and_then_loses(self, host: Host) -> None:
        async with playing_peer(host) as connections:
            reader, writer = await connections.get()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(encode_frame(HELLO.encode()))
            await until(lambda: host.mesh.connected() == {PEER})
            megabytes = bytes(8 * 1024 * 1024)
            for _ in range(20):
                host.mesh.send((PEER,), megabytes)
                host.mesh.flush()
            statistics = host.mesh.statistics()
            assert statistics.dropped_frames >= 5
            assert statistics.sent_frames == 20 - statistics.dropped_frames
            assert limits.PEER_BUFFER_BYTES_MAX - 2 * len(megabytes) < statistics.buffered_bytes
            assert statistics.buffered_bytes <= limits.PEER_BUFFER_BYTES_MAX
            writer.transport.abort()
            await until(lambda: not host.mesh.connected())
            assert host.mesh.statistics().buffered_bytes == 0

    async def test_unflushed_frames_of_a_lost_connection_count_as_dropped(self, host: Host) -> None:
        async with playing_peer(host) as connections:
            _, writer = await connections.get()
            writer.write(encode_frame(HELLO.encode()))
            await until(lambda: host.mesh.connected() == {PEER})
            host.mesh.send((PEER,), b"a")
            host.mesh.send((PEER,), b"b")
            writer.transport.abort()
            await until(lambda: not host.mesh.connected())
            statistics = host.mesh.statistics()
            assert (statistics.dropped_frames, statistics.sent_frames, statistics.buffered_bytes) == (2, 0, 0)


class playing_peer:  # noqa: N801 - used as a context manager
    """Listen where the peer should, and hand out the connections that come."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._queue: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        host, _, port = self._host.peer_address.partition(":")
        self._server = await asyncio.start_server(self._on_connection, host, int(port))
        return self._queue

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._queue.put_nowait((reader, writer))

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()


class TestAddresses:
    async def test_a_taken_address_is_refused_by_name(self, host: Host) -> None:
        second = TcpMesh(ME, {ME: host.address, PEER: host.peer_address}, "bank", 1, random.Random(1))
        with pytest.raises(NetworkRefused, match=f"{host.address} can't be listened on"):
            await second.start()
        await second.close()

    @pytest.mark.parametrize(
        "address", ["", "localhost", "localhost:", ":7101", "localhost:0", "a:65536", "a:7x", "a:²"]
    )
    def test_what_is_no_address_is_misuse(self, address: str) -> None:
        with pytest.raises(Misuse, match="is not host:port"):
            TcpMesh(ME, {ME: "127.0.0.1:7101", PEER: address}, "bank", 1, random.Random(1))

    async def test_ipv6_addresses_are_bracketed(self) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
        mesh = TcpMesh(ME, {ME: f"[::1]:{port}"}, "bank", 1, random.Random(1))
        await mesh.start()
        _, writer = await asyncio.open_connection("::1", port)
        writer.transport.abort()
        await mesh.close()

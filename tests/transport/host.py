"""A started mesh of one, whose peer is played by the test."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from quorate.errors import Broken
from quorate.transport import Channel, MeshOptions, StoreFacts
from quorate.transport.tcp import TcpMesh
from quorate.transport.tls import Credentials
from quorate.types import ReplicaId, founding
from quorate.wire import WIRE_MAGIC, WIRE_VERSION, FrameReader, Hello, Refusal, encode_frame

ME, PEER = ReplicaId(1), ReplicaId(2)
FACTS = StoreFacts(b"the store of one", 4, b"nonce 1.", lambda: 40)
HELLO = Hello(WIRE_MAGIC, WIRE_VERSION, "bank", 1, PEER, ME, "", b"the store of two", 5, b"nonce 2.", 50)
"""How the peer greets."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


class Host:
    """The mesh, what it heard, and what its peer does."""

    def __init__(self, directory: Path, credentials: Credentials | None = None) -> None:
        self.address, self.peer_address = free_address(), free_address()
        founders = founding({ME: self.address, PEER: self.peer_address})
        options = MeshOptions("bank", 1, self.address, credentials=credentials)
        self.mesh = TcpMesh(ME, founders, options, FACTS, directory, random.Random(1))
        self.heard: list[tuple[ReplicaId, bytes]] = []
        self.mesh.subscribe(Channel.ORDER, lambda sender, payload: self.heard.append((sender, payload)))
        self.dismissed: list[Broken] = []
        self.mesh.on_refused = self.dismissed.append
        self.own_hello = Hello(WIRE_MAGIC, WIRE_VERSION, "bank", 1, ME, PEER, self.address, *FACTS[:3], 40)
        self._writers: list[asyncio.StreamWriter] = []

    def refused(self) -> int:
        return self.mesh.statistics().refused_connections

    async def connect(self) -> Streams:
        """Come as whoever, without a greeting."""
        host, _, port = self.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._writers.append(writer)
        return reader, writer

    async def greet(self, hello: Hello = HELLO) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Hello]:
        """Come with a greeting and return the answer."""
        reader, writer = await self.connect()
        writer.write(greeting(hello))
        return reader, writer, await read_hello(reader)

    @asynccontextmanager
    async def playing_peer(self) -> AsyncIterator[asyncio.Queue[Streams]]:
        """Listen where the peer should, and hand out the connections that come."""
        queue: asyncio.Queue[Streams] = asyncio.Queue()
        writers: list[asyncio.StreamWriter] = []

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            queue.put_nowait((reader, writer))

        host, _, port = self.peer_address.partition(":")
        server = await asyncio.start_server(on_connection, host, int(port))
        try:
            yield queue
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await server.wait_closed()

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.mesh.close()


def greeting(hello: Hello = HELLO) -> bytes:
    return encode_frame(hello.encode(), Channel.MESH)


def refusal(refusal: Refusal, why: str) -> bytes:
    names = (WIRE_MAGIC, WIRE_VERSION, "bank", 1, PEER, ME)
    return greeting(Hello(*names, refusal=refusal, why=why))


async def read_hello(reader: asyncio.StreamReader) -> Hello:
    frames: list[tuple[int, bytes]] = []
    frame_reader = FrameReader()
    while not frames:
        data = await reader.read(2048)
        assert data, "closed without a greeting"
        frames += frame_reader.feed(data)
    channel, payload = frames[0]
    assert channel == Channel.MESH
    return Hello.decode(payload)


async def at_end(reader: asyncio.StreamReader) -> bool:
    """Wait for the other side to close."""
    try:
        async with asyncio.timeout(10):
            return await reader.read() is not None
    except ConnectionResetError:
        return True


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)

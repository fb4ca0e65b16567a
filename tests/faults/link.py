"""A proxy that makes TCP links slow, narrow or dead, on a machine whose kernel has no netem.

It stands at the switch of a `Network`, which redirects connections to it; where each was bound for, the kernel tells
(SO_ORIGINAL_DST). What travels from node a to node b, on whichever connection, has the shape of the link (a, b): late
by `delay_seconds` and up to `jitter_seconds` more, at `bytes_per_second` at most, or not at all while `stalled`. Bytes
stay in order, as TCP keeps them; a reordered or doubled message does not arise on this level. A stalled link is the
half-open connection at its worst: what is sent is acknowledged by a kernel in the middle, and goes nowhere.

Run as `python -m tests.faults.link`. Each line of standard input is a JSON object {"origin", "to", and the shape};
each is answered by a line once it is in force. The end of input ends it. `Proxy` is its handle.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import msgspec
from tests.faults.network import PROXY_PORT, Link, Network, inside, node_of

ROOT = Path(__file__).parents[2]
SO_ORIGINAL_DST = 80
"""<linux/netfilter_ipv4.h>"""
CHUNK_BYTES = 16 * 1024
CHUNKS_MAX = 256
"""Held on one way of one connection; past it the sender is not read."""


Held = asyncio.Queue[tuple[float, bytes]]
"""What was read, and when it is due."""


class Shape(msgspec.Struct, frozen=True):
    """How a link treats what travels it."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = float("inf")
    stalled: bool = False


class Order(Shape, frozen=True, kw_only=True):
    """A line of standard input."""

    origin: int
    to: int


class Proxy:
    """The proxy of a network, as a process at its switch."""

    def __init__(self, network: Network) -> None:
        with inside(network.switch):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.link"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
            )
        self.shape((0, 0), Shape())  # answered once it listens

    def shape(self, link: Link, shape: Shape) -> None:
        """Give one direction of a link its shape; returns when it has it."""
        order = msgspec.structs.asdict(shape) | {"origin": link[0], "to": link[1]}
        if shape.bytes_per_second == float("inf"):
            del order["bytes_per_second"]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline(), "the proxy has died"

    def close(self) -> None:
        """End it."""
        self.process.communicate()


class Links:
    """The shapes, and the connections that travel them."""

    def __init__(self) -> None:
        self.shapes: dict[Link, Shape] = defaultdict(Shape)
        self.changed = asyncio.Condition()
        self.random = random.Random()

    async def obey(self, line: bytes) -> None:
        """Carry out one order."""
        order = msgspec.json.decode(line, type=Order)
        self.shapes[order.origin, order.to] = order
        async with self.changed:
            self.changed.notify_all()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one redirected connection, until either end closes it."""
        origin = node_of(writer.get_extra_info("peername")[0])
        host, port = original_destination(writer.get_extra_info("socket"))
        try:
            onward, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        there = node_of(host)
        ways = [
            asyncio.create_task(self.carry(reader, back, (origin, there))),
            asyncio.create_task(self.carry(onward, writer, (there, origin))),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, back):
            end.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        """Carry one way of a connection to its end."""
        held: Held = asyncio.Queue(CHUNKS_MAX)
        taking = asyncio.create_task(self.take(reader, link, held))
        try:
            await self.give(writer, link, held)
        finally:
            taking.cancel()

    async def take(self, reader: asyncio.StreamReader, link: Link, held: Held) -> None:
        """Read, and say when what was read is due; an empty chunk is the end, as is a broken connection."""
        due = 0.0
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            shape = self.shapes[link]
            now = asyncio.get_running_loop().time()
            due = max(due, now + shape.delay_seconds + self.random.uniform(0, shape.jitter_seconds))
            await held.put((due, chunk))

    async def give(self, writer: asyncio.StreamWriter, link: Link, held: Held) -> None:
        """Write what is due, as the link's shape allows, until the end or until nobody reads it."""
        while not writer.is_closing():
            due, chunk = await held.get()
            if not chunk:
                return
            async with self.changed:
                await self.changed.wait_for(lambda: not self.shapes[link].stalled)
            late = len(chunk) / self.shapes[link].bytes_per_second
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0) + late)
            writer.write(chunk)
            with suppress(OSError):
                await writer.drain()


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Return where a redirected connection was bound for."""
    data = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, packed = struct.unpack_from("!2xH4s", data)
    return socket.inet_ntoa(packed), port


async def main() -> None:
    """Listen, then obey standard input to its end."""
    links = Links()
    server = await asyncio.start_server(links.connect, "0.0.0.0", PROXY_PORT)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        await links.obey(line)
        sys.stdout.write("done\n")
        sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())

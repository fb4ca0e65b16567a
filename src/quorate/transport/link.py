"""The way to one peer: keeps a connection dialled, and holds what is not yet written to it.

- STATE frames wait in a queue of their own and leave while little else is unsent, so that a heartbeat queues behind one
  of them at most, however slow the network.
- An address that works is kept. Where the peer last said that it listens is tried when the present one fails, and then
  becomes the present one: a peer that moved is found as soon as it has found anybody.
- The pause before a new attempt is drawn from an interval that doubles ("full jitter": Brooker, "Exponential Backoff
  And Jitter", 2015).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from quorate.errors import Broken, Misbehaviour
from quorate.limits import (
    HELLO_SECONDS_MAX,
    PEER_BUFFER_BYTES_MAX,
    RECONNECT_SECONDS_MAX,
    RECONNECT_SECONDS_MIN,
    STATE_BUFFER_BYTES_MAX,
)
from quorate.transport.addresses import Address, parse_address
from quorate.transport.connection import Connection, Gate
from quorate.transport.greeter import Dismissed
from quorate.types import ReplicaId
from quorate.wire import Channel, Hello

log = structlog.get_logger(__name__)


@dataclass
class SendCounts:
    """What all links of a mesh have sent and dropped since the start."""

    sent_frames: int = 0
    sent_bytes: int = 0
    dropped_frames: int = 0
    dropped_state_frames: int = 0
    connects: int = 0

    def drop(self, frames: int, channel: Channel) -> None:
        """Count frames that will not be sent."""
        self.dropped_frames += frames
        if channel is Channel.STATE:
            self.dropped_state_frames += frames


class Dialled(Connection):
    """The sending end."""

    accepting = False

    def __init__(self, gate: Gate, link: Link) -> None:
        super().__init__(gate)
        self._link = link

    def on_open(self) -> None:
        """Greet first."""
        self.transport.write(self.gate.greeter.greeting(self._link.replica))

    def on_hello(self, hello: Hello) -> None:
        """Take the answer of the peer that was meant, and of no other."""
        if hello.sender != self._link.replica:
            raise Misbehaviour(f"replica {hello.sender} answers at the address of replica {self._link.replica}")
        try:
            self.gate.greeter.check(hello, self.certified())
        except Dismissed as dismissed:
            if dismissed.error is not None:
                self._link.on_dismissed(dismissed.error)
            raise
        self._link.connected(self)

    def on_frame(self, channel: int, payload: bytes) -> None:
        """Refuse: nothing travels this way."""
        raise Misbehaviour(f"replica {self._link.replica} sends on a connection that it accepted")

    def resume_writing(self) -> None:
        """Let STATE go on."""
        super().resume_writing()
        self._link.flush_state()

    def connection_lost(self, error: Exception | None) -> None:
        """Have the peer dialled again."""
        super().connection_lost(error)
        self._link.disconnected(self, error)


class Link:
    """The way to `replica`, for as long as `keep_dialled` runs. Without an `address` the peer has to tell it first.

    `on_dismissed` is called when the peer says that this replica must not go on.
    """

    def __init__(
        self,
        gate: Gate,
        replica: ReplicaId,
        address: Address | None,
        counts: SendCounts,
        rng: random.Random,
        on_dismissed: Callable[[Broken], None],
    ) -> None:
        self.replica = replica
        self.on_dismissed = on_dismissed
        self.connection: Dialled | None = None
        self._gate = gate
        self._address = address
        self._told: Address | None = None
        self._counts = counts
        self._rng = rng
        self._queued: list[bytes] = []
        self._queued_bytes = 0
        self._state: deque[bytes] = deque()
        self._state_bytes = 0

    def queue(self, frame: bytes, channel: Channel) -> None:
        """Take one frame, or drop it."""
        if self.connection is None or self.buffered_bytes() + len(frame) > PEER_BUFFER_BYTES_MAX:
            self._counts.drop(1, channel)
        elif channel is not Channel.STATE:
            self._queued.append(frame)
            self._queued_bytes += len(frame)
        elif self._state_bytes + len(frame) <= STATE_BUFFER_BYTES_MAX:
            self._state.append(frame)
            self._state_bytes += len(frame)
        else:
            self._counts.drop(1, channel)

    def flush(self) -> None:
        """Write what is queued, and of STATE as much as the network takes."""
        if self.connection is not None and self._queued:
            self.connection.write(self._queued)
            self._counts.sent_frames += len(self._queued)
            self._counts.sent_bytes += self._queued_bytes
            self._queued, self._queued_bytes = [], 0
        self.flush_state()

    def flush_state(self) -> None:
        """Write STATE until something is unsent."""
        while self._state and self.connection is not None and self.connection.writable:
            frame = self._state.popleft()
            self._state_bytes -= len(frame)
            self._counts.sent_frames += 1
            self._counts.sent_bytes += len(frame)
            self.connection.write([frame])

    def tell(self, frame: bytes) -> None:
        """Write a frame of the mesh's own, unless the network is behind: the next one says as much."""
        if self.connection is not None and self.connection.writable:
            self.connection.write([frame])

    def buffered_bytes(self) -> int:
        """Return what the kernel has not taken yet."""
        written = self.connection.unsent_bytes() if self.connection else 0
        return self._queued_bytes + self._state_bytes + written

    def told(self, address: str) -> None:
        """Take note where the peer says that it listens; it has said host:port, or nothing."""
        if address:
            self._told = parse_address(address)

    async def keep_dialled(self) -> None:
        """Dial, wait for the end of the connection, pause; until cancelled."""
        pause = RECONNECT_SECONDS_MIN
        while True:
            if await self._dial():
                pause = RECONNECT_SECONDS_MIN
            else:
                pause = min(2 * pause, RECONNECT_SECONDS_MAX)
                self._move()
            await asyncio.sleep(self._rng.uniform(0, pause))

    async def _dial(self) -> bool:
        """Connect, and return when the connection has ended: True if it was greeted."""
        if self._address is None:
            return False
        connection = Dialled(self._gate, self)
        reached = False
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                await asyncio.get_running_loop().create_connection(lambda: connection, *self._address)
            reached = True
        except (OSError, ValueError):
            return False  # nobody there yet, or no more, or it is no name at all: `connected` shows it
        finally:
            if not reached and connection in self._gate.open:
                connection.abort()
                connection.connection_lost(None)  # uvloop tells nobody if this was cancelled
        await connection.wait_ended()
        return connection.greeted

    def _move(self) -> None:
        if self._told is not None and self._told != self._address:
            log.info("peer is tried elsewhere", peer=self.replica, host=self._told[0], port=self._told[1])
            self._address, self._told = self._told, self._address

    def connected(self, connection: Dialled) -> None:
        """Send on this connection."""
        self.connection = connection
        self._counts.connects += 1
        log.info("peer connected", peer=self.replica, remote=connection.remote)

    def disconnected(self, connection: Dialled, error: Exception | None) -> None:
        """Drop what was not written."""
        if self.connection is not connection:
            return
        self.connection = None
        self._counts.drop(len(self._queued), Channel.ORDER)
        self._counts.drop(len(self._state), Channel.STATE)
        self._queued, self._queued_bytes = [], 0
        self._state.clear()
        self._state_bytes = 0
        log.info("peer lost", peer=self.replica, remote=connection.remote, why=str(error or "closed"))

"""One TCP connection between two replicas, as either end sees it: TLS if there is to be any, a greeting each way, then
frames.

What it refuses, it closes: a handshake that fails; a greeting that is late, malformed or not accepted; a frame too
large or damaged; a payload its receiver finds nonsensical. TLS begins on a connection that is already held, so that its
handshake is under the same deadline and among the same number of strangers as a greeting.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from typing import ClassVar, cast

import structlog

from quorate.errors import Misbehaviour
from quorate.limits import (
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    HELLO_SECONDS_MAX,
    KERNEL_UNSENT_BYTES,
    PEER_ACK_SECONDS_MAX,
    REFUSAL_LOG_SECONDS,
    STATE_YIELD_BYTES,
    UNGREETED_CONNECTIONS_MAX,
)
from quorate.transport.greeter import Greeter
from quorate.transport.tls import Credentials, certified_uris, handshake_fault
from quorate.wire import Channel, FrameReader, Hello

log = structlog.get_logger(__name__)


class Gate:
    """What the connections of one mesh share: how they greet and are secured, who is open, and what was refused."""

    def __init__(self, greeter: Greeter, credentials: Credentials | None) -> None:
        self.greeter = greeter
        self.credentials = credentials
        self.open: set[Connection] = set()
        self.closed = False
        """No connection is to come any more; one that the loop had accepted already is dropped."""
        self.refused_connections = 0
        self._logged_at = float("-inf")

    def has_room(self) -> bool:
        """Say whether the accepted connections that have not greeted are within their bound."""
        strangers = sum(connection.accepting and not connection.greeted for connection in self.open)
        return strangers <= UNGREETED_CONNECTIONS_MAX

    def refused(self, remote: str, reason: str) -> None:
        """Count a refusal, and log it unless another was logged a moment ago."""
        self.refused_connections += 1
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= REFUSAL_LOG_SECONDS:
            self._logged_at = now
            log.warning("connection refused", remote=remote, why=reason, refused=self.refused_connections)


class Connection(asyncio.Protocol, ABC):
    """Base of the dialled and the accepted end."""

    accepting: ClassVar[bool]

    transport: asyncio.Transport
    _socket_transport: asyncio.Transport
    """The same without TLS."""
    _deadline: asyncio.TimerHandle

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.greeted = False
        self.writable = True
        self.remote = ""
        self.ended = asyncio.Event()
        self._secured = False
        self._securing: asyncio.Task[None] | None = None
        self._deaf = False
        """Closing: what still arrives is not heard."""
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._early: list[bytes] = []
        """Arrived before the handshake began to listen, or with its end, of which we hear a turn of the loop later."""

    @abstractmethod
    def on_open(self) -> None:
        """Begin: the way is as secure as it is going to be."""

    @abstractmethod
    def on_hello(self, hello: Hello) -> None:
        """Accept the other's greeting, or raise `Misbehaviour`."""

    @abstractmethod
    def on_frame(self, channel: int, payload: bytes) -> None:
        """Take one frame, or raise `Misbehaviour`."""

    def certified(self) -> frozenset[str] | None:
        """Return the URIs in the other end's certificate; None in the clear."""
        if self.gate.credentials is None:
            return None
        return certified_uris(self.transport.get_extra_info("peercert"))

    def unsent_bytes(self) -> int:
        """Return what was written and the kernel has not taken."""
        unsent = self._socket_transport.get_write_buffer_size()
        return unsent if self.gate.credentials is None else unsent + self.transport.get_write_buffer_size()

    def write(self, frames: list[bytes]) -> None:
        """Send frames, in as few writes (and records of TLS) as can be."""
        if self.gate.credentials is None:
            self.transport.writelines(frames)
        else:
            self.transport.write(b"".join(frames))

    def refuse(self, reason: str) -> None:
        """Close, after what was already written, and hear no more."""
        if not self._deaf:
            self._deaf = True
            self._deadline.cancel()
            self.gate.refused(self.remote, reason)
            self.transport.close()

    def abort(self) -> None:
        """Close at once, and hear no more."""
        self._deaf = True
        if self._securing is not None:
            self._securing.cancel()  # on a closed connection it would wait until it times out
        self._socket_transport.abort()

    async def wait_ended(self) -> None:
        """Wait until nothing more comes of this connection."""
        await self.ended.wait()
        if self._securing is not None:
            await asyncio.wait((self._securing,))

    # --- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the connection up, and secure it if it is to be secured."""
        self.transport = self._socket_transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("?", 0)
        self.remote = f"{peer[0]}:{peer[1]}"
        _set_options(transport.get_extra_info("socket"))
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HELLO_SECONDS_MAX, self._on_silence)
        self.gate.open.add(self)
        if self.gate.closed:
            self.abort()
        elif self.accepting and not self.gate.has_room():
            self.refuse("too many connections without a greeting")
        elif self.gate.credentials is None:
            self._begin(self.transport)
        else:
            self.transport.pause_reading()
            self._securing = loop.create_task(self._secure(self.gate.credentials))
            loop.call_soon(loop.call_soon, self._hand_over)  # behind what start_tls schedules

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames; the first is the greeting."""
        if self._deaf:
            return
        if not self._secured:
            self._early.append(data)
            return
        try:
            for channel, payload in self._reader.feed(data):
                if self._deaf:
                    return
                if self.greeted:
                    self.on_frame(channel, payload)
                else:
                    self._greet(channel, payload)
        except Misbehaviour as error:
            self.refuse(str(error))

    def pause_writing(self) -> None:
        """Note that STATE has to wait."""
        self.writable = False

    def resume_writing(self) -> None:
        """Note that it need not any more."""
        self.writable = True

    def connection_lost(self, error: Exception | None) -> None:
        """Let whoever waits know. Comes once or twice: not every loop calls it when a handshake ends badly."""
        if isinstance(error, ssl.SSLError) and not self._deaf:
            self.gate.refused(self.remote, handshake_fault(error))
        self._deaf = True
        self._deadline.cancel()
        self.gate.open.discard(self)
        self.ended.set()

    # --- steps -------------------------------------------------------------------------------------------------------

    async def _secure(self, credentials: Credentials) -> None:
        context = credentials.server if self.accepting else credentials.client
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self.transport,
                self,
                context,
                server_side=self.accepting,
                ssl_handshake_timeout=HELLO_SECONDS_MAX,
                ssl_shutdown_timeout=HELLO_SECONDS_MAX,
            )
        except (OSError, asyncio.CancelledError) as error:
            secured = None
            if isinstance(error, ssl.SSLError):  # else the peer went away, or `abort` was called
                self.refuse(handshake_fault(error))
        if secured is None or self._socket_transport.is_closing():
            self.connection_lost(None)
        else:
            self._begin(secured)

    def _hand_over(self) -> None:
        """Give the handshake what arrived before it: uvloop begins to read although it was told not to."""
        early, self._early = self._early, []
        if early and not self._socket_transport.is_closing():
            handshake = cast("asyncio.BufferedProtocol", self._socket_transport.get_protocol())
            for data in early:
                memoryview(handshake.get_buffer(len(data)))[: len(data)] = data
                handshake.buffer_updated(len(data))

    def _begin(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=STATE_YIELD_BYTES)
        self._secured = True
        self.on_open()
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def _greet(self, channel: int, payload: bytes) -> None:
        if channel != Channel.MESH:
            raise Misbehaviour(f"first frame is no greeting but one on channel {channel}")
        self.on_hello(Hello.decode(payload))
        self.greeted = True
        self._reader.payload_bytes_max = FRAME_BYTES_MAX
        self._deadline.cancel()

    def _on_silence(self) -> None:
        self.refuse(f"no greeting within {HELLO_SECONDS_MAX} s")
        self.abort()


def _set_options(own: socket.socket) -> None:
    """No delay for small frames, an early end of dead connections, and little that the kernel holds unsent."""
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PEER_ACK_SECONDS_MAX * 1000))
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
    # Keepalive is for the accepting end, which sends nothing that could go unacknowledged.
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(PEER_ACK_SECONDS_MAX)))
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)

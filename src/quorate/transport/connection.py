"""One TCP connection between two replicas, as either end sees it: a greeting each way, then frames.

What it refuses, it closes: a greeting that is late, malformed or not accepted by its owner; a frame too large or
damaged; a payload its owner finds nonsensical.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import cast

from quorate.errors import Misbehaviour
from quorate.limits import FRAME_BYTES_MAX, HELLO_BYTES_MAX, HELLO_SECONDS_MAX, PEER_ACK_SECONDS_MAX
from quorate.wire import FrameReader, Hello


class Connection(asyncio.Protocol, ABC):
    """Base of the dialled and the accepted end."""

    transport: asyncio.Transport
    _deadline: asyncio.TimerHandle

    def __init__(self) -> None:
        self.greeted = False
        self.remote = ""
        self.ended = asyncio.Event()
        self._reader = FrameReader(HELLO_BYTES_MAX)

    @abstractmethod
    def on_hello(self, hello: Hello) -> None:
        """Accept the other's greeting, or raise `Misbehaviour`."""

    @abstractmethod
    def on_payload(self, payload: bytes) -> None:
        """Take one frame's payload, or raise `Misbehaviour`."""

    @abstractmethod
    def on_refused(self, reason: str) -> None:
        """Take note that this connection is being closed, and why."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up: no delay for small frames, and an early end of dead connections."""
        self.transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(HELLO_SECONDS_MAX, self._on_silence)
        peer = transport.get_extra_info("peername") or ("?", 0)
        self.remote = f"{peer[0]}:{peer[1]}"
        own: socket.socket = transport.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PEER_ACK_SECONDS_MAX * 1000))
        # Keepalive is for the accepting end, which sends nothing that could go unacknowledged.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(PEER_ACK_SECONDS_MAX)))
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames; the first is the greeting."""
        try:
            for payload in self._reader.feed(data):
                if self.greeted:
                    self.on_payload(payload)
                else:
                    self._greet(payload)
        except Misbehaviour as error:
            self.refuse(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        """Let whoever waits know."""
        self._deadline.cancel()
        self.ended.set()

    def refuse(self, reason: str) -> None:
        """Close, after what was already written."""
        self._deadline.cancel()
        self.on_refused(reason)
        self.transport.close()

    def _greet(self, payload: bytes) -> None:
        self.on_hello(Hello.decode(payload))
        self.greeted = True
        self._reader.payload_bytes_max = FRAME_BYTES_MAX
        self._deadline.cancel()

    def _on_silence(self) -> None:
        self.refuse(f"no greeting within {HELLO_SECONDS_MAX} s")

"""An HTTP/1.1 server for a handler that answers when it can; it knows nothing of replicas.

It owns the listening addresses and the connections, bounds their number, and has one sweep enforce the deadlines of
all of them: per request there is no task, no future and no timer. Past `connections_max` a client is told 503 and the
connection closes; past CONNECTIONS_REFUSED_MAX of those, it is cut.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from quorate import limits
from quorate.errors import Misuse, NetworkRefused
from quorate.intercept.connection import Connection, Deadlines, Respond
from quorate.protocols.fields import HttpLimits
from quorate.protocols.problems import problem
from quorate.protocols.requests import Request
from quorate.protocols.responses import response_bytes

_BACKLOG = 1024
_OVERLOADED = response_bytes(
    problem(503, "overloaded", "Too many connections", "Try again later, or elsewhere.", retryable=True, retry_after=1),
    b"",
    head_only=False,
    close=True,
)


class Handler(Protocol):
    """Answers requests."""

    def handle(self, request: Request, respond: Respond) -> None:
        """Call `respond` exactly once, now or later; it may be called after the client has gone."""
        ...


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets; the defaults and their reasons are in `limits`."""

    deadlines: Deadlines = Deadlines()
    sweep_seconds: float = limits.SWEEP_SECONDS
    connections_max: int = limits.CONNECTIONS_MAX
    refused_max: int = limits.CONNECTIONS_REFUSED_MAX
    """Connections past `connections_max` that are told so before they are closed."""


class ServerStatistics(NamedTuple):
    """A snapshot for operators; all but `connections` count from the start."""

    connections: int
    """Open now."""
    accepted: int
    requests: int
    """Handed to the handler."""
    refused: Mapping[str, int]
    """Refusals by code; `slow_reader` are connections cut because their client did not read."""


class HttpServer:
    """Listens on any number of addresses for one handler."""

    def __init__(
        self, handler: Handler, options: ServerOptions | None = None, http_limits: HttpLimits | None = None
    ) -> None:
        options = options or ServerOptions()
        self.deadlines = options.deadlines
        self.http_limits = http_limits or HttpLimits()
        self.draining = False
        self._handler = handler
        self._options = options
        self._accepted = 0
        self._requests = 0
        self._refused: collections.Counter[str] = collections.Counter()
        self._connections: set[Connection] = set()
        self._listeners: dict[str, asyncio.Server] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    async def listen(self, host_port: str, *, reuse_port: bool = False, tls: ssl.SSLContext | None = None) -> str:
        """Listen on `host:port` (IPv6 in brackets, port 0 for a free one) and return the address bound.

        Raises `Misuse` for what is no address, `NetworkRefused` for one that can't be bound.
        """
        host, port = split_address(host_port)
        loop = asyncio.get_running_loop()
        # So many are accepted in one go, before any can be refused.
        backlog = min(_BACKLOG, self._options.connections_max + self._options.refused_max)
        try:
            listener = await loop.create_server(
                lambda: Connection(self, loop), host, port, reuse_port=reuse_port, backlog=backlog, ssl=tls
            )
        except OSError as error:
            raise NetworkRefused(f"can't listen on {host_port}: {error.strerror}", "choose a free address") from error
        bound = listener.sockets[0].getsockname()
        address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        self._listeners[address] = listener
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._options.sweep_seconds, self._sweep, loop)
        return address

    def leave(self, address: str) -> None:
        """Stop listening on a bound address; its connections live on."""
        self._listeners.pop(address).close()

    async def drain(self, seconds: float) -> None:
        """Stop listening, end tunnels, let requests under way be answered, for at most `seconds`, and close."""
        self.draining = True
        for address in list(self._listeners):
            self.leave(address)
        for connection in list(self._connections):
            connection.close_if_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait_until_empty()
        self.close()

    def close(self) -> None:
        """Stop listening and cut every connection."""
        for address in list(self._listeners):
            self.leave(address)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._connections):
            connection.abort()

    def statistics(self) -> ServerStatistics:
        """Return a snapshot."""
        return ServerStatistics(len(self._connections), self._accepted, self._requests, dict(self._refused))

    # --- what the connections tell (see `connection.Server`) ---

    def admit(self, connection: Connection) -> bytes | None:
        """Count a new connection in; return None, or the bytes that refuse it, or none at all to cut it."""
        self._accepted += 1
        self._connections.add(connection)
        excess = len(self._connections) - self._options.connections_max
        if excess <= 0:
            return None
        self.count_refusal("overloaded")
        return _OVERLOADED if excess <= self._options.refused_max else b""

    def serve(self, request: Request, respond: Respond) -> None:
        """Hand a request to the handler."""
        self._requests += 1
        self._handler.handle(request, respond)

    def count_refusal(self, code: str) -> None:
        """Note that a request or a connection was refused."""
        self._refused[code] += 1

    def forget(self, connection: Connection) -> None:
        """Count a closed connection out."""
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()

    async def _wait_until_empty(self) -> None:
        while self._connections:
            self._emptied.clear()
            await self._emptied.wait()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(self._options.sweep_seconds, self._sweep, loop)
        now = loop.time()
        for connection in list(self._connections):
            connection.enforce_deadline(now)


def split_address(host_port: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[ipv6]:port`; raises `Misuse`."""
    host, colon, port = host_port.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise Misuse(f"{host_port!r} is not an address", "write host:port, or [host]:port for IPv6")
    return host.strip("[]"), int(port)

"""One client's connection: bytes become requests for the server, one at a time, and answers become bytes, in order.

What comes behind a request waits unread once PIPELINED_BYTES_MAX of it are here, and no request is taken while the
client leaves its answers lying. The client may take only so long over a head, a body, an idle pause or an answer; the
deadlines are absolute, so that it can't stretch them by dribbling. They are enforced when the server's sweep comes by.

Every refusal is a framed answer with `Connection: close`. A connection that closes lingers: its write side ends at
once, and what still arrives is thrown away until the client closes too or the time is over, since a reset could
otherwise destroy the answer on its way (RFC 9112 §9.6). A client that ends its own write side still gets its answers.

A connection whose request is answered by an upgrade is a tunnel from then on: what was held behind the request goes to
the service as it is. It may be silent for ever, but not leave its bytes lying; when the server drains, it is closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Protocol, cast

import msgspec

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.protocols.requests import BadRequest, Expect, Request, RequestParser
from quorate.protocols.responses import response_bytes
from quorate.protocols.upgrades import switching_bytes
from quorate.replica.relay import Tunnel
from quorate.replica.tunnels import Upgrade
from quorate.types import Outcome

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"
_RECEIVING = frozenset({"idle", "head", "body"})
_LAST = frozenset({"closing", "lingering", "gone"})


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may take, in seconds; the defaults and their reasons are in `limits`."""

    head_seconds_max: float = limits.HEAD_SECONDS_MAX
    body_seconds_max: float = limits.BODY_SECONDS_MAX
    body_grace_seconds: float = limits.BODY_GRACE_SECONDS
    body_bytes_per_second_min: int = limits.BODY_BYTES_PER_SECOND_MIN
    idle_seconds_max: float = limits.IDLE_SECONDS_MAX
    write_seconds_max: float = limits.WRITE_SECONDS_MAX
    linger_seconds: float = limits.LINGER_SECONDS


class Respond(Protocol):
    """Answer a request, exactly once."""

    def __call__(self, outcome: Outcome, extra: bytes, close: bool, upgrade: Upgrade | None = None, /) -> None:
        """Give the outcome, further field lines, whether the connection must close after it, and what a 101 goes on
        with."""
        ...


class Server(Protocol):
    """What a connection needs of the server it belongs to."""

    http_limits: HttpLimits
    deadlines: Deadlines
    draining: bool
    """Every answer is now the last of its connection."""

    def admit(self, connection: Connection) -> bytes | None:
        """Count a new connection in; return the bytes that refuse it if it is one too many, none to cut it."""
        ...

    def serve(self, request: Request, respond: Respond) -> None:
        """Have a request answered, once, now or later."""
        ...

    def count_refusal(self, code: str) -> None:
        """Note that a request or a connection was refused."""
        ...

    def forget(self, connection: Connection) -> None:
        """Count a closed connection out."""
        ...


class Connection(asyncio.Protocol):
    """One client: its bytes become requests for the handler, one at a time.

    Its phase is the parser's (idle, head, body) while it receives; `serving` while the handler has a request;
    `closing` while the last answer is written, `lingering` when it is; `tunnel` after an upgrade; `gone` at last.
    """

    _transport: asyncio.Transport
    _parser: RequestParser
    _request: Request
    """The request being served, or the last one that was."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._phase = "idle"
        self._since = 0.0
        """When the phase began, in loop time."""
        self._clogged_since: float | None = None
        """Since when the write buffer is full, because the client does not read."""
        self._ended = False
        """The client has closed its write side."""
        self._advancing = False
        self._reading = True
        self._tunnel: Tunnel | None = None
        """What has taken the connection over."""

    # --- what the event loop tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or tell the client that it is one too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_BYTES)
        self._since = self._loop.time()
        peer = transport.get_extra_info("peername")
        self._parser = RequestParser(self._server.http_limits, address_of(peer))
        refusal = self._server.admit(self)
        if refusal:
            self._finish(refusal)
        elif refusal is not None or peer is None:  # one that was reset has no name, and must not pass under a false one
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and serve what they complete."""
        if self._phase in _LAST:
            return
        self._parser.feed(data)
        self._advance()
        if self._reading and self._parser.buffered > limits.PIPELINED_BYTES_MAX and not self._receiving():
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Note that no more will come; answers can still go out."""
        self._ended = True
        if self._receiving():
            self._end()
        return self._phase not in _LAST

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; an answer that is still to come will be dropped."""
        self._phase = "gone"
        self._server.forget(self)

    def pause_writing(self) -> None:
        """The client leaves its answers lying: take no further request."""
        self._clogged_since = self._loop.time()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._clogged_since = None
        self._advance()

    # --- what the server tells ---

    def enforce_deadline(self, now: float) -> None:
        """Refuse, close or cut this connection if it has taken too long over what it is at."""
        deadlines = self._server.deadlines
        elapsed = now - self._since
        if self._tunnel is not None:
            self._enforce_tunnel(self._tunnel, now)
        elif self._clogged_since is not None and now - self._clogged_since > deadlines.write_seconds_max:
            self._cut("slow_reader")
        elif self._phase == "closing":
            if self._transport.get_write_buffer_size() == 0:
                self._phase, self._since = "lingering", now
            elif elapsed > deadlines.write_seconds_max:
                self._cut("slow_reader")
        elif self._phase == "lingering":
            if elapsed > deadlines.linger_seconds:
                self._transport.abort()
        elif self._receiving():
            self._enforce_receipt(elapsed)

    def close_if_idle(self) -> None:
        """Close unless a request is arriving or being served; no tunnel is idle enough to be waited for."""
        if self._tunnel is not None:
            self._tunnel.close()
        elif self._phase == "idle":
            self._finish(b"")

    def abort(self) -> None:
        """Cut the connection."""
        if self._tunnel is not None:
            self._tunnel.abort()
        else:
            self._transport.abort()

    # --- the conversation ---

    def _receiving(self) -> bool:
        return self._phase in _RECEIVING and self._clogged_since is None

    def _advance(self) -> None:
        """Serve request after request, until bytes, room or an answer are missing."""
        if self._advancing:
            return  # an answer came before its handler returned: the loop below goes on
        self._advancing = True
        try:
            while self._receiving() and self._take_event():
                continue
        except BadRequest as fault:
            self._refuse(fault)
        finally:
            self._advancing = False
        if self._receiving():
            self._await_bytes()

    def _take_event(self) -> bool:
        event = self._parser.next_event()
        if event is None:
            return False
        if isinstance(event, Expect):
            self._transport.write(_CONTINUE)
            return True
        self._phase = "serving"
        self._request = event
        self._server.serve(event, self._respond)
        return True

    def _await_bytes(self) -> None:
        if self._phase != self._parser.phase:
            self._phase, self._since = self._parser.phase, self._loop.time()
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._ended:
            self._end()

    def _respond(self, outcome: Outcome, extra: bytes, close: bool, upgrade: Upgrade | None = None) -> None:
        if self._phase == "gone":
            if upgrade is not None:
                upgrade.close()
            return
        assert self._phase == "serving", "a request is answered once"
        if upgrade is not None:
            self._switch(upgrade, switching_bytes(outcome, extra))
            return
        request = self._request
        close = close or not request.keep_alive or self._server.draining
        if request.http10 and not close:
            extra += _KEEP_ALIVE
        data = response_bytes(outcome, extra, head_only=request.method == b"HEAD", close=close)
        if close:
            self._finish(data)
            return
        self._transport.write(data)
        self._phase, self._since = "idle", self._loop.time()
        self._advance()

    def _switch(self, upgrade: Upgrade, answer: bytes) -> None:
        """Be a tunnel from now on: the loop tells us nothing more until that is gone."""
        self._phase = "tunnel"
        held = self._parser.take_rest()
        self._tunnel = upgrade.join(self._transport, answer, held, self._on_tunnel_gone, client_ended=self._ended)
        if self._server.draining:
            self._tunnel.close()

    def _on_tunnel_gone(self) -> None:
        self._tunnel = None
        self.connection_lost(None)

    def _enforce_tunnel(self, tunnel: Tunnel, now: float) -> None:
        if tunnel.unread_for(now) > self._server.deadlines.write_seconds_max:
            self._server.count_refusal("slow_reader")
            tunnel.abort()
        elif tunnel.overdue(now):
            tunnel.abort()

    def _enforce_receipt(self, elapsed: float) -> None:
        deadlines = self._server.deadlines
        if self._phase == "idle":
            if elapsed > deadlines.idle_seconds_max:
                self._finish(b"")
            return
        if self._phase == "head":
            overdue = elapsed > deadlines.head_seconds_max
        else:
            starved = self._parser.body_bytes < elapsed * deadlines.body_bytes_per_second_min
            overdue = elapsed > deadlines.body_seconds_max or (starved and elapsed > deadlines.body_grace_seconds)
        if overdue:
            self._refuse(BadRequest("request_timeout", "Send it whole, and faster."))

    def _end(self) -> None:
        """The client has ended its side, and all it sent is answered."""
        if self._parser.phase == "idle":
            self._finish(b"")
        else:
            self._refuse(BadRequest("bad_request", "The connection ended before the request did."))

    def _refuse(self, fault: BadRequest) -> None:
        self._server.count_refusal(fault.code)
        self._finish(response_bytes(fault.outcome, b"", head_only=False, close=True))

    def _finish(self, data: bytes) -> None:
        """Write the last bytes; then wait for the client to close, throwing away what it still sends."""
        self._phase, self._since = "closing", self._loop.time()
        self._transport.write(data)
        if self._ended:
            self._transport.close()
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:  # it was reset, and the loop has yet to tell us
            self._transport.abort()

    def _cut(self, code: str) -> None:
        self._server.count_refusal(code)
        self._transport.abort()


def address_of(peer: object) -> bytes:
    """Return the address in a peer's name as X-Forwarded-For has it; empty where there is none, as on a Unix socket.

    IPv6 stands without brackets, and without its zone, which means something on this machine only (RFC 4007 §6). IPv4
    is written in one way, also where it came through a socket of IPv6 (RFC 4291 §2.5.5.2).
    """
    if not isinstance(peer, tuple):
        return b""
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address).encode()

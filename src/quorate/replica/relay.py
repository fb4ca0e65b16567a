"""A tunnel: two connections joined, whose bytes pass both ways unread.

What one end can't send at once stops the reading at the other, so that a tunnel holds little more than
TUNNEL_BUFFER_BYTES each way, however slow its reader. The end of one side's bytes is passed on behind the last of them.
With it, or with the loss or closing of either side, the tunnel is ending: what is under way may still arrive, and what
has not after TUNNEL_ENDING_SECONDS_MAX is for the owner to cut. Silence is no reason to end: whether the two ends still
exist is for TCP's keepalive to find out.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from quorate import limits


class Tunnel:
    """Bytes between a client and the service; `on_gone` is called once, when both connections are gone."""

    def __init__(self, client: asyncio.Transport, service: asyncio.Transport, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._ending_since: float | None = None
        self._client, self._service = _End(self, client), _End(self, service)
        self._client.other, self._service.other = self._service, self._client

    def begin(self, to_client: bytes, to_service: bytes, *, client_ended: bool) -> None:
        """Pass on what came before the two were joined; `client_ended` says that the client will send no more."""
        self._client.write(to_client)
        self._service.write(to_service)
        if client_ended:
            self._client.eof_received()
        self._client.resume()
        self._service.resume()

    def close(self) -> None:
        """End both sides, the service's first; what is under way still goes out."""
        self.note_ending()
        self._service.transport.close()
        self._client.transport.close()

    def abort(self) -> None:
        """Cut both sides."""
        self._service.transport.abort()
        self._client.transport.abort()

    def overdue(self, now: float) -> bool:
        """Say whether the tunnel has been ending for too long."""
        return self._ending_since is not None and now - self._ending_since > limits.TUNNEL_ENDING_SECONDS_MAX

    def unread_for(self, now: float) -> float:
        """Return for how many seconds the client has left its bytes lying."""
        return 0.0 if self._client.clogged_since is None else now - self._client.clogged_since

    # --- what the ends tell ---

    def note_ending(self) -> None:
        """The tunnel will not go on."""
        if self._ending_since is None:
            self._ending_since = self._loop.time()

    def note_lost(self) -> None:
        """One side is gone, and with it soon the other."""
        if self._client.lost and self._service.lost:
            self._on_gone()
        else:
            self.close()


class _End(asyncio.Protocol):
    """One side of a tunnel; takes over a transport as it is."""

    other: _End

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.clogged_since: float | None = None
        """Since when the write buffer is full."""
        self.ended = False
        """It will send no more."""
        self.lost = False
        self._tunnel = tunnel
        self._loop = asyncio.get_running_loop()
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=limits.TUNNEL_BUFFER_BYTES)
        _keep_alive(transport.get_extra_info("socket"))

    # --- what the event loop tells ---

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self.other.write(data)

    def eof_received(self) -> bool:
        """Pass the end on; the other side may still have something to say."""
        self.ended = True
        if self.other.ended:
            self._tunnel.close()
        else:
            self._tunnel.note_ending()
            self.other.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The side is gone."""
        self.lost = True
        self._tunnel.note_lost()

    def pause_writing(self) -> None:
        """This side does not read: take no more from the other."""
        self.clogged_since = self._loop.time()
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side reads again."""
        self.clogged_since = None
        self.other.resume()

    # --- what the tunnel and the other side tell ---

    def write(self, data: bytes) -> None:
        """Send, unless this side is closing: then nobody waits for it."""
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def write_eof(self) -> None:
        """Send the end, behind what was sent before."""
        if self.transport.is_closing():
            return
        try:
            self.transport.write_eof()
        except OSError:  # it was reset, and the loop has yet to tell us
            self.transport.abort()

    def resume(self) -> None:
        """Read, if the other side takes it."""
        if self.other.clogged_since is None and not self.ended and not self.transport.is_closing():
            self.transport.resume_reading()


def _keep_alive(own: socket.socket) -> None:
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.TUNNEL_KEEPALIVE_SECONDS)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.TUNNEL_KEEPALIVE_PROBE_SECONDS)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.TUNNEL_KEEPALIVE_PROBES)

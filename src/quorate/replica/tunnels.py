"""Upgrades: calls that ask the service to go on in WebSocket, each on a connection of its own.

The service decides. Its 101 makes the connection one end of a tunnel, which whoever asked joins with the client's; any
other answer is one like all others, and the last on its connection. There are only so many tunnels, those still being
opened included. Nothing in them is saved or sent again: a client that loses its tunnel asks for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from quorate.protocols.fields import HttpLimits
from quorate.protocols.responses import BadResponse, ResponseParser
from quorate.protocols.upgrades import upgrade_bytes
from quorate.replica.reads import BAD_UPSTREAM, READ_TIMEOUT, SERVICE_DOWN
from quorate.replica.relay import Tunnel
from quorate.replica.upstream import CallFailed, connect, split_service_address
from quorate.types import Call, Outcome


class Upgrade(asyncio.Protocol):
    """A connection to the service on which one call asks for an upgrade; after a 101 it is joined or closed.

    `on_gone` is called with it once nothing is left of it, nor of its tunnel.
    """

    _transport: asyncio.Transport

    def __init__(self, http: HttpLimits, data: bytes, accept: bytes, on_gone: Callable[[Upgrade], None]) -> None:
        self.lost = False
        self._data = data
        self._parser = ResponseParser(http, accept)
        self._on_gone = on_gone
        self._answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def answer(self) -> Outcome:
        """Return the answer; if it is no longer waited for, the connection is cut. Raises BadResponse."""
        try:
            return await self._answered
        except asyncio.CancelledError:
            self._transport.abort()
            raise

    def join(
        self, client: asyncio.Transport, answer: bytes, held: bytes, on_gone: Callable[[], None], *, client_ended: bool
    ) -> Tunnel:
        """Answer the client and be its tunnel from now on, until `on_gone` is called.

        `held` is what the client has sent behind its request, and `client_ended` that it will send no more.
        """

        def gone() -> None:
            self._on_gone(self)
            on_gone()

        tunnel = Tunnel(client, self._transport, gone)
        tunnel.begin(answer + self._parser.take_rest(), held, client_ended=client_ended)
        return tunnel

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    # --- what the event loop tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no asyncio class
        self._parser.expect(b"GET")
        self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer; what follows it is left unread."""
        self._advance(lambda: self._parser.feed(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn what the end of the connection means for the answer."""
        self.lost = True
        self._advance(self._parser.eof)
        self._on_gone(self)

    def _advance(self, parse: Callable[[], Outcome | None]) -> None:
        if self._answered.done():
            return
        try:
            outcome = parse()
        except BadResponse as error:
            self._answered.set_exception(error)
            return
        if outcome is not None:
            if not self.lost:
                self._transport.pause_reading()
            self._answered.set_result(outcome)


class Tunnels:
    """Upgrades of the service at `address` ("host:port"), and the tunnels they became; at most `tunnels_max`."""

    def __init__(self, address: str, http: HttpLimits, tunnels_max: int) -> None:
        self._address = split_service_address(address)
        self._http = http
        self._tunnels_max = tunnels_max
        self._upgrades: set[Upgrade] = set()
        """Those that are opening, and those that are tunnels by now."""
        self._opening: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._upgrades)

    @property
    def room(self) -> bool:
        """Say whether there may be one more."""
        return len(self._upgrades) < self._tunnels_max

    def open(self, call: Call, accept: bytes, deadline: float, done: Callable[[Outcome, Upgrade | None], None]) -> None:
        """Ask the service for an upgrade; `done` is called once, with a 101 and what to join, or another answer alone.

        `accept` is the Sec-WebSocket-Accept without which a 101 is none; `deadline` is in the event loop's time.
        """
        upgrade = Upgrade(self._http, upgrade_bytes(call), accept, self._upgrades.discard)
        self._upgrades.add(upgrade)
        task = asyncio.create_task(self._open(upgrade, deadline, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self) -> None:
        """Drop those that are opening; tunnels are their clients' to close."""
        for task in tuple(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    async def _open(self, upgrade: Upgrade, deadline: float, done: Callable[[Outcome, Upgrade | None], None]) -> None:
        if isinstance(await connect(self._address, lambda: upgrade), CallFailed):
            self._upgrades.discard(upgrade)
            done(SERVICE_DOWN, None)
            return
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await upgrade.answer()
        except TimeoutError:
            outcome = READ_TIMEOUT
        except BadResponse:
            outcome = BAD_UPSTREAM
        if outcome.status == 101 and not upgrade.lost:
            done(outcome, upgrade)
        else:
            upgrade.close()
            done(outcome if outcome.status != 101 else BAD_UPSTREAM, None)

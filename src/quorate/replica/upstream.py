"""HTTP to the service: one lane for ordered calls, a few connections for those that stay off the log.

One call at a time on a connection; the next goes out from within the callback that took the last answer, so the loop
is not asked in between. A call ends in an `Outcome` or in a `CallFailed` that says what is known of its fate; what
follows from that is for the caller to decide. Nothing is sent twice here, but for a safe call that found a kept
connection closed under it.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.protocols.responses import BadResponse, ResponseParser
from quorate.types import Outcome

RESTARTING = "the service is being restarted"


class Fate(enum.Enum):
    """What is known of a call that got no proper answer."""

    REFUSED = "nothing was sent: the service does not listen"
    LOST = "the connection ended before the first byte of an answer"
    BROKEN = "the answer broke off, or broke the protocol"
    SILENT = "no answer within the time allowed"


class CallFailed(NamedTuple):
    """A call without a proper answer."""

    fate: Fate
    why: str


Answer = Outcome | CallFailed


class Connection(asyncio.Protocol):
    """One kept-alive connection to the service, with at most one call on it."""

    def __init__(self, http: HttpLimits) -> None:
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = ResponseParser(http)
        self._done: Callable[[Answer], None] | None = None
        self._sent_at = 0.0
        self.idle_since = self._loop.time()

    @property
    def usable(self) -> bool:
        """Say whether a call may be sent now, with no fear that the service is just closing the idle connection."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and self._done is None
            and self._loop.time() - self.idle_since < limits.SERVICE_IDLE_SECONDS_MAX
        )

    def call(self, data: bytes, method: bytes, done: Callable[[Answer], None]) -> None:
        """Send a request; `done` is called once, from a later event."""
        assert self._transport is not None
        assert self._done is None, "one call at a time"
        self._done = done
        self._sent_at = self._loop.time()
        self._parser.expect(method)
        self._transport.write(data)

    def expire(self, now: float) -> None:
        """Give up a call that has waited too long."""
        if self._done is not None and now - self._sent_at > limits.SERVICE_CALL_SECONDS_MAX:
            self._finish(CallFailed(Fate.SILENT, f"no answer in {limits.SERVICE_CALL_SECONDS_MAX:g} s"))
            self.abort()

    def abort(self) -> None:
        """Drop the connection; a call on it fails as LOST."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no asyncio class

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        assert self._transport is not None
        try:
            outcome = self._parser.feed(data)
        except BadResponse as error:
            self._transport.abort()
            self._finish(CallFailed(Fate.BROKEN, str(error)))
            return
        if outcome is not None:
            if not self._parser.keep_alive:
                self._transport.close()
            self._finish(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn what the end of the connection means for the call on it."""
        self._transport = None
        try:
            outcome = self._parser.eof()
        except BadResponse as error:
            fate = Fate.BROKEN if self._parser.started else Fate.LOST
            self._finish(CallFailed(fate, str(error)))
            return
        if outcome is not None:
            self._finish(outcome)

    def _finish(self, answer: Answer) -> None:
        if self._done is None:
            return
        done, self._done = self._done, None
        self.idle_since = self._loop.time()
        done(answer)


class _Waiting(NamedTuple):
    data: bytes
    method: bytes
    done: Callable[[Answer], None]
    retry: bool


class Upstream:
    """Calls to the service at `address` ("host:port") over at most `connections_max` connections.

    `retry_lost` is for safe calls alone: one that was lost on a kept connection is sent once more on a fresh one.
    """

    def __init__(self, address: str, http: HttpLimits, connections_max: int, *, retry_lost: bool = False) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._http = http
        self._connections_max = connections_max
        self._retry_lost = retry_lost
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._resets = 0
        """A connection that was asked for before the last reset must carry nothing: its call has been given up."""
        self._queue: deque[_Waiting] = deque()
        self._sweeper = self._loop.call_later(limits.SERVICE_WATCH_SECONDS, self._sweep)

    def call(self, data: bytes, method: bytes, done: Callable[[Answer], None]) -> None:
        """Send a request as soon as a connection is free; `done` is called once, from a later event."""
        self._start(_Waiting(data, method, done, self._retry_lost))

    def reset(self) -> None:
        """Drop every connection and every call on or before one; they fail, and none of them is sent any more."""
        self._resets += 1
        waiting, self._queue = self._queue, deque()
        for connection in (*self._busy, *self._idle):
            connection.abort()
        self._idle.clear()
        for call in waiting:
            call.done(CallFailed(Fate.REFUSED, RESTARTING))

    async def close(self) -> None:
        """Drop everything and let go of tasks."""
        self._sweeper.cancel()
        self.reset()
        for task in tuple(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _sweep(self) -> None:
        """Give up calls that have waited too long; one timer for all of them."""
        self._sweeper = self._loop.call_later(limits.SERVICE_WATCH_SECONDS, self._sweep)
        now = self._loop.time()
        for connection in tuple(self._busy):
            connection.expire(now)

    def _start(self, waiting: _Waiting) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._send(connection, waiting)
                return
            connection.abort()
        if len(self._busy) + len(self._connecting) < self._connections_max:
            task = self._loop.create_task(self._connect(waiting))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            self._queue.append(waiting)

    async def _connect(self, waiting: _Waiting) -> None:
        resets = self._resets
        try:
            _, connection = await self._loop.create_connection(lambda: Connection(self._http), self._host, self._port)
        except OSError as error:
            self._refuse(waiting, f"cannot connect to the service: {error.strerror or error}")
            return
        if resets != self._resets:
            connection.abort()
            waiting.done(CallFailed(Fate.REFUSED, RESTARTING))
            return
        self._send(connection, waiting._replace(retry=False))

    def _refuse(self, waiting: _Waiting, why: str) -> None:
        refused, self._queue = [waiting, *self._queue], deque()
        for call in refused:
            call.done(CallFailed(Fate.REFUSED, why))

    def _send(self, connection: Connection, waiting: _Waiting) -> None:
        self._busy.add(connection)
        connection.call(waiting.data, waiting.method, lambda answer: self._answered(connection, waiting, answer))

    def _answered(self, connection: Connection, waiting: _Waiting, answer: Answer) -> None:
        self._busy.discard(connection)
        self._idle.append(connection)
        if self._queue:
            self._start(self._queue.popleft())
        if waiting.retry and isinstance(answer, CallFailed) and answer.fate is Fate.LOST:
            self._start(waiting._replace(retry=False))
        else:
            waiting.done(answer)

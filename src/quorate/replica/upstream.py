"""HTTP to the service: one lane for ordered calls, a few connections for those that stay off the log.

One call at a time on a connection; the next goes out from within the callback that took the last answer, so the loop
is not asked in between. A call ends in an `Outcome` or in a `CallFailed` that says what is known of its fate; what
follows from that is for the caller to decide. Nothing is sent twice here, but for a safe call that found a kept
connection closed under it.
"""

from __future__ import annotations

import asyncio
import enum
import errno
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

from quorate import limits
from quorate.protocols.fields import SAFE_METHODS, HttpLimits
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

P = TypeVar("P", bound=asyncio.Protocol)


async def connect(address: tuple[str, int], factory: Callable[[], P]) -> P | CallFailed:
    """Return a new connection to the service, or how that failed: nothing was sent."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.SERVICE_CONNECT_SECONDS_MAX):
            while True:
                try:
                    _, connection = await loop.create_connection(factory, *address)
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE):
                        raise
                    await asyncio.sleep(limits.SWEEP_SECONDS)  # our want of descriptors is not the service's fault
                else:
                    return connection
    except OSError as error:  # TimeoutError is one of them
        return CallFailed(Fate.REFUSED, f"cannot connect to the service: {error.strerror or error!r}")


def split_service_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Connection(asyncio.Protocol):
    """One kept-alive connection to the service, with at most `depth` calls on it, answered in order."""

    def __init__(self, http: HttpLimits, depth: int) -> None:
        self._depth = depth
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = ResponseParser(http)
        self._calls: deque[Callable[[Answer], None]] = deque()
        self._unsent: list[bytes] = []
        """Requests of this turn of the loop: one write, and one wake-up of the service, for all of them."""
        self._moved_at = self._loop.time()
        """When the connection last came into use, or brought an answer."""

    @property
    def open(self) -> bool:
        """Say whether the connection stands, with no fear that the service is just closing it for being idle."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and (bool(self._calls) or self._loop.time() - self._moved_at < limits.SERVICE_IDLE_SECONDS_MAX)
        )

    @property
    def room(self) -> bool:
        """Say whether one more call may be sent now."""
        return len(self._calls) < self._depth

    def call(self, data: bytes, method: bytes, done: Callable[[Answer], None]) -> None:
        """Send a request; `done` is called once, from a later event."""
        self._parser.expect(method)
        if not self._calls:
            self._moved_at = self._loop.time()
            self._write(data)
        else:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)
        self._calls.append(done)

    def expire(self, now: float) -> None:
        """Give up the calls if no answer has come for too long."""
        if self._calls and now - self._moved_at > limits.SERVICE_CALL_SECONDS_MAX:
            self._fail(CallFailed(Fate.SILENT, f"no answer in {limits.SERVICE_CALL_SECONDS_MAX:g} s"))

    def abort(self) -> None:
        """Drop the connection; calls on it fail as LOST."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._write(b"".join(unsent))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no asyncio class

    def data_received(self, data: bytes) -> None:
        """Take bytes of answers."""
        try:
            outcome = self._parser.feed(data)
            while outcome is not None:
                self._moved_at = self._loop.time()
                if not self._parser.keep_alive and self._transport is not None:
                    self._transport.close()
                self._calls.popleft()(outcome)
                outcome = self._parser.feed(b"") if self._calls else None
        except BadResponse as error:
            self._fail(CallFailed(Fate.BROKEN, str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn what the end of the connection means for the calls on it."""
        self._transport = None
        try:
            outcome = self._parser.eof()
        except BadResponse as error:
            self._fail(CallFailed(Fate.BROKEN if self._parser.started else Fate.LOST, str(error)))
            return
        if outcome is not None and self._calls:
            self._calls.popleft()(outcome)
        self._fail(CallFailed(Fate.LOST, "the service closed the connection without an answer"))

    def _fail(self, failed: CallFailed) -> None:
        """End the connection, and with it the calls: the first of them as `failed`, any others as LOST."""
        self.abort()
        while self._calls:
            self._calls.popleft()(failed)
            failed = CallFailed(Fate.LOST, failed.why)


class _Waiting(NamedTuple):
    data: bytes
    method: bytes
    done: Callable[[Answer], None]
    retry: bool


class Upstream:
    """Calls to the service at `address` ("host:port") over at most `connections_max` connections, `depth` on each.

    With one connection, calls are sent in the order in which they are made. With `retry_lost`, a call of a safe method
    (RFC 9110 §9.2.1) that was lost on a kept connection is sent once more on a fresh one.
    """

    def __init__(
        self, address: str, http: HttpLimits, connections_max: int, *, depth: int = 1, retry_lost: bool = False
    ) -> None:
        self._address = split_service_address(address)
        self._http = http
        self._connections_max = connections_max
        self._depth = depth
        self._retry_lost = retry_lost
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        """Connections with room for a call; the one used last is used next."""
        self._full: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._resets = 0
        """A connection that was asked for before the last reset must carry nothing: its call has been given up."""
        self._queue: deque[_Waiting] = deque()
        self._sweeper = self._loop.call_later(limits.SERVICE_WATCH_SECONDS, self._sweep)

    def call(self, data: bytes, method: bytes, done: Callable[[Answer], None]) -> None:
        """Send a request as soon as a connection has room; `done` is called once, from a later event."""
        self._start(_Waiting(data, method, done, self._retry_lost and method in SAFE_METHODS))

    def reset(self) -> None:
        """Drop every connection and every call on or before one; they fail, and none of them is sent any more."""
        self._resets += 1
        waiting, self._queue = self._queue, deque()
        for connection in (*self._full, *self._idle):
            connection.abort()
        self._idle.clear()
        self._full.clear()
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
        for connection in (*self._full, *self._idle):
            connection.expire(now)

    def _start(self, waiting: _Waiting) -> None:
        while self._idle:
            if self._idle[-1].open:
                self._send(self._idle[-1], waiting)
                return
            self._idle.pop().abort()
        if len(self._full) + len(self._connecting) < self._connections_max:
            task = self._loop.create_task(self._connect(waiting, self._resets))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        elif len(self._queue) < limits.IN_FLIGHT_MAX:
            self._queue.append(waiting)
        else:
            self._loop.call_soon(waiting.done, CallFailed(Fate.REFUSED, "too many calls wait for the service"))

    async def _connect(self, waiting: _Waiting, resets: int) -> None:
        connection = await connect(self._address, lambda: Connection(self._http, self._depth))
        task = asyncio.current_task()
        assert task is not None
        self._connecting.discard(task)
        if isinstance(connection, CallFailed):
            refused, self._queue = [waiting, *self._queue], deque()
            for call in refused:
                call.done(connection)
        elif resets != self._resets:
            connection.abort()
            self._start_queued()
            waiting.done(CallFailed(Fate.REFUSED, RESTARTING))
        else:
            self._idle.append(connection)
            self._send(connection, waiting._replace(retry=False))
            while self._queue and self._idle and self._idle[-1].open:
                self._send(self._idle[-1], self._queue.popleft())

    def _start_queued(self) -> None:
        if self._queue and (self._idle or len(self._full) + len(self._connecting) < self._connections_max):
            self._start(self._queue.popleft())

    def _send(self, connection: Connection, waiting: _Waiting) -> None:
        """Send on the last of the idle connections."""
        connection.call(waiting.data, waiting.method, lambda answer: self._answered(connection, waiting, answer))
        if not connection.room:
            self._idle.pop()
            self._full.add(connection)

    def _answered(self, connection: Connection, waiting: _Waiting, answer: Answer) -> None:
        if connection in self._full:
            self._full.discard(connection)
            self._idle.append(connection)
        self._start_queued()
        if waiting.retry and isinstance(answer, CallFailed) and answer.fate is Fate.LOST:
            self._start(waiting._replace(retry=False))
        else:
            waiting.done(answer)

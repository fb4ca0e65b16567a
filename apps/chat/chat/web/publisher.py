"""Publishes what comes from all sockets: what comes while others are on their way goes together, when they are there.

So a busy instance makes few large batches, and an idle one sends each message at once. What one socket gives at a time
stays together and in its order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from chat import limits
from chat.adapters.bus import Bus
from chat.events import Event
from chat.problems import Refused, Unavailable, Unknown


class _Unit(NamedTuple):
    events: Sequence[Event]
    done: asyncio.Future[None]


class Publisher:
    """Brings events to the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[_Unit] = deque()
        """No more than UNANSWERED_MAX events of each socket."""
        self._some = asyncio.Event()
        self._turn = asyncio.Lock()
        """Of the worker that waits for some."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once they are durable; raises Refused, or, after ten seconds of trying, Unavailable or Unknown.

        There may be as many as CHAIN_BATCH_MAX.
        """
        unit = _Unit(events, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        self._some.set()
        await unit.done

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publish as long as the context lasts."""
        workers = [asyncio.create_task(self._work()) for _ in range(limits.PUBLISHES_AT_ONCE)]
        yield
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            async with self._turn:
                while not self._waiting:
                    self._some.clear()
                    await self._some.wait()
                units = self._take()
            await self._bring(units)

    def _take(self) -> list[_Unit]:
        """Return what can go together: one unit at least."""
        units = [self._waiting.popleft()]
        size = len(units[0].events)
        while self._waiting and size + len(self._waiting[0].events) <= limits.CHAIN_BATCH_MAX:
            units.append(self._waiting.popleft())
            size += len(units[-1].events)
        return units

    async def _bring(self, units: Sequence[_Unit]) -> None:
        try:
            await self._persist([event for unit in units for event in unit.events])
        except Refused as refused:
            if len(units) > 1 and not isinstance(refused, Unavailable | Unknown):
                for unit in units:  # one of them is to blame
                    await self._bring([unit])
            else:
                _end(units, refused)
        except Exception as error:  # whoever waits is to know, and the next batch is to have its turn
            _end(units, error)
        else:
            _end(units, None)

    async def _persist(self, events: Sequence[Event]) -> None:
        """Publish, again and again while it may still work: the same events come about once."""
        give_up = asyncio.get_running_loop().time() + limits.COMMAND_SECONDS_MAX
        pause = limits.RETRY_SECONDS_MIN
        while True:
            try:
                await self._bus.publish(events)
                return
            except (Unavailable, Unknown):
                if asyncio.get_running_loop().time() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, limits.RETRY_SECONDS_MAX)


def _end(units: Sequence[_Unit], error: Exception | None) -> None:
    for unit in units:
        if unit.done.done():  # its socket is gone
            continue
        if error is None:
            unit.done.set_result(None)
        else:
            unit.done.set_exception(error)

"""Who is there, in tables that are replicated by commands: each copy reports whose sockets it holds.

All copies see the same reports, so each knows who is online; and each is given the same pushes, so that each pushes to
its own sockets only. A copy that dies reports no more, and after HELD_SECONDS its users are there no longer; times are
the copies' own, whose clocks must agree within a few seconds.

Who comes or goes is reported with all others of the same tenth of a second, behind the back of the caller: nothing but
the list of who is online hangs on it. A report that fails is made good by the next confirmation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import select

from chat import limits
from chat.adapters.database import Database
from chat.commands import Commands
from chat.presence.apply import REPORT, Report
from chat.presence.tables import copies, held

log = structlog.get_logger()


class OrderedPresence:
    """Reports by `commands` what `instance` holds, and reads the tables; see `Presence`."""

    def __init__(self, database: Database, commands: Commands, instance: str) -> None:
        self._database = database
        self._commands = commands
        self._instance = instance
        self._changes: dict[int, bool] = {}
        """Who has come (True) or gone since the last report: no more than this instance has sockets."""
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        """What is to be reported is taken before waiting for it, so that reports come into force in their order."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Report changes as long as the context lasts."""
        task = asyncio.create_task(self._report_changes())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def note(self, joined: Collection[int], left: Collection[int]) -> None:
        """See `Presence`. Returns before it is reported."""
        self._changes |= dict.fromkeys(left, False) | dict.fromkeys(joined, True)
        self._changed.set()

    async def confirm(self, users: Collection[int]) -> None:
        """See `Presence`; raises Unavailable, Unknown."""
        self._taken()
        async with self._turn:
            await self._report(users=tuple(users))

    async def holders(self, users: Collection[int]) -> Mapping[int, Collection[str]]:
        """Return this instance for everybody: it knows its own sockets, and the other copies know theirs."""
        return dict.fromkeys(users, (self._instance,))

    async def online(self) -> set[int]:
        """See `Presence`; raises Unavailable."""
        since = _now_ms() - int(1000 * limits.HELD_SECONDS)
        statement = (
            select(held.c.user_id)
            .join(copies, copies.c.instance == held.c.instance)
            .where(copies.c.reported_at >= since)
        )
        return {row["user_id"] for row in await self._database.rows(statement)}

    async def _report_changes(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(limits.JOINS_SECONDS)
            changes = self._taken()
            async with self._turn:
                try:
                    await self._report(
                        joined=tuple(user for user, is_there in changes.items() if is_there),
                        left=tuple(user for user, is_there in changes.items() if not is_there),
                    )
                except Exception:
                    log.exception("who came and went was not reported")

    def _taken(self) -> dict[int, bool]:
        changes, self._changes = self._changes, {}
        self._changed.clear()
        return changes

    async def _report(self, **what: tuple[int, ...]) -> None:
        await self._commands.submit(REPORT, Report(instance=self._instance, at=_now_ms(), **what))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Restoring: which snapshot a copy begins with, and how it gets into the service.

It is the newest one here that can be read, all of it. Where the log begins behind even that, there is a gap that only a
peer's snapshot can close, and that is waited for. A snapshot of a place beyond the known order is made the beginning of
the log before it is used; it was durable before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from quorate.errors import QuorateError, StorageBroken
from quorate.ordering import Ordering
from quorate.replica.drivers import StateDriver
from quorate.replica.sessions import SessionTable
from quorate.storage.snapshots import Snapshot, SnapshotStore
from quorate.types import Slot

log = structlog.get_logger(room="replica")

T = TypeVar("T")


class RestoreFailed(Exception):
    """Nothing is known of the service any more: it has to be replaced by a fresh one."""


class Restorer:
    """Brings snapshots of `store` into a service by `driver`.

    `obtain` returns once a snapshot of a slot, or of a later one, has come from a peer.
    """

    def __init__(
        self,
        store: SnapshotStore,
        driver: StateDriver,
        ordering: Ordering,
        obtain: Callable[[Slot], Awaitable[None]],
    ) -> None:
        self.offline = driver.offline
        """The service must not run while it gets its state."""
        self._store = store
        self._driver = driver
        self._ordering = ordering
        self._obtain = obtain

    async def newest(self) -> Snapshot | None:
        """Return the snapshot to begin with, verified; None if the log tells everything from the beginning."""
        while True:
            snapshot = await asyncio.to_thread(self._store.newest_sound)
            begin = self._ordering.base.slot
            if (0 if snapshot is None else snapshot.slot) >= begin:
                break
            log.warning("no snapshot here for the beginning of the log", slot=begin)
            await self._obtain(begin)
        if snapshot is not None and snapshot.slot > self._ordering.status().point:
            facts = snapshot.manifest.facts
            self._ordering.install(facts.base, facts.membership)
        return snapshot

    async def restore(self, snapshot: Snapshot) -> None:
        """Put the service's state in its place. Raises RestoreFailed."""
        if snapshot.manifest.driver != self._driver.name:
            raise RestoreFailed(f"the snapshot was taken by driver {snapshot.manifest.driver!r}: set that one")
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        await self._using(snapshot, self._driver.restore, snapshot.service_size, snapshot.service())
        seconds = round(loop.time() - started_at, 3)
        log.info("service restored", index=snapshot.index, bytes=snapshot.service_size, seconds=seconds)

    async def sessions(self, snapshot: Snapshot) -> SessionTable:
        """Return the session table as of the snapshot. Raises RestoreFailed."""
        return await self._using(snapshot, SessionTable.load, snapshot.sessions())

    async def _using(self, snapshot: Snapshot, work: Callable[..., T], *what: Any) -> T:
        """Do something with a snapshot's contents in a thread; a snapshot that fails in itself is set aside."""
        try:
            return await asyncio.to_thread(work, *what)
        except StorageBroken as error:
            await asyncio.to_thread(self._store.set_aside, snapshot, error.what)
            raise RestoreFailed(str(error)) from error
        except (QuorateError, OSError) as error:
            raise RestoreFailed(str(error)) from error

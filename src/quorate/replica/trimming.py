"""Trimming: how much of the log is no longer needed, and a warning where it can't be cut.

A replica keeps the log behind the older of its two newest snapshots, so that the newest may turn out damaged; that is
one to two distances between checkpoints. Members that are heard hold it back to their own newest snapshot, so that a
damaged record of theirs is still in somebody's log. Members that are not heard hold nothing back: those two distances
are the bound up to which they may go on from the log; later they come back by a snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from quorate import limits
from quorate.ordering import Ordering
from quorate.storage.snapshots import SnapshotStore
from quorate.types import ReplicaId, Slot

log = structlog.get_logger(room="replica")


def trim_point(own: Sequence[Slot], live: Iterable[Slot]) -> Slot:
    """Return the slot up to which the log may go; 0 for nothing of it.

    Args: the slots of the snapshots here, newest first, and of the newest one of every other member that is heard.
    """
    return min((own[1], *live)) if len(own) > 1 else 0


class Trimmer:
    """Trims the log behind the snapshots in `store`; without a store it only warns of the log's growth.

    Args: `point` returns the slot applied here, `live` the newest snapshots' slots of replicas that are heard.
    """

    def __init__(
        self,
        ordering: Ordering,
        store: SnapshotStore | None,
        point: Callable[[], Slot],
        live: Callable[[], Mapping[ReplicaId, Slot]],
    ) -> None:
        self._ordering = ordering
        self._store = store
        self._point = point
        self._live = live
        self._warn_at = limits.LOG_ENTRIES_WARN

    async def run(self) -> None:
        """Look for ever; ends by being cancelled."""
        if self._store is None:
            log.warning("log is never trimmed", hint="without a snapshot driver it grows by all that clients send")
        while True:
            self.look()
            await asyncio.sleep(limits.SNAPSHOT_TELL_SECONDS)

    def look(self) -> None:
        """Trim what may be trimmed now, and warn if the log has become long all the same."""
        if self._store is not None:
            live = self._live()
            others = [live[member] for member in self._ordering.membership.members if member in live]
            own = [snapshot.slot for snapshot in self._store.held if snapshot.slot <= self._point()]
            point = trim_point(own, others)
            if point > self._ordering.base.slot:
                self._ordering.trim(self._ordering.base_at(point))
        self._warn()

    def _warn(self) -> None:
        entries = self._ordering.status().last_index - self._ordering.base.index
        if entries >= self._warn_at:
            self._warn_at = 2 * entries
            log.warning("log is long", entries=entries, hint="see why checkpoints fail here, or at a member")

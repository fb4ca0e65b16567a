"""Checkpoints: a snapshot of this copy, taken now and then between two commands.

When depends on the log alone: at the end of the batch in which the commands, or their bytes, pass a multiple of the
distance, shifted by this replica's place among the members. So all replicas checkpoint equally often and no two at the
same point of the log.

Deliveries to this copy stand still while its service hands over its state and the session table is copied. Writing the
table and bringing all to the disk happens afterwards. Reads go on throughout. A checkpoint that fails is told of and
counted, and the next one comes in its turn: the log is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from quorate import limits
from quorate.errors import QuorateError
from quorate.replica.apply import Applier, Mark
from quorate.replica.drivers import StateDriver
from quorate.storage.snapshots import Chunk, Facts, Manifest, Snapshot, SnapshotStore, SnapshotWriter
from quorate.types import Membership, ReplicaId

log = structlog.get_logger(room="replica")


class Schedule(NamedTuple):
    """When replica `me` takes its checkpoints: every so many commands, and every so many bytes of them."""

    me: ReplicaId
    entries: int = limits.CHECKPOINT_ENTRIES
    log_bytes: int = limits.CHECKPOINT_BYTES

    def due(self, before: Mark, after: Mark, membership: Membership) -> bool:
        """Say whether a checkpoint is due on the way from one mark to the other; never for one who is no member."""
        members = membership.members
        if self.me not in members:
            return False
        share = members.index(self.me), len(members)
        return _passed(before.commands, after.commands, self.entries, *share) or _passed(
            before.log_bytes, after.log_bytes, self.log_bytes, *share
        )


def _passed(before: int, after: int, distance: int, place: int, places: int) -> bool:
    shift = place * distance // places
    return (before - shift) // distance != (after - shift) // distance


class CheckpointStatistics(NamedTuple):
    """Counts since this process began, and what the last one cost."""

    taken: int
    failed: int
    skipped: int
    """Due while the one before was not finished."""
    held_seconds: float
    """How long deliveries stood still for the last one."""


class Checkpoints:
    """Takes checkpoints of the copy that `applier` keeps, with `driver`, into `store`; `on_taken` is told of each."""

    def __init__(
        self, applier: Applier, store: SnapshotStore, driver: StateDriver, cluster: str, schedule: Schedule
    ) -> None:
        self.on_taken: Callable[[Snapshot], None] = lambda snapshot: None
        self._applier = applier
        self._store = store
        self._driver = driver
        self._cluster = cluster
        self._task: asyncio.Task[None] | None = None
        self._taken = self._failed = self._skipped = 0
        self._held_seconds = 0.0
        applier.due = lambda before, after: schedule.due(before, after, applier.membership)
        applier.on_quiet = self._begin

    def statistics(self) -> CheckpointStatistics:
        """Return counts for operators."""
        return CheckpointStatistics(self._taken, self._failed, self._skipped, self._held_seconds)

    async def close(self) -> None:
        """Take no more, and drop what is half written."""
        self._applier.due = lambda before, after: False
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _begin(self, stretch: int) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._take(self._applier.facts(), stretch))
        else:
            self._skipped += 1
            self._applier.resume(stretch)

    async def _take(self, facts: Facts, stretch: int) -> None:
        try:
            snapshot = await self._written(facts, stretch)
        except (QuorateError, OSError) as error:
            self._failed += 1
            log.warning("checkpoint failed", index=facts.base.index, why=str(error))
            return
        if snapshot is not None:
            self._taken += 1
            log.info("checkpoint", index=snapshot.index, bytes=snapshot.size, held_seconds=round(self._held_seconds, 4))
            self.on_taken(snapshot)

    async def _written(self, facts: Facts, stretch: int) -> Snapshot | None:
        """Return a new snapshot; None if the service may have been another one by the time its state was read."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        writer: SnapshotWriter | None = None
        try:
            try:
                writer = await asyncio.to_thread(self._store.writer)
                service = await asyncio.to_thread(_capture, self._driver, writer)
                sessions = self._applier.sessions.dump()
            finally:
                self._held_seconds = loop.time() - since
                self._applier.resume(stretch)
            chunks = await asyncio.to_thread(_write_sessions, writer, sessions)
            # A neighbour that was restarted while it was read is found out by then.
            await asyncio.sleep(2 * limits.NEIGHBOUR_WATCH_SECONDS)
            if stretch != self._applier.stretch:
                await asyncio.to_thread(writer.abandon)
                return None
            manifest = Manifest(self._cluster, self._driver.name, facts, service, chunks)
            return await asyncio.to_thread(writer.commit, manifest)
        except (QuorateError, OSError):
            if writer is not None:
                await asyncio.to_thread(writer.abandon)
            raise
        except asyncio.CancelledError:
            if writer is not None:
                writer.abandon()  # under the hands of the thread that writes, which fails at that, unheard
            raise


def _capture(driver: StateDriver, writer: SnapshotWriter) -> tuple[Chunk, ...]:
    driver.capture(writer)
    return writer.end_part()


def _write_sessions(writer: SnapshotWriter, slices: Iterator[bytes]) -> tuple[Chunk, ...]:
    """Write the table slice by slice, each of which begins a chunk: other snapshots have the same."""
    writer.pace()
    for one in slices:
        writer.write(one)
        writer.end_chunk()
    return writer.end_part()

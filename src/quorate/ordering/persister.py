"""The persistence thread: what waits is committed together, and nothing is said to be durable before it is.

One thread, one transaction at a time. While a transaction is on its way to the disk, the Persists that arrive are the
next group: that is the whole of group commit. A failed commit is reported once, and nothing after it is ever
attempted (FAULTS.md §0.3).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from quorate.consensus.core import Persist
from quorate.errors import Broken
from quorate.storage import LogStore


class Persister:
    """Commits Persist effects in order; tells the last one of each group, or the failure, on the event loop."""

    def __init__(
        self, store: LogStore, on_durable: Callable[[Persist], None], on_broken: Callable[[Broken], None]
    ) -> None:
        self._store = store
        self._on_durable = on_durable
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Persist | None] = SimpleQueue()
        self.backlog_bytes = 0
        """Bytes submitted and not yet durable; the driver keeps it bounded."""
        self._began_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="persist", daemon=True)
        self._thread.start()

    def submit(self, persist: Persist) -> None:
        """Queue a Persist behind those before it."""
        self.backlog_bytes += _weight(persist)
        self._queue.put(persist)

    def stalled_seconds(self) -> float:
        """Return for how long the commit under way has kept the disk busy; 0 if there is none."""
        began_at = self._began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def close(self) -> None:
        """Commit what was submitted, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = self._gather(first)
            self._began_at = time.monotonic()
            try:
                self._store.commit(group)
            except Exception as error:  # whatever it is, nothing of it may be vouched for
                broken = error if isinstance(error, Broken) else Broken(f"commit failed: {error!r}")
                self._loop.call_soon_threadsafe(self._on_broken, broken)
                return
            self._began_at = None
            self._loop.call_soon_threadsafe(self._committed, group)
            if last:
                return

    def _gather(self, first: Persist) -> tuple[list[Persist], bool]:
        """Return everything that waits behind `first`, and whether the end was among it."""
        group = [first]
        while not self._queue.empty():
            persist = self._queue.get()
            if persist is None:
                return group, True
            group.append(persist)
        return group, False

    def _committed(self, group: list[Persist]) -> None:
        self.backlog_bytes -= sum(map(_weight, group))
        self._on_durable(group[-1])


def _weight(persist: Persist) -> int:
    return sum(len(vote.batch.payload) for _, vote in persist.votes) + 64

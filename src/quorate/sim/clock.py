"""Virtual time: a heap of things to happen, and a transcript of those that did.

Time is counted in microseconds of a tick, as integers, so that no rounding differs between machines. Things due at the
same moment happen in the order in which they were scheduled. Nothing here waits.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from quorate.types import ReplicaId

TICK = 1000
"""One tick of a core (`limits.TICK_SECONDS`) in units of virtual time."""

NOTES_KEPT = 60
"""Notes shown when a run fails: about the last second of a small cluster."""


class Clock:
    """A clock that jumps to the next thing that is due."""

    def __init__(self) -> None:
        self.now = 0
        self._scheduled = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def after(self, delay: int, action: Callable[[], None]) -> None:
        """Do `action` when `delay` units have passed."""
        assert delay >= 0, "the past can't be changed"
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now + delay, self._scheduled, action))

    def run_until(self, time: int) -> None:
        """Let everything happen that is due up to and including `time`."""
        while self._heap and self._heap[0][0] <= time:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = time


class Note(NamedTuple):
    """Something that happened to a replica; 0 stands for the world itself."""

    time: int
    replica: int
    what: str
    detail: object

    def __str__(self) -> str:
        who = f"r{self.replica}" if self.replica else "world"
        return f"{self.time / TICK:10.3f} {who:<5} {self.what:<10} {str(self.detail)[:160]}".rstrip()


class Transcript:
    """All that happened, as a running hash, and the last of it in plain words."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: deque[Note] = deque(maxlen=NOTES_KEPT)

    def note(self, replica: ReplicaId | int, what: str, detail: object = "", data: bytes = b"") -> None:
        """Take down that `what` happened; `data` is what the hash covers beyond time, place and kind."""
        self.mark(replica, what, data)
        self._last.append(Note(self._clock.now, replica, what, detail))

    def mark(self, replica: ReplicaId | int, what: str, data: bytes = b"") -> None:
        """Let the hash cover what is too frequent and too dull to be read."""
        self._hash.update(b"%d %d %s %d:" % (self._clock.now, replica, what.encode(), len(data)) + data)

    def digest(self) -> str:
        """Return the hash so far: equal for equal runs."""
        return self._hash.hexdigest()

    def last(self) -> list[str]:
        """Return the latest notes, oldest first, one line each."""
        return [str(note) for note in self._last]

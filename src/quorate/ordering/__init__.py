"""Total order as a service: commands go in, every replica gets the same commands out, in the same order.

An engine keeps the contract below and maps its own notion of position to `point`: for the embedded engine a consensus
slot. The `index` of a command counts commands from 1 without gaps, whatever the engine. Delivery is pulled from a
cursor, so a slow service holds nobody up: what it has not taken yet stays on disk, not in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from quorate.types import Batch, Index, Slot


class Delivered(NamedTuple):
    """A batch at its place: `point` in the engine's own sequence, `first_index` of its first command."""

    point: Slot
    first_index: Index
    batch: Batch


class OrderingStatus(NamedTuple):
    """A snapshot for operators."""

    role: str
    leader: str | None
    point: Slot
    """End of the order as far as it is known here."""
    point_known: Slot
    """The furthest point any other replica has told of."""
    last_index: Index


class Ordering(Protocol):
    """What the replica asks of an engine. All calls are made on the event loop."""

    on_delivered: Callable[[], None]
    """Called whenever `entries` may have more to give."""

    def propose(self, batch: Batch) -> bool:
        """Offer commands; False when they were not taken and never left this replica (no leader, overload)."""
        ...

    def read_barrier(self, done: Callable[[Slot], None]) -> None:
        """Call `done` with a point no older than any write answered before now (P3); it may take for ever."""
        ...

    def entries(self, after: Slot) -> list[Delivered]:
        """Return what follows point `after`, in order: some of it, or nothing if nothing is known yet."""
        ...

    def status(self) -> OrderingStatus:
        """Return a snapshot for operators."""
        ...

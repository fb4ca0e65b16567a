"""Total order as a service: commands go in, every replica gets the same commands out, in the same order.

An engine keeps the contract below and maps its own notion of position to `point`: for the embedded engine a consensus
slot. The `index` of a command counts commands from 1 without gaps, whatever the engine. Delivery is pulled from a
cursor, so a slow service holds nobody up: what it has not taken yet stays on disk, not in memory. What a snapshot
stands for is trimmed, and a replica that needs it again starts from a snapshot.

- `embedded` drives a consensus core over a store and a transport; `history` is the log as it is read, `persister` the
  thread that makes it durable, `repair` mends it from peers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from quorate.consensus.core import Change
from quorate.types import Ballot, Base, Batch, Index, Membership, ReplicaId, Slot


class Delivered(NamedTuple):
    """A batch at its place: `point` in the engine's own sequence, `first_index` of its first command."""

    point: Slot
    first_index: Index
    batch: Batch


class OrderingStatus(NamedTuple):
    """A snapshot for operators."""

    role: str
    leader: str | None
    leadership: Ballot | None
    """Names that leadership: another one has another name, also if the same replica leads again."""
    point: Slot
    """End of the order as far as it is known here."""
    point_known: Slot
    """The furthest point any other replica has told of."""
    last_index: Index
    reached: dict[ReplicaId, Slot]
    """How far each other member has told that it got."""


class Ordering(Protocol):
    """What the replica asks of an engine. All calls are made on the event loop."""

    on_delivered: Callable[[], None]
    """Called whenever `entries` may have more to give."""
    on_snapshot_needed: Callable[[Slot], None]
    """Called when only a snapshot of that slot, or a later one, leads on from here."""

    @property
    def writable(self) -> bool:
        """Whether there is room on the disk for commands of clients."""
        ...

    @property
    def membership(self) -> Membership:
        """Who takes part, as far as it is known here."""
        ...

    @property
    def base(self) -> Base:
        """Where the log begins."""
        ...

    def propose(self, batch: Batch) -> bool:
        """Offer commands; False when they were not taken and never left this replica (no leader, overload, no room)."""
        ...

    def read_barrier(self, done: Callable[[Slot], None]) -> None:
        """Call `done` with a point no older than any write answered before now (P3); it may take for ever."""
        ...

    def entries(self, after: Slot) -> list[Delivered]:
        """Return what follows point `after`, in order: some of it, or nothing if nothing is known yet.

        Raises LogTrimmed if the log begins later.
        """
        ...

    def base_at(self, point: Slot) -> Base:
        """Return what a snapshot of the state as of `point`, which was delivered here, is based on."""
        ...

    def trim(self, base: Base) -> None:
        """Drop the log up to `base`: a durable snapshot stands for it."""
        ...

    def install(self, base: Base, membership: Membership) -> None:
        """Go on behind a durable snapshot from elsewhere."""
        ...

    def change(self, change: Change, done: Callable[[str], None]) -> None:
        """Ask for a change of membership; `done` gets why it was refused, or an empty string; it may take for ever."""
        ...

    def hand_over(self) -> None:
        """Let another replica lead, if this one does."""
        ...

    def status(self) -> OrderingStatus:
        """Return a snapshot for operators."""
        ...

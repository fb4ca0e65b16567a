"""Storage: what a replica must not forget, behind one port.

A store holds one replica's promise, its votes by slot, the end of its chosen prefix, the membership as of there, and
the base, up to which a snapshot stands for the log. It makes no decisions. What a commit returned for is there after a
power cut (except in `async` and `memory`, which say so); what can't be vouched for is refused. A store truncates and
skips nothing: a damaged vote of the chosen prefix is reported, and repaired by what a peer holds there, since chosen
values are the same everywhere; any other damage ends the replica's life as this member.

- `identity` ties a directory to one replica of one cluster, and to one process at a time.
- `lmdb` is the durable store, which `verify` scans before it is opened; `memory` is the one for tests and throw-away
  clusters.
- `room` tells how full the disk is, `rescue` makes a lone survivor of a lost majority the whole cluster.

Every store passes tests/contracts/test_stores.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from quorate.consensus.core import Persist, Recovered
from quorate.storage.room import Room
from quorate.types import ReplicaId, Slot, Vote


class Identity(NamedTuple):
    """Whose store it is. `epoch` is the generation of the cluster: it rises when a lost majority is given up."""

    cluster: str
    replica: ReplicaId
    epoch: int


class LogStore(Protocol):
    """One replica's durable log. After `StorageBroken` every further call raises it again, except `close`.

    Asking for a slot that is damaged or trimmed raises it too, and breaks nothing.
    """

    blocks: bool
    """`commit` and `repair` may wait for a disk: call them off the event loop, from one thread. All else belongs to the
    event loop."""

    identity: Identity
    """Whose store it is; its epoch may be a later one than the store was opened for, after a rescue."""

    store_id: bytes
    """16 random bytes, drawn when the store was made."""

    life: int
    """How often the store was opened, this time included: never the same twice, unless it is an older copy."""

    nonce: bytes
    """16 random bytes, drawn when the store was opened."""

    damaged: tuple[Slot, ...]
    """The slots of the chosen prefix, above the base, whose votes can't be read until they are repaired. Ascending."""

    @property
    def commits(self) -> int:
        """Return the number of commits so far. One that was ever seen is never undone, unless the disk rolls back."""
        ...

    def recover(self) -> Recovered:
        """Return what was vouched for: promise, chosen prefix, base and membership, and the votes above the prefix.

        Every record of the store has been verified. Called once, before any commit.
        """
        ...

    def commit(self, persists: Sequence[Persist]) -> None:
        """Write all of them, in order, in one transaction; it is durable on return, as far as the store ever is.

        A vote replaces an earlier one of its slot. `chosen` and `base` never go back; where the base passes the end of
        the prefix, the prefix jumps. What lies up to the base is gone for readers, and is removed bit by bit. Raises
        `StorageBroken` when the disk refuses; nothing of it may then be vouched for, and the process must end.
        """
        ...

    def repair(self, slot: Slot, vote: Vote) -> None:
        """Put what a peer holds in a damaged slot, durably. The ballot may be another than that of the vote we lost.

        Raises `Misuse` if the slot is not damaged, and `StorageBroken` like `commit`.
        """
        ...

    def counts(self, first: Slot, last: Slot) -> Iterator[int]:
        """Yield the number of commands in each slot from `first` to `last`, all of which are chosen.

        Raises `StorageBroken` at a slot that is damaged or trimmed.
        """
        ...

    def read(self, first: Slot, last: Slot, bytes_max: int) -> list[Vote]:
        """Return the votes of `first`, `first + 1`, … up to `last`, to the first slot without one, or to `bytes_max`.

        The first is returned whatever its size; a damaged slot behind it ends the list. Raises `StorageBroken` if
        `first` is damaged or trimmed, or if damage comes to light.
        """
        ...

    def room(self) -> Room:
        """Return how much room there is to write. Cheap: for the event loop, once a second or so."""
        ...

    def close(self) -> None:
        """Let go of the directory. No commit may be running."""
        ...

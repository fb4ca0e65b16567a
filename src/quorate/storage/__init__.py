"""Storage: what a replica must not forget, behind one port.

A store holds one replica's promise, its votes by slot and the end of its chosen prefix. It makes no decisions. What a
commit returned for is there after a power cut (except in `memory`, which says so); what can't be vouched for is
refused: a store never repairs, truncates or skips.

- `identity` ties a directory to one replica of one cluster, and to one process at a time.
- `lmdb` is the durable store, `memory` the one for tests and throw-away clusters.

Every store passes tests/contracts/test_stores.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from quorate.consensus.core import Persist, Recovered
from quorate.types import ReplicaId, Slot, Vote


class Identity(NamedTuple):
    """Whose store it is. `epoch` is the generation of the cluster's member list."""

    cluster: str
    replica: ReplicaId
    epoch: int


class LogStore(Protocol):
    """One replica's durable log. After `StorageBroken` every further call raises it again, except `close`."""

    blocks: bool
    """`commit` waits for a disk: call it off the event loop, from one thread. All else belongs to the event loop."""

    def recover(self) -> Recovered:
        """Return what was vouched for: the promise, the chosen prefix, and the votes above it.

        Every record of the store has been verified. Called once, before any commit.
        """
        ...

    def commit(self, persists: Sequence[Persist]) -> None:
        """Write all of them, in order, in one transaction; it is durable on return.

        A vote replaces an earlier one of its slot. `chosen` never goes back. Raises `StorageBroken` when the disk
        refuses; nothing of it may then be vouched for, and the process must end.
        """
        ...

    def counts(self, first: Slot, last: Slot) -> Iterator[int]:
        """Yield the number of commands in each slot from `first` to `last`, all of which are chosen."""
        ...

    def read(self, first: Slot, last: Slot, bytes_max: int) -> list[Vote]:
        """Return the votes of `first`, `first + 1`, … up to `last`, to the first slot without one, or to `bytes_max`.

        The first is returned whatever its size. Raises `StorageBroken` if a chosen slot is missing or damaged.
        """
        ...

    def close(self) -> None:
        """Let go of the directory. No commit may be running."""
        ...

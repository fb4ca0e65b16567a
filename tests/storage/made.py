"""Snapshots made by hand, for the tests of all rooms that deal in them."""

from __future__ import annotations

from collections.abc import Iterable

from quorate.storage.snapshots import Facts, Manifest, Snapshot, SnapshotStore
from quorate.types import Ballot, Base, Index, Membership, ReplicaId, Slot, founding

CLUSTER = "test"
MEMBERS = founding({ReplicaId(number): f"127.0.0.1:{number}" for number in (1, 2, 3)})


def facts(slot: Slot, index: Index | None = None, membership: Membership = MEMBERS) -> Facts:
    base = Base(slot, slot if index is None else index, Ballot(1, ReplicaId(1)))
    return Facts(base, membership, 1_000 + slot, b"d" * 16, True, 10 * slot)


def made(
    store: SnapshotStore,
    slot: Slot,
    state: bytes = b"state",
    slices: Iterable[bytes] = (),
    *,
    index: Index | None = None,
    cluster: str = CLUSTER,
    driver: str = "http",
    membership: Membership = MEMBERS,
) -> Snapshot:
    """Write a snapshot the way a checkpoint does."""
    writer = store.writer()
    writer.write(state)
    service = writer.end_part()
    writer.pace()
    for one in slices:
        writer.write(one)
        writer.end_chunk()
    return writer.commit(Manifest(cluster, driver, facts(slot, index, membership), service, writer.end_part()))

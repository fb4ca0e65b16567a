"""What the tests of the store fill logs with, and how they spoil them."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from quorate.storage import Identity
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

IDENTITY = Identity("bank", ReplicaId(1), 1)
BALLOT = Ballot(1, ReplicaId(1))


def value(slot: Slot, generation: int = 1) -> Vote:
    """Return a vote whose bytes occur nowhere else; every fifth needs pages of its own."""
    payload = f"{slot}.{generation};".encode() * (900 if slot % 5 == 0 else 30)
    return Vote(Ballot(generation, ReplicaId(1)), Batch(1, payload))


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file around."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def spoil(directory: Path, vote: Vote) -> None:
    """Flip a bit in the payload of the one record that holds `vote`, on every page that does."""
    data = directory / "log/data.mdb"
    whole = data.read_bytes()
    start = vote.batch.payload[:30]
    at = whole.find(start)
    assert at >= 0
    while at >= 0:
        flip(data, at * 8 + 100)
        at = whole.find(start, at + len(vote.batch.payload))


@contextmanager
def rewriting(directory: Path) -> Iterator[lmdb.Transaction]:
    """Change a log behind its back, with LMDB's own means."""
    with lmdb.open(str(directory / "log"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        yield txn


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes past `size` fail with EFBIG, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

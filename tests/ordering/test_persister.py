"""The persistence thread: what waits is committed together, in order; after a failure nothing is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.ordering.cluster import until

from quorate.consensus.core import Persist, Recovered
from quorate.errors import Broken, StorageBroken
from quorate.ordering.persister import Persister
from quorate.storage import Identity
from quorate.storage.lmdb import LmdbStore
from quorate.storage.memory import MemoryStore
from quorate.types import NO_BASE, Ballot, Batch, ReplicaId, Vote

BALLOT = Ballot(1, ReplicaId(1))


def persist(seq: int, payload: bytes = b"a") -> Persist:
    return Persist(seq, BALLOT, [(seq, Vote(BALLOT, Batch(1, payload)))], seq - 1)


class SlowStore(MemoryStore):
    """A store whose disk waits for the test."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.disk = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.groups: list[list[int]] = []

    def commit(self, persists: Sequence[Persist]) -> None:
        self.begun.release()
        self.disk.acquire()
        super().commit(persists)
        self.groups.append([one.seq for one in persists])


class DyingStore(MemoryStore):
    """A store whose disk fails at a given commit."""

    blocks = True

    def __init__(self, commits: int) -> None:
        super().__init__()
        self.commits_left = commits

    def commit(self, persists: Sequence[Persist]) -> None:
        if self.commits_left == 0:
            raise StorageBroken("the disk is gone")
        self.commits_left -= 1
        super().commit(persists)


class Told:
    """What a persister says."""

    def __init__(self) -> None:
        self.durable: list[int] = []
        self.broken: list[Broken] = []

    def on_durable(self, persist: Persist) -> None:
        self.durable.append(persist.seq)


async def test_a_group_is_told_by_its_last(tmp_path: Path) -> None:
    told, store = Told(), LmdbStore(tmp_path / "r1", Identity("bank", ReplicaId(1), 1))
    persister = Persister(store, told.on_durable, told.broken.append)
    for seq in range(1, 51):
        persister.submit(persist(seq))
    await until(lambda: told.durable[-1:] == [50])
    assert told.durable == sorted(told.durable)
    assert persister.backlog_bytes == 0
    persister.close()
    assert store.recover() == Recovered(BALLOT, {50: Vote(BALLOT, Batch(1, b"a"))}, 49, BALLOT, NO_BASE, None)
    store.close()


async def test_what_arrives_during_a_commit_is_the_next_group() -> None:
    told, store = Told(), SlowStore()
    persister = Persister(store, told.on_durable, told.broken.append)
    persister.submit(persist(1))
    await asyncio.to_thread(store.begun.acquire)
    for seq in (2, 3, 4):
        persister.submit(persist(seq))
    assert told.durable == []
    store.disk.release(2)
    await until(lambda: told.durable == [1, 4])
    assert store.groups == [[1], [2, 3, 4]]
    persister.close()


async def test_the_backlog_counts_bytes_until_they_are_durable() -> None:
    told, store = Told(), SlowStore()
    persister = Persister(store, told.on_durable, told.broken.append)
    persister.submit(persist(1, b"x" * 1000))
    persister.submit(persist(2, b"x" * 500))
    assert 1500 <= persister.backlog_bytes < 2000
    store.disk.release(2)
    await until(lambda: persister.backlog_bytes == 0)
    persister.close()


async def test_close_commits_what_was_submitted() -> None:
    told, store = Told(), SlowStore()
    persister = Persister(store, told.on_durable, told.broken.append)
    for seq in (1, 2, 3):
        persister.submit(persist(seq))
    store.disk.release(3)
    persister.close()
    assert store.recover().chosen == 2


@pytest.mark.parametrize("good", [0, 2])
async def test_after_a_failed_commit_nothing_is_attempted_or_said(good: int) -> None:
    told, store = Told(), DyingStore(good)
    persister = Persister(store, told.on_durable, told.broken.append)
    for seq in range(1, good + 1):
        persister.submit(persist(seq))
        await until(lambda: told.durable[-1:] == [seq])  # noqa: B023
    persister.submit(persist(good + 1))
    await until(lambda: told.broken)
    persister.submit(persist(good + 2))
    persister.close()
    assert [str(error) for error in told.broken] == ["the disk is gone"]
    assert told.durable == list(range(1, good + 1))
    assert store.recover().chosen == max(good - 1, 0)

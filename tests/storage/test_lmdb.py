"""The durable store: restarts, trimming, full disks, and logs that are lost or not its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, files_no_larger_than, rewriting, value

from quorate import limits
from quorate.consensus.core import Persist, Recovered
from quorate.errors import Broken, IdentityRefused, StorageBroken
from quorate.storage import Identity, environment
from quorate.storage.identity import MARKER_NAME, Mode
from quorate.storage.lmdb import LmdbStore
from quorate.storage.room import Room
from quorate.types import NO_BASE, Ballot, Base, Batch, ReplicaId, Slot, Vote, founding

CHOSEN = 60
OPEN = 8

EXPECTED = Recovered(
    Ballot(2, ReplicaId(1)),
    {slot: value(slot, 2) for slot in range(CHOSEN + 1, CHOSEN + 1 + OPEN)},
    CHOSEN,
    Ballot(2, ReplicaId(1)),
    NO_BASE,
    None,
)


def fill(directory: Path) -> Path:
    """Write a log in many commits, each slot voted in twice, and return the directory."""
    store = LmdbStore(directory, IDENTITY)
    seq = 0
    for generation in (1, 2):
        for slot in range(1, CHOSEN + 1 + OPEN):
            chosen = min(max(0, slot - OPEN), CHOSEN) if generation == 2 else 0
            seq += 1
            votes = [(slot, value(slot, generation))]
            store.commit([Persist(seq, Ballot(generation, ReplicaId(1)), votes, chosen)])
    store.close()
    return directory


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("filled") / "data")


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """A copy of a filled log, to be spoilt."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


def everything(directory: Path) -> tuple[Recovered, list[Vote], list[int]]:
    """Open a log and return all that can be read from it."""
    store = LmdbStore(directory, IDENTITY)
    try:
        return store.recover(), store.read(1, CHOSEN, 1 << 30), list(store.counts(1, CHOSEN))
    finally:
        store.close()


WHOLE = (EXPECTED, [value(slot, 2) for slot in range(1, CHOSEN + 1)], [1] * CHOSEN)


class TestRestart:
    def test_all_is_there(self, directory: Path) -> None:
        assert everything(directory) == WHOLE

    def test_a_start_cut_short_is_resumed(self, tmp_path: Path) -> None:
        """The store was created but not confirmed: nothing can have been vouched for."""
        LmdbStore(tmp_path, IDENTITY).close()
        marker = tmp_path / MARKER_NAME
        marker.write_bytes(marker.read_bytes().replace(b'"initialised": true', b'"initialised": false'))
        store = LmdbStore(tmp_path, IDENTITY)
        assert store.recover().chosen == 0
        store.close()
        assert b'"initialised": true' in marker.read_bytes()

    def test_a_slot_that_was_chosen_keeps_its_vote(self, directory: Path) -> None:
        store = LmdbStore(directory, IDENTITY)
        later = Ballot(9, ReplicaId(2))
        store.commit([Persist(1, later, [(5, Vote(later, value(5, 2).batch))], CHOSEN)])
        assert store.read(5, 5, 1 << 20) == [value(5, 2)]
        store.close()

    def test_commits_go_on_after_a_restart(self, directory: Path) -> None:
        for chosen in (CHOSEN + 1, CHOSEN + 2):
            store = LmdbStore(directory, IDENTITY)
            store.commit([Persist(1, EXPECTED.promised, [], chosen)])
            store.close()
        assert everything(directory)[0].chosen == CHOSEN + 2

    def test_lives_are_counted_and_commits_go_on(self, directory: Path) -> None:
        before = LmdbStore(directory, IDENTITY)
        before.close()
        store = LmdbStore(directory, IDENTITY)
        store.close()
        assert (store.life, store.commits, store.store_id) == (before.life + 1, before.commits, before.store_id)
        assert store.nonce != before.nonce

    def test_base_and_membership_are_there(self, directory: Path) -> None:
        members = founding({ReplicaId(1): "a:1", ReplicaId(2): "b:2"})
        base = Base(50, 77, EXPECTED.promised)
        store = LmdbStore(directory, IDENTITY)
        store.commit([Persist(1, EXPECTED.promised, [], CHOSEN, members, base)])
        store.close()
        store = LmdbStore(directory, IDENTITY)
        assert store.recover() == EXPECTED._replace(base=base, membership=members)
        assert store.read(51, CHOSEN, 1 << 30) == [value(slot, 2) for slot in range(51, CHOSEN + 1)]
        store.close()


def small(slot: Slot) -> Vote:
    return Vote(BALLOT, Batch(1, b"%d;" % slot * (slot % 90 + 1)))


def records_in(directory: Path) -> int:
    """Return how many votes are in the file, readable or not; the store must be closed."""
    with rewriting(directory) as txn:
        return int(txn.stat()["entries"]) - 1


class TestTrimming:
    def test_it_goes_bit_by_bit_and_is_verifiable_at_each(self, tmp_path: Path) -> None:
        store = LmdbStore(tmp_path, IDENTITY)
        store.commit([Persist(1, BALLOT, [(slot, small(slot)) for slot in range(1, 1001)], 990)])
        base = Base(900, 900, BALLOT)
        records = []
        for _ in range(5):
            store.commit([Persist(2, BALLOT, [], 990, base=base)])
            assert store.read(901, 1000, 1 << 20) == [small(slot) for slot in range(901, 1001)]
            store.close()
            records.append(records_in(tmp_path))
            store = LmdbStore(tmp_path, IDENTITY)
            assert store.recover().base == base
        store.close()
        assert records == [*(1000 - limits.LOG_TRIM_RECORDS_MAX * n for n in (1, 2, 3)), 100, 100]

    def test_a_log_whose_base_moves_does_not_grow(self, tmp_path: Path) -> None:
        store = LmdbStore(tmp_path, IDENTITY, Mode.ASYNC)
        sizes = []
        for first in range(1, 50_000, 50):
            last = first + 49
            votes = [(slot, small(slot)) for slot in range(first, last + 1)]
            base = Base(last - 1000, last, BALLOT) if last % 500 == 0 and last > 1000 else None
            store.commit([Persist(last, BALLOT, votes, last - 8, base=base)])
            sizes.append((tmp_path / "log/data.mdb").stat().st_size)
        assert max(sizes) < 1.2 * max(sizes[:100])
        assert max(sizes) * 4 < sum(len(small(slot).batch.payload) for slot in range(1, 50_001))
        store.close()
        store = LmdbStore(tmp_path, IDENTITY, Mode.ASYNC)
        assert store.read(49_001, 50_000, 1 << 30) == [small(slot) for slot in range(49_001, 50_001)]
        store.close()

    def test_leaps_leave_nothing_behind(self, tmp_path: Path) -> None:
        """One installed snapshot after the other, each before what lay below the last one is gone."""
        store = LmdbStore(tmp_path, IDENTITY)
        for start in (0, 5000, 10_000, 15_000):
            votes = [(slot, small(slot)) for slot in range(start + 1, start + 601)]
            store.commit([Persist(1, BALLOT, votes, start + 590)])
            base = Base(start + 5000, 1, BALLOT)
            store.commit([Persist(2, BALLOT, [], base.slot, base=base)])
            store.close()
            assert records_in(tmp_path) > 0
            store = LmdbStore(tmp_path, IDENTITY)
            assert store.recover() == Recovered(BALLOT, {}, base.slot, BALLOT, base, None)
        for _ in range(10):
            store.commit([Persist(3, BALLOT, [], 20_000)])
        store.close()
        assert records_in(tmp_path) == 0


class TestLoss:
    @pytest.mark.parametrize("share", [0.0001, 0.02, 0.25, 0.5, 0.9])
    def test_a_truncated_file_is_refused(self, directory: Path, share: float) -> None:
        data = directory / "log/data.mdb"
        os.truncate(data, int(data.stat().st_size * share))
        with pytest.raises(StorageBroken):
            LmdbStore(directory, IDENTITY)

    def test_an_emptied_file_is_refused(self, directory: Path) -> None:
        os.truncate(directory / "log/data.mdb", 0)
        with pytest.raises(IdentityRefused, match="identity marker present, store empty"):
            LmdbStore(directory, IDENTITY)

    def test_a_fresh_database_in_its_place_is_refused(self, directory: Path) -> None:
        (directory / "log/data.mdb").unlink()
        lmdb.open(str(directory / "log")).close()
        with pytest.raises(IdentityRefused, match="identity marker present, store empty"):
            LmdbStore(directory, IDENTITY)

    def test_a_log_that_fell_back_is_found(self, directory: Path, tmp_path: Path) -> None:
        older = tmp_path / "older.mdb"
        shutil.copy(directory / "log/data.mdb", older)
        store = LmdbStore(directory, IDENTITY)
        store.commit([Persist(1, Ballot(9, ReplicaId(2)), [], CHOSEN)])
        store.close()
        shutil.copy(older, directory / "log/data.mdb")
        with pytest.raises(StorageBroken, match="rolled back"):
            LmdbStore(directory, IDENTITY)

    @pytest.mark.parametrize("damage", [b"", b"short", b"\x00" * 7 + b"\x63" + b"\x00" * 4])
    def test_a_damaged_commit_counter_is_refused(self, directory: Path, damage: bytes) -> None:
        (directory / "log/commits").write_bytes(damage)
        with pytest.raises(StorageBroken, match="commits: damaged"):
            LmdbStore(directory, IDENTITY)

    def test_a_lost_commit_counter_is_refused(self, directory: Path) -> None:
        (directory / "log/commits").unlink()
        with pytest.raises(StorageBroken, match="commits"):
            LmdbStore(directory, IDENTITY)


class TestIdentity:
    @pytest.mark.parametrize(
        "other",
        [Identity("shop", ReplicaId(1), 1), Identity("bank", ReplicaId(2), 1), Identity("bank", ReplicaId(1), 2)],
    )
    def test_the_log_of_another_is_refused(self, directory: Path, other: Identity) -> None:
        with pytest.raises(IdentityRefused, match="belongs to replica 1 of cluster 'bank'"):
            LmdbStore(directory, other)

    def test_the_log_of_another_under_our_marker_is_refused(self, directory: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        LmdbStore(other, IDENTITY._replace(cluster="shop")).close()
        shutil.copy(directory / "log/data.mdb", other / "log/data.mdb")
        with pytest.raises(StorageBroken, match="another replica, cluster or release"):
            LmdbStore(other, IDENTITY._replace(cluster="shop"))

    def test_a_refused_directory_is_let_go(self, directory: Path) -> None:
        data = directory / "log/data.mdb"
        whole = data.read_bytes()
        os.truncate(data, 100)
        with pytest.raises(StorageBroken):
            LmdbStore(directory, IDENTITY)
        data.write_bytes(whole)
        assert everything(directory) == WHOLE


class TestFailedCommit:
    def test_it_fences_the_store_for_good(self, directory: Path) -> None:
        """A later commit would succeed and be acknowledged, and prove nothing (FAULTS.md §0.3)."""
        store = LmdbStore(directory, IDENTITY)
        large = Vote(EXPECTED.promised, Batch(1, b"x" * 4_000_000))
        with files_no_larger_than((directory / "log/data.mdb").stat().st_size), pytest.raises(StorageBroken):
            store.commit([Persist(1, EXPECTED.promised, [(CHOSEN + 1, large)], CHOSEN)])
        calls: list[Callable[[], object]] = [
            lambda: store.commit([Persist(2, EXPECTED.promised, [], CHOSEN)]),
            lambda: store.read(1, 1, 1000),
            lambda: list(store.counts(1, 1)),
            store.recover,
        ]
        for call in calls:
            with pytest.raises(StorageBroken):
                call()
        store.close()
        assert everything(directory) == WHOLE

    def test_a_full_map_keeps_what_it_had_and_grows_at_the_next_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(environment, "LOG_MAP_BYTES", 1024 * 1024)
        large = Vote(BALLOT, Batch(1, b"x" * 100_000))
        store = LmdbStore(tmp_path, IDENTITY)
        group = [Persist(slot, BALLOT, [(slot, large)], slot) for slot in range(1, 20)]
        store.commit(group[:8])
        with pytest.raises(StorageBroken, match="MDB_MAP_FULL"):
            store.commit(group[8:])
        store.close()
        store = LmdbStore(tmp_path, IDENTITY)
        assert store.recover().chosen == 8
        store.commit(group[8:12])
        store.close()

    def test_a_lost_directory_has_no_room(self, directory: Path) -> None:
        store = LmdbStore(directory, IDENTITY)
        assert store.room() is Room.OK
        shutil.rmtree(directory)
        with pytest.raises(StorageBroken):
            store.room()
        store.close()


def test_broken_is_what_the_driver_waits_for() -> None:
    assert issubclass(StorageBroken, Broken)

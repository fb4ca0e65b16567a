"""Snapshots on disk: whole or not at all, verified before use, resumed by what is there, and bounded in number."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.made import CLUSTER, facts, made

from quorate import limits
from quorate.errors import IdentityRefused, Misbehaviour, StorageBroken
from quorate.storage.snapshots import (
    DAMAGED,
    NEW,
    PARTIAL,
    WHOLE,
    Chunk,
    Manifest,
    SnapshotStore,
    chunk_hash,
    seal,
    unseal,
)

STATE = random.Random(1).randbytes(200_000)
SLICES = [random.Random(number).randbytes(30_000) for number in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path, CLUSTER)


def files(directory: Path, suffix: str) -> list[Path]:
    return sorted(directory.glob(f"*{suffix}"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again_also_by_another_process(store: SnapshotStore, tmp_path: Path) -> None:
    made(store, 7, STATE, SLICES)
    for again in (store, SnapshotStore(tmp_path, CLUSTER)):
        snapshot = again.newest_sound()
        assert snapshot is not None
        assert b"".join(snapshot.service()) == STATE
        assert b"".join(snapshot.sessions()) == b"".join(SLICES)
        assert (snapshot.slot, snapshot.service_size, snapshot.size) == (7, len(STATE), len(STATE) + 150_000)
        assert snapshot.manifest.facts == facts(7)


def test_an_empty_service_has_a_snapshot_too(store: SnapshotStore) -> None:
    snapshot = made(store, 1, b"")
    snapshot.verify()
    assert list(snapshot.service()) == []


def test_equal_contents_have_an_equal_name(tmp_path: Path) -> None:
    stores = [SnapshotStore(tmp_path / name, CLUSTER) for name in "ab"]
    one, other = (made(store, 7, STATE, SLICES) for store in stores)
    assert one.path.name == other.path.name
    assert one.path.read_bytes() == other.path.read_bytes()


def test_slices_begin_chunks_of_their_own(store: SnapshotStore) -> None:
    before = made(store, 7, STATE, SLICES)
    after = made(store, 8, STATE[:100] + STATE, SLICES[1:])
    shared = set(before.places) & set(after.places)
    assert shared == {chunk.hash for chunk in before.manifest.sessions[1:]}


def test_a_state_past_the_bound_is_refused(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", 100)
    writer = store.writer()
    writer.write(b"x" * 100)
    with pytest.raises(Misbehaviour, match="larger than 100 bytes"):
        writer.write(b"x")
    writer.abandon()


def test_what_was_abandoned_or_cut_short_by_death_leaves_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    writer = store.writer()
    writer.write(STATE)
    writer.abandon()
    assert list(tmp_path.iterdir()) == []
    writer = store.writer()
    writer.write(STATE)
    assert len(files(tmp_path, NEW)) == 1
    assert SnapshotStore(tmp_path, CLUSTER).newest_sound() is None
    assert list(tmp_path.iterdir()) == []
    writer.abandon()


WRITES_FOR_EVER = """
import itertools, sys
from pathlib import Path
from tests.storage.made import CLUSTER, made
from quorate.storage.snapshots import SnapshotStore
store = SnapshotStore(Path(sys.argv[1]), CLUSTER)
for slot in itertools.count(1):
    made(store, slot, b"%d" % slot * 10_000)
    print(slot, flush=True)
"""


def test_a_killed_writer_leaves_whole_snapshots_only(tmp_path: Path) -> None:
    """Each was told of after it was durable; the kill falls wherever it falls."""
    for pause in range(5):
        command = (sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path))
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": "."}) as one:
            assert one.stdout is not None
            told = 0
            for _ in range(3 + pause):
                told = int(one.stdout.readline())
            one.send_signal(signal.SIGKILL)
        store = SnapshotStore(tmp_path, CLUSTER)
        newest = store.newest_sound()
        assert newest is not None
        assert newest.slot >= told
        assert b"".join(newest.service()) == b"%d" % newest.slot * 10_000
        assert files(tmp_path, DAMAGED) == []


# --- damage ----------------------------------------------------------------------------------------------------------


def test_every_flipped_byte_is_found_before_use(store: SnapshotStore, tmp_path: Path) -> None:
    """None is silently wrong: the damaged snapshot is set aside, and the one before it is used."""
    older = made(store, 1, b"older" * 40)
    newer = made(store, 2, b"newer" * 40, [b"slice"])
    whole = newer.path.read_bytes()
    for place in range(len(whole)):
        newer.path.write_bytes(whole)
        flip(newer.path, place)
        found = SnapshotStore(tmp_path, CLUSTER).newest_sound()
        assert found is not None
        assert found.hash == older.hash, place
        assert [path.name for path in files(tmp_path, DAMAGED)] == [newer.name(DAMAGED)]
        files(tmp_path, DAMAGED)[0].rename(newer.path)


@pytest.mark.parametrize("length", [0, 10, 39, 40, 5000])
def test_a_snapshot_that_was_cut_is_set_aside(store: SnapshotStore, tmp_path: Path, length: int) -> None:
    os.truncate(made(store, 1, STATE[:6000]).path, length)
    again = SnapshotStore(tmp_path, CLUSTER)
    assert again.held == ()
    assert len(files(tmp_path, DAMAGED)) == 1


def test_damage_while_running_is_met_at_the_chunk_it_is_in(store: SnapshotStore, tmp_path: Path) -> None:
    snapshot = made(store, 1, STATE)
    first, second, *_ = snapshot.manifest.service
    flip(snapshot.path, first.length + 5)
    reading = snapshot.service()
    assert next(reading) == STATE[: first.length]
    with pytest.raises(StorageBroken, match=f"damaged at byte {first.length}"):
        next(reading)
    assert store.chunk(second.hash) is None
    assert store.held == ()
    assert len(files(tmp_path, DAMAGED)) == 1


def test_what_was_set_aside_is_never_used_again_and_only_one_is_kept(store: SnapshotStore, tmp_path: Path) -> None:
    for slot in (1, 2, 3):
        store.set_aside(made(store, slot), "a test")
    assert [path.name for path in tmp_path.iterdir()] == [
        f"{3:020d}-{path.stem[-16:]}{DAMAGED}" for path in files(tmp_path, DAMAGED)
    ]
    assert SnapshotStore(tmp_path, CLUSTER).held == ()


def test_a_snapshot_that_was_taken_away_counts_as_damaged(store: SnapshotStore) -> None:
    made(store, 1)
    made(store, 2).path.unlink()
    newest = store.newest_sound()
    assert newest is not None
    assert newest.slot == 1


# --- foreign and unreadable ------------------------------------------------------------------------------------------


def test_another_clusters_directory_is_refused(store: SnapshotStore, tmp_path: Path) -> None:
    made(store, 1)
    with pytest.raises(IdentityRefused, match="cluster 'test', not of 'other'"):
        SnapshotStore(tmp_path, "other")


def test_another_format_is_refused() -> None:
    sealed = bytearray(seal(Manifest(CLUSTER, "http", facts(1), (), ())))
    assert unseal(bytes(sealed)).cluster == CLUSTER
    sealed[17] += 1
    with pytest.raises(StorageBroken, match="format 2, this release reads 1"):
        unseal(bytes(sealed))


@pytest.mark.parametrize(
    "chunk",
    [Chunk(0, b"h" * 32), Chunk(-1, b"h" * 32), Chunk(limits.SNAPSHOT_CHUNK_BYTES + 1, b"h" * 32), Chunk(5, b"h" * 31)],
)
def test_impossible_chunks_are_refused(chunk: Chunk) -> None:
    with pytest.raises(StorageBroken, match="impossible"):
        unseal(seal(Manifest(CLUSTER, "http", facts(1), (chunk,), ())))


def test_a_manifest_of_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_BYTES_MAX", 9)
    with pytest.raises(StorageBroken, match="larger than 9 bytes"):
        unseal(seal(Manifest(CLUSTER, "http", facts(1), (Chunk(5, b"h" * 32),) * 2, ())))


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"quorate snapshot\0\1" + rest))
def test_no_bytes_make_unseal_fail_otherwise(data: bytes) -> None:
    with pytest.raises(StorageBroken):
        unseal(data)


# --- how many --------------------------------------------------------------------------------------------------------


def test_the_newest_two_are_kept(store: SnapshotStore, tmp_path: Path) -> None:
    for slot in (1, 2, 4, 3):
        made(store, slot)
    assert [snapshot.slot for snapshot in store.held] == [4, 3]
    assert len(files(tmp_path, WHOLE)) == 2


def test_one_that_a_peer_fetches_is_kept_until_it_no_longer_asks(tmp_path: Path) -> None:
    now = [0.0]
    store = SnapshotStore(tmp_path, CLUSTER, lambda: now[0])
    first = made(store, 1)
    assert store.sealed(first.hash) == first.data
    for slot in (2, 3, 4):
        made(store, slot)
    assert [snapshot.slot for snapshot in store.held] == [4, 3, 1]
    now[0] += limits.SNAPSHOT_PIN_SECONDS - 1
    store.pin(first.hash)
    now[0] += limits.SNAPSHOT_PIN_SECONDS - 1
    made(store, 5)
    assert [snapshot.slot for snapshot in store.held] == [5, 4, 1]
    now[0] += 1
    made(store, 6)
    assert [snapshot.slot for snapshot in store.held] == [6, 5]


def test_peers_pin_no_more_than_a_few(store: SnapshotStore, tmp_path: Path) -> None:
    for slot in range(1, 9):
        store.pin(made(store, slot).hash)
    assert [snapshot.slot for snapshot in store.held] == [8, 7, 6, 5]
    assert len(files(tmp_path, WHOLE)) == 4


# --- fetching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> SnapshotStore:
    """Another replica's."""
    return SnapshotStore(tmp_path / "source", CLUSTER)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def test_a_snapshot_is_put_together_from_its_chunks(source: SnapshotStore, place: Path) -> None:
    snapshot = made(source, 9, STATE + b"x" * 300_000, SLICES)
    store = SnapshotStore(place, CLUSTER)
    partial = store.begin(snapshot.data)
    assert partial.missing == set(snapshot.places)
    for hash_ in sorted(partial.missing):
        chunk = source.chunk(hash_)
        assert chunk is not None
        assert partial.put(chunk) == hash_
    assert store.held == ()
    fetched = store.finish(partial)
    assert fetched.path.read_bytes() == snapshot.path.read_bytes()
    assert store.newest_sound() is fetched
    assert files(place, PARTIAL) == []


def test_what_does_not_belong_to_it_is_not_written(source: SnapshotStore, place: Path) -> None:
    partial = SnapshotStore(place, CLUSTER).begin(made(source, 9, STATE).data)
    before = partial.path.read_bytes()
    hash_ = partial.put(b"something else")
    assert hash_ == chunk_hash(b"something else")
    assert hash_ not in partial.places
    assert partial.path.read_bytes() == before


@pytest.mark.parametrize("damage", [False, True])
def test_a_fetch_goes_on_where_it_was_after_a_restart(source: SnapshotStore, place: Path, damage: bool) -> None:
    """What is there is told by its hash, so a chunk that was only half written counts as missing."""
    snapshot = made(source, 9, STATE, SLICES)
    partial = SnapshotStore(place, CLUSTER).begin(snapshot.data)
    there = [chunk.hash for chunk in snapshot.manifest.chunks[:4]]
    for hash_ in there:
        partial.put(source.chunk(hash_) or b"")
    if damage:
        flip(partial.path, 5)
    again = SnapshotStore(place, CLUSTER).begin(snapshot.data)
    assert again.missing == set(snapshot.places) - set(there[damage:])


def test_what_other_snapshots_here_have_is_not_fetched(source: SnapshotStore, place: Path) -> None:
    """Not even under a newer manifest, after a restart: whole and partial ones give what they have."""
    store = SnapshotStore(place, CLUSTER)
    made(store, 5, STATE[:1000], SLICES[:2])
    old = made(source, 8, STATE, SLICES)
    partial = store.begin(old.data)
    partial.put(source.chunk(old.manifest.service[0].hash) or b"")
    new = made(source, 9, STATE[:150_000] + b"new", SLICES)
    again = SnapshotStore(place, CLUSTER).begin(new.data)
    known = {old.manifest.service[0].hash, *(chunk.hash for chunk in new.manifest.sessions[:2])}
    assert again.missing == set(new.places) - known
    assert [path.name for path in files(place, PARTIAL)] == [again.path.name]


def test_a_damaged_neighbour_is_no_source(source: SnapshotStore, place: Path) -> None:
    store = SnapshotStore(place, CLUSTER)
    flip(made(store, 5, STATE).path, 5)
    snapshot = made(source, 9, STATE)
    assert store.begin(snapshot.data).missing >= {snapshot.manifest.service[0].hash}
    assert store.held == ()


def test_another_clusters_snapshot_is_not_begun(source: SnapshotStore, place: Path) -> None:
    snapshot = made(source, 9, cluster="other")
    with pytest.raises(StorageBroken, match="cluster 'other', not of 'test'"):
        SnapshotStore(place, CLUSTER).begin(snapshot.data)
    assert list(place.iterdir()) == []


def test_nonsense_in_the_place_of_a_partial_one_is_dropped(source: SnapshotStore, place: Path) -> None:
    store = SnapshotStore(place, CLUSTER)
    (place / f"nonsense{PARTIAL}").write_bytes(b"nonsense")
    store.begin(made(source, 9).data)
    assert len(files(place, PARTIAL)) == 1

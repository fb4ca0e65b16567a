"""The durable store against a disk that lies, loses, fails and dies."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from quorate.consensus.core import Persist, Recovered
from quorate.errors import Broken, IdentityRefused, StorageBroken
from quorate.storage import Identity
from quorate.storage.lmdb import LmdbStore
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

IDENTITY = Identity("bank", ReplicaId(1), 1)
BALLOT = Ballot(1, ReplicaId(1))
CHOSEN = 60
OPEN = 8


def value(slot: Slot, generation: int = 1) -> Vote:
    """Return a vote whose bytes occur nowhere else; every fifth needs pages of its own."""
    payload = f"{slot}.{generation};".encode() * (900 if slot % 5 == 0 else 30)
    return Vote(Ballot(generation, ReplicaId(1)), Batch(1, payload))


EXPECTED = Recovered(
    Ballot(2, ReplicaId(1)), {slot: value(slot, 2) for slot in range(CHOSEN + 1, CHOSEN + 1 + OPEN)}, CHOSEN
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


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


class TestRestart:
    def test_all_is_there(self, directory: Path) -> None:
        assert everything(directory) == WHOLE

    def test_a_start_cut_short_is_resumed(self, tmp_path: Path) -> None:
        """The store was created but not confirmed: nothing can have been vouched for."""
        LmdbStore(tmp_path, IDENTITY).close()
        marker = tmp_path / "identity.json"
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


class TestDamageAtRest:
    def test_no_flipped_bit_yields_a_wrong_value(self, filled: Path, tmp_path: Path) -> None:
        """LMDB alone returned wrong bytes for 48 of 60 flips (FAULTS.md §0.1)."""
        rng = random.Random(27)
        bits = [rng.randrange((filled / "log/data.mdb").stat().st_size * 8) for _ in range(200)]

        def outcome(bit: int) -> str:
            copy = Path(shutil.copytree(filled, tmp_path / f"{bit}"))
            flip(copy / "log/data.mdb", bit)
            try:
                found = everything(copy)
            except (StorageBroken, IdentityRefused):
                return "refused"
            finally:
                shutil.rmtree(copy)
            return "harmless" if found == WHOLE else f"silently wrong at bit {bit}"

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(outcome, bits))
        assert set(outcomes) == {"refused", "harmless"}

    def test_the_damaged_slot_is_named(self, directory: Path) -> None:
        data = directory / "log/data.mdb"
        at = data.read_bytes().index(value(40, 2).batch.payload[:100])
        flip(data, at * 8 + 100)
        with pytest.raises(StorageBroken, match="log record of slot 40 has a wrong checksum"):
            LmdbStore(directory, IDENTITY)

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

    @pytest.mark.parametrize(
        ("slot", "complaint"),
        [
            (30, "slot 30 is missing"),
            (CHOSEN, f"slot {CHOSEN} is missing"),
            (CHOSEN + 3, f"above slot {CHOSEN} are not the ones last committed"),
        ],
    )
    def test_a_lost_record_is_found(self, directory: Path, slot: Slot, complaint: str) -> None:
        with rewriting(directory) as txn:
            txn.delete(slot.to_bytes(8, "big"))
        with pytest.raises(StorageBroken, match=complaint):
            LmdbStore(directory, IDENTITY)

    @pytest.mark.parametrize("slot", [30, CHOSEN + 3])
    def test_an_outdated_record_is_found(self, directory: Path, tmp_path: Path, slot: Slot) -> None:
        other = LmdbStore(tmp_path / "other", IDENTITY)
        other.commit([Persist(1, BALLOT, [(slot, value(slot, 1))], 0)])
        other.close()
        key = slot.to_bytes(8, "big")
        with rewriting(tmp_path / "other") as source:
            outdated = source.get(key)
        assert isinstance(outdated, bytes)
        with rewriting(directory) as txn:
            txn.put(key, outdated)
        with pytest.raises(StorageBroken, match="are not the ones last committed"):
            LmdbStore(directory, IDENTITY)

    def test_a_misplaced_record_is_found(self, directory: Path) -> None:
        with rewriting(directory) as txn:
            txn.put((30).to_bytes(8, "big"), bytes(txn.get((31).to_bytes(8, "big")) or b""))
        with pytest.raises(StorageBroken, match="slot 30 is the record of slot 31"):
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


@contextmanager
def rewriting(directory: Path) -> Iterator[lmdb.Transaction]:
    """Change a log behind its back, with LMDB's own means."""
    with lmdb.open(str(directory / "log"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        yield txn


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


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let writes past `size` fail with EFBIG, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITER = """
import sys
from pathlib import Path
from quorate.consensus.core import Persist
from quorate.storage import Identity
from quorate.storage.lmdb import LmdbStore
from quorate.types import Ballot, Batch, Vote

store = LmdbStore(Path(sys.argv[1]), Identity("bank", 1, 1))
recovered = store.recover()
slot = max(recovered.votes, default=recovered.chosen)
while True:
    first = slot + 1
    slot += 1 + first % 7
    votes = [(n, Vote(Ballot(1, 1), Batch(1, b"%d;" % n * (n % 50)))) for n in range(first, slot + 1)]
    store.commit([Persist(slot, Ballot(1, 1), [vote], max(0, slot - 12)) for vote in votes])
    print(slot, flush=True)
"""


def test_kill_9_loses_no_acknowledged_commit(tmp_path: Path) -> None:
    rng = random.Random(9)
    acknowledged = 0
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout
            for _ in range(rng.randrange(1, 60)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            for line in writer.stdout.read().splitlines(keepends=True):
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        store = LmdbStore(tmp_path, IDENTITY)
        recovered = store.recover()
        assert max(recovered.votes) >= acknowledged
        votes = store.read(1, acknowledged, 1 << 30)
        assert [vote.batch.payload for vote in votes] == [b"%d;" % n * (n % 50) for n in range(1, acknowledged + 1)]
        store.close()
    assert acknowledged > 500


def test_kill_at_each_write_and_sync_loses_no_acknowledged_commit(tmp_path: Path) -> None:
    """Deterministic crash points: strace kills the writer at its nth write or sync, from the first start on."""
    for nth in range(1, 31, 2):
        directory = tmp_path / str(nth)
        calls = "pwrite64,pwritev,writev,fdatasync,fsync,rename"
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        killing = [*strace, "-e", f"inject={calls}:signal=SIGKILL:when={nth}"]
        command = [*killing, sys.executable, "-c", WRITER, str(directory)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
        acknowledged = int((done.stdout.splitlines() or ["0"])[-1])
        store = LmdbStore(directory, IDENTITY)
        recovered = store.recover()
        assert max(recovered.votes, default=0) >= acknowledged
        assert len(store.read(1, acknowledged, 1 << 30)) == acknowledged
        store.close()


def test_broken_is_what_the_driver_waits_for() -> None:
    assert issubclass(StorageBroken, Broken)

"""The copy of what is sound takes the place of a damaged log, at once or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, files_no_larger_than, spoil, value

from quorate.consensus.core import Persist
from quorate.errors import StorageBroken
from quorate.limits import LOG_COPY_BYTES, LOG_DIGEST_SUMS
from quorate.records import decode_meta, encode_meta
from quorate.storage.environment import META_KEY, open_environment, slot_key
from quorate.storage.identity import identity_tag
from quorate.storage.lmdb import LmdbStore
from quorate.storage.salvage import put_in_place, salvage
from quorate.storage.verify import verify_in_child
from quorate.types import Batch, ReplicaId, Vote, founding

TAG = identity_tag(IDENTITY)
LAST = 2000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose log is larger than one portion of a copy."""
    store = LmdbStore(tmp_path / "data", IDENTITY)
    votes = [(slot, value(slot)) for slot in range(1, LAST + 1)]
    for first in range(0, LAST, 500):
        store.commit([Persist(1, BALLOT, votes[first : first + 500], 0)])
    store.commit([Persist(1, BALLOT, [(1, Vote(BALLOT, Batch(1, b"x" * LOG_COPY_BYTES)))], 0)])
    store.commit([Persist(1, BALLOT, [], LAST, founding({ReplicaId(1): "a:1"}))])
    store.close()
    return tmp_path / "data"


def contents(log: Path) -> dict[bytes, bytes]:
    with open_environment(log, readonly=True) as env, env.begin() as txn:
        return dict(txn.cursor())


def test_all_but_the_damaged_records_is_copied(data: Path) -> None:
    log = data / "log"
    for slot in (7, 1500):
        spoil(data, value(slot))
    before = contents(log)
    mended = decode_meta(TAG, before[META_KEY])._replace(chosen_digest=(7,) * LOG_DIGEST_SUMS)
    copy = salvage(log, TAG, mended)
    assert contents(log) == before
    after = contents(copy)
    assert after.pop(META_KEY) == encode_meta(TAG, mended)
    assert after == {key: before[key] for key in before.keys() - {META_KEY, slot_key(7), slot_key(1500)}}
    put_in_place(copy, log)
    assert contents(log).items() > after.items()
    assert not copy.exists()


def test_what_a_start_that_was_cut_short_left_is_overwritten(data: Path) -> None:
    log = data / "log"
    (log / "copy").mkdir()
    (log / "copy/data.mdb").write_bytes(b"half a copy")
    assert len(contents(salvage(log, TAG, decode_meta(TAG, contents(log)[META_KEY])))) == LAST + 2


def test_without_room_for_a_copy_the_log_stays_as_it_is(data: Path) -> None:
    spoil(data, value(40))
    before = (data / "log/data.mdb").read_bytes()
    with (
        files_no_larger_than(len(before) // 2),
        pytest.raises(
            StorageBroken, match=r"damaged at slot 40, and the rest can't be copied: .* room for a second log"
        ),
    ):
        verify_in_child(data / "log", TAG)
    assert (data / "log/data.mdb").read_bytes() == before
    assert verify_in_child(data / "log", TAG) == (40,)


def test_kill_at_each_write_leaves_a_log_that_names_the_same_slots(data: Path, tmp_path: Path) -> None:
    spoil(data, value(40))
    calls = "pwrite64,pwritev,writev,fdatasync,fsync,rename,unlink,unlinkat"
    deaths = 0
    for nth in range(1, 12, 2):
        copy = Path(shutil.copytree(data / "log", tmp_path / f"{nth}"))
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        scan = [sys.executable, "-m", "quorate.storage.verify", str(copy), str(TAG)]
        command = [*strace, "-e", f"inject={calls}:signal=SIGKILL:when={nth}", *scan]
        deaths += subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0
        assert verify_in_child(copy, TAG) == (40,)
    assert deaths >= 4

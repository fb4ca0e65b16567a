"""A directory belongs to one replica, one process, and to what it holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.spoiling import IDENTITY, files_no_larger_than

from quorate.errors import IdentityRefused, StorageBroken
from quorate.storage import Identity
from quorate.storage.identity import MARKER_NAME, STORE_NAME, Mode, claim, claimed_mode, identity_tag
from quorate.types import ReplicaId


def initialised(directory: Path, mode: Mode = Mode.SYNC) -> Path:
    """Return a directory as a first start and an unclean stop leave it."""
    owner = claim(directory, IDENTITY, mode)
    (directory / STORE_NAME).mkdir()
    (directory / STORE_NAME / "data.mdb").write_bytes(b"records")
    owner.confirm()
    owner.close()
    return directory


def test_a_fresh_directory_is_made_and_claimed(tmp_path: Path) -> None:
    owner = claim(tmp_path / "a" / "b", IDENTITY, Mode.SYNC)
    assert owner.fresh
    assert (tmp_path / "a" / "b" / MARKER_NAME).exists()
    owner.close()


def test_a_start_cut_short_before_the_store_was_confirmed_goes_on_as_fresh(tmp_path: Path) -> None:
    claim(tmp_path, IDENTITY, Mode.SYNC).close()
    owner = claim(tmp_path, IDENTITY, Mode.SYNC)
    assert owner.fresh
    owner.close()


def test_a_confirmed_directory_is_claimed_again(tmp_path: Path) -> None:
    owner = claim(initialised(tmp_path), IDENTITY, Mode.SYNC)
    assert not owner.fresh
    owner.close()


@pytest.mark.parametrize("how", ["removed", "emptied", "file removed"])
def test_an_emptied_store_is_refused(tmp_path: Path, how: str) -> None:
    store = initialised(tmp_path) / STORE_NAME
    if how == "removed":
        shutil.rmtree(store)
    elif how == "emptied":
        os.truncate(store / "data.mdb", 0)
    else:
        (store / "data.mdb").unlink()
    with pytest.raises(IdentityRefused, match="identity marker present, store empty - this replica must rejoin"):
        claim(tmp_path, IDENTITY, Mode.SYNC)


def test_a_store_without_its_marker_is_refused(tmp_path: Path) -> None:
    (initialised(tmp_path) / MARKER_NAME).unlink()
    with pytest.raises(IdentityRefused, match="log present, identity marker missing"):
        claim(tmp_path, IDENTITY, Mode.SYNC)


@pytest.mark.parametrize(
    "other", [Identity("shop", ReplicaId(1), 1), Identity("bank", ReplicaId(2), 1), Identity("bank", ReplicaId(1), 2)]
)
def test_the_directory_of_another_is_refused_and_both_are_named(tmp_path: Path, other: Identity) -> None:
    initialised(tmp_path)
    named = f"replica 1 of cluster 'bank', epoch 1, not to replica {other.replica} of cluster '{other.cluster}'"
    with pytest.raises(IdentityRefused, match=named):
        claim(tmp_path, other, Mode.SYNC)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff", b'{"form":2}', b'{"format":2,"cluster":"bank"}'], ids=lambda damage: repr(damage)
)
def test_a_damaged_marker_is_refused(tmp_path: Path, damage: bytes) -> None:
    (initialised(tmp_path) / MARKER_NAME).write_bytes(damage)
    with pytest.raises(IdentityRefused, match=r"identity\.json: damaged"):
        claim(tmp_path, IDENTITY, Mode.SYNC)


def test_a_field_that_can_not_be_is_damage(tmp_path: Path) -> None:
    marker = initialised(tmp_path) / MARKER_NAME
    marker.write_bytes(marker.read_bytes().replace(b'"store": "', b'"store": "x'))
    with pytest.raises(IdentityRefused, match=r"identity\.json: damaged"):
        claim(tmp_path, IDENTITY, Mode.SYNC)


@pytest.mark.parametrize("other", [1, 3])
def test_a_marker_of_another_format_is_refused(tmp_path: Path, other: int) -> None:
    (initialised(tmp_path) / MARKER_NAME).write_bytes(b'{"format": %d, "what": "else"}' % other)
    with pytest.raises(IdentityRefused, match=f"format {other}, this release reads 2"):
        claim(tmp_path, IDENTITY, Mode.SYNC)


def test_a_memory_mode_replica_that_forgot_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, IDENTITY, Mode.MEMORY).close()
    with pytest.raises(IdentityRefused, match="forgot its votes"):
        claim(tmp_path, IDENTITY, Mode.MEMORY)


@pytest.mark.parametrize("mode", Mode)
def test_a_change_of_storage_mode_is_refused(tmp_path: Path, mode: Mode) -> None:
    initialised(tmp_path, mode)
    assert claimed_mode(tmp_path) is mode
    for other in set(Mode) - {mode}:
        with pytest.raises(IdentityRefused, match=f"was used with storage {mode}, not {other}"):
            claim(tmp_path, IDENTITY, other)


@pytest.mark.parametrize("place", ["", "none", "file/below"])
def test_a_directory_that_was_never_claimed_has_no_mode(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityRefused, match="holds no replica's data"):
        claimed_mode(tmp_path / place)


class TestAsync:
    BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip().encode()

    def test_a_process_that_died_left_its_commits_with_the_kernel(self, tmp_path: Path) -> None:
        initialised(tmp_path, Mode.ASYNC)
        assert self.BOOT in (tmp_path / MARKER_NAME).read_bytes()
        claim(tmp_path, IDENTITY, Mode.ASYNC).close()

    def test_a_machine_that_went_down_did_not(self, tmp_path: Path) -> None:
        marker = initialised(tmp_path, Mode.ASYNC) / MARKER_NAME
        marker.write_bytes(marker.read_bytes().replace(self.BOOT, b"another-boot"))
        with pytest.raises(IdentityRefused, match=r"went down before all votes were on disk .* rejoin as a new member"):
            claim(tmp_path, IDENTITY, Mode.ASYNC)

    def test_nothing_is_lost_that_was_settled(self, tmp_path: Path) -> None:
        initialised(tmp_path, Mode.ASYNC)
        owner = claim(tmp_path, IDENTITY, Mode.ASYNC)
        owner.settle()
        owner.close()
        assert self.BOOT not in (tmp_path / MARKER_NAME).read_bytes()
        claim(tmp_path, IDENTITY, Mode.ASYNC).close()

    def test_a_claim_that_never_confirmed_wrote_nothing(self, tmp_path: Path) -> None:
        claim(tmp_path, IDENTITY, Mode.ASYNC).close()
        assert self.BOOT not in (tmp_path / MARKER_NAME).read_bytes()


class TestNames:
    def test_the_store_keeps_its_id_and_counts_its_lives(self, tmp_path: Path) -> None:
        owners = []
        for life in (1, 2, 3):
            owner = claim(tmp_path, IDENTITY, Mode.SYNC)
            owner.close()
            owners.append(owner)
            assert owner.life == life
        assert len({owner.store_id for owner in owners}) == 1
        assert len({owner.nonce for owner in owners}) == 3
        assert len(owners[0].store_id) == len(owners[0].nonce) == 16

    def test_a_refused_claim_is_no_life(self, tmp_path: Path) -> None:
        initialised(tmp_path)
        with pytest.raises(IdentityRefused):
            claim(tmp_path, IDENTITY, Mode.ASYNC)
        owner = claim(tmp_path, IDENTITY, Mode.SYNC)
        owner.close()
        assert owner.life == 2

    def test_stores_differ(self, tmp_path: Path) -> None:
        owners = [claim(tmp_path / name, IDENTITY, Mode.SYNC) for name in ("a", "b")]
        assert owners[0].store_id != owners[1].store_id
        for owner in owners:
            owner.close()


def test_a_raised_epoch_holds_whatever_the_settings_say(tmp_path: Path) -> None:
    owner = claim(initialised(tmp_path), IDENTITY, Mode.SYNC)
    owner.raise_epoch()
    owner.close()
    for asked in (1, 2):
        owner = claim(tmp_path, IDENTITY._replace(epoch=asked), Mode.SYNC)
        assert owner.identity == IDENTITY._replace(epoch=2)
        owner.close()
    with pytest.raises(IdentityRefused, match="epoch 2, not to replica 1 of cluster 'bank', epoch 3"):
        claim(tmp_path, IDENTITY._replace(epoch=3), Mode.SYNC)


def test_a_full_disk_is_a_broken_disk_and_not_a_foreign_one(tmp_path: Path) -> None:
    """It may be started again once there is room; a refused one may not."""
    initialised(tmp_path)
    with files_no_larger_than(1), pytest.raises(StorageBroken):
        claim(tmp_path, IDENTITY, Mode.SYNC)
    claim(tmp_path, IDENTITY, Mode.SYNC).close()


def test_a_second_process_is_refused_and_the_first_named(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from quorate.storage.identity import *; from quorate.storage import *\n"
        "owner = claim(Path(sys.argv[1]), Identity('bank', 1, 1), Mode.SYNC)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(IdentityRefused, match=f"in use by process {holder.pid} "):
            claim(tmp_path, IDENTITY, Mode.SYNC)
        holder.kill()
    claim(tmp_path, IDENTITY, Mode.SYNC).close()


def test_a_refused_claim_leaves_the_directory_unlocked(tmp_path: Path) -> None:
    initialised(tmp_path)
    with pytest.raises(IdentityRefused):
        claim(tmp_path, Identity("shop", ReplicaId(1), 1), Mode.SYNC)
    claim(tmp_path, IDENTITY, Mode.SYNC).close()


def test_a_path_that_can_not_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityRefused, match="give a directory this process may write"):
        claim(tmp_path / "file", IDENTITY, Mode.SYNC)


def test_tags_tell_replicas_and_clusters_apart_but_not_epochs() -> None:
    tags = {identity_tag(Identity(cluster, ReplicaId(n), 1)) for cluster in ("bank", "bank1", "") for n in range(1, 30)}
    assert len(tags) == 3 * 29
    assert identity_tag(IDENTITY) == identity_tag(IDENTITY._replace(epoch=2))

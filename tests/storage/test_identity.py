"""A directory belongs to one replica, one process, and to what it holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quorate.errors import IdentityRefused
from quorate.storage import Identity
from quorate.storage.identity import MARKER_NAME, STORE_NAME, claim, identity_tag
from quorate.types import ReplicaId

IDENTITY = Identity("bank", ReplicaId(1), 1)


def initialised(directory: Path) -> Path:
    """Return a directory as a first start and a clean stop leave it."""
    owner = claim(directory, IDENTITY, durable=True)
    (directory / STORE_NAME).mkdir()
    (directory / STORE_NAME / "data.mdb").write_bytes(b"records")
    owner.confirm()
    owner.close()
    return directory


def test_a_fresh_directory_is_made_and_claimed(tmp_path: Path) -> None:
    owner = claim(tmp_path / "a" / "b", IDENTITY, durable=True)
    assert owner.fresh
    assert (tmp_path / "a" / "b" / MARKER_NAME).exists()
    owner.close()


def test_a_start_cut_short_before_the_store_was_confirmed_goes_on_as_fresh(tmp_path: Path) -> None:
    claim(tmp_path, IDENTITY, durable=True).close()
    owner = claim(tmp_path, IDENTITY, durable=True)
    assert owner.fresh
    owner.close()


def test_a_confirmed_directory_is_claimed_again(tmp_path: Path) -> None:
    owner = claim(initialised(tmp_path), IDENTITY, durable=True)
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
        claim(tmp_path, IDENTITY, durable=True)


def test_a_store_without_its_marker_is_refused(tmp_path: Path) -> None:
    (initialised(tmp_path) / MARKER_NAME).unlink()
    with pytest.raises(IdentityRefused, match="log present, identity marker missing"):
        claim(tmp_path, IDENTITY, durable=True)


@pytest.mark.parametrize(
    "other", [Identity("shop", ReplicaId(1), 1), Identity("bank", ReplicaId(2), 1), Identity("bank", ReplicaId(1), 2)]
)
def test_the_directory_of_another_is_refused_and_both_are_named(tmp_path: Path, other: Identity) -> None:
    initialised(tmp_path)
    named = f"replica 1 of cluster 'bank', epoch 1, not to replica {other.replica} of cluster '{other.cluster}'"
    with pytest.raises(IdentityRefused, match=named):
        claim(tmp_path, other, durable=True)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff", b'{"format":1}', b'{"format":2,"cluster":"bank"}'], ids=lambda damage: repr(damage)
)
def test_a_damaged_marker_is_refused(tmp_path: Path, damage: bytes) -> None:
    (initialised(tmp_path) / MARKER_NAME).write_bytes(damage)
    with pytest.raises(IdentityRefused, match=r"identity\.json: damaged"):
        claim(tmp_path, IDENTITY, durable=True)


def test_a_marker_of_a_later_format_is_refused(tmp_path: Path) -> None:
    marker = initialised(tmp_path) / MARKER_NAME
    marker.write_bytes(marker.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(IdentityRefused, match="format 2, this release reads 1"):
        claim(tmp_path, IDENTITY, durable=True)


def test_a_memory_mode_replica_that_forgot_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, IDENTITY, durable=False).close()
    with pytest.raises(IdentityRefused, match="forgot its votes"):
        claim(tmp_path, IDENTITY, durable=False)


def test_a_change_of_storage_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityRefused, match="was used with storage sync, not memory"):
        claim(initialised(tmp_path / "a"), IDENTITY, durable=False)
    claim(tmp_path / "b", IDENTITY, durable=False).close()
    with pytest.raises(IdentityRefused, match="was used with storage memory, not sync"):
        claim(tmp_path / "b", IDENTITY, durable=True)


def test_a_second_process_is_refused_and_the_first_named(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from quorate.storage.identity import *; from quorate.storage import *\n"
        "owner = claim(Path(sys.argv[1]), Identity('bank', 1, 1), durable=True)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(IdentityRefused, match=f"in use by process {holder.pid} "):
            claim(tmp_path, IDENTITY, durable=True)
        holder.kill()
    claim(tmp_path, IDENTITY, durable=True).close()


def test_a_refused_claim_leaves_the_directory_unlocked(tmp_path: Path) -> None:
    initialised(tmp_path)
    with pytest.raises(IdentityRefused):
        claim(tmp_path, Identity("shop", ReplicaId(1), 1), durable=True)
    claim(tmp_path, IDENTITY, durable=True).close()


def test_a_path_that_can_not_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityRefused, match="give a directory this process may write"):
        claim(tmp_path / "file", IDENTITY, durable=True)


def test_tags_tell_replicas_and_clusters_apart_but_not_epochs() -> None:
    tags = {identity_tag(Identity(cluster, ReplicaId(n), 1)) for cluster in ("bank", "bank1", "") for n in range(1, 30)}
    assert len(tags) == 3 * 29
    assert identity_tag(IDENTITY) == identity_tag(IDENTITY._replace(epoch=2))

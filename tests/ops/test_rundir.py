"""The data directory of a run: one holder, one cluster, one size."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from quorate.errors import IdentityRefused, NetworkRefused, StorageBroken
from quorate.ops.rundir import RunDirectory, RunInfo

INFO = RunInfo(os.getpid(), "c", "http://127.0.0.1:8000", "http://127.0.0.1:9000")


def test_a_second_run_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "d"), RunDirectory(tmp_path / "d")
    first.claim()
    assert second.is_held()
    with pytest.raises(IdentityRefused, match=f"a run is going on there, pid {os.getpid()} - "):
        second.claim()
    first.release()
    assert not second.is_held()
    second.claim()
    second.release()


def test_a_living_run_can_be_found_and_a_stale_record_is_ignored(tmp_path: Path) -> None:
    directory, asking = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with pytest.raises(NetworkRefused, match="no run is going on"):
        asking.living()
    directory.claim()
    with pytest.raises(NetworkRefused, match="only starting"):
        asking.living()
    directory.publish(INFO)
    assert asking.living() == INFO
    directory.release()
    directory.publish(INFO)
    with pytest.raises(NetworkRefused, match="no run is going on"):
        asking.living()


def test_a_durable_cluster_keeps_its_name_and_refuses_another_shape(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.replica_names() == []
    name = directory.cluster(3, "sync", "paxos")
    assert directory.cluster(3, "sync", "paxos") == name
    assert directory.replica_names() == ["r1", "r2", "r3"]
    for replicas, storage, consensus in ((5, "sync", "paxos"), (3, "memory", "paxos"), (3, "sync", "raft")):
        with pytest.raises(IdentityRefused, match="made for 3 replicas with storage sync and consensus paxos"):
            directory.cluster(replicas, storage, consensus)


def test_members_come_and_go_on_record(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    known = directory.cluster(3, "sync", "paxos")
    directory.remember(msgspec.structs.replace(known, members=[1, 3]))
    assert directory.replica_names() == ["r1", "r3"]
    for replicas in (2, 3):
        again = directory.cluster(replicas, "sync", "paxos")
        assert (again.cluster, again.founders, again.members) == (known.cluster, [1, 2, 3], [1, 3])
    with pytest.raises(IdentityRefused, match="made for 2 replicas"):
        directory.cluster(5, "sync", "paxos")


def test_a_run_in_memory_leaves_nothing_that_may_vote_again(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    first = directory.cluster(2, "memory", "paxos")
    leftovers = [directory.replica(name) / place for name in directory.replica_names() for place in ("data", "app")]
    for path in leftovers:
        path.mkdir(parents=True)
    log = directory.replica("r1") / "log"
    log.touch()
    assert directory.cluster(3, "sync", "paxos").cluster != first.cluster
    assert not any(path.exists() for path in leftovers)
    assert log.exists()


def test_a_damaged_record_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"cluster": "c"')
    with pytest.raises(StorageBroken, match=r"damaged: .*cluster\.json"):
        RunDirectory(tmp_path).cluster(3, "sync", "paxos")


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageBroken) as refused:
        RunDirectory(tmp_path / "file" / "d").claim()
    assert refused.value.exit_code == 4

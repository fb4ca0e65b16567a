"""Snapshots are taken, offered, fetched and installed; the log is trimmed behind them."""

from __future__ import annotations

import pytest
from tests.sim.worlds import PEACE, Cluster, swarm

from quorate.sim.swarm import Fault
from quorate.sim.transfer import ASK_TICKS, ASKED_MAX, Chunk, Transfer

EAGER = PEACE._replace(eager_trim=True)


def test_snapshots_are_staggered_and_the_log_is_trimmed_up_to_the_older() -> None:
    cluster = Cluster(EAGER)
    cluster.write(cluster.leader, 45)
    cluster.ticks(10)
    images = [machine.disk.image for machine in cluster.machines.values()]
    assert len({image.ends() for image in images}) == len(images)
    assert all(image.base == image.snapshots[0].base for image in images)
    assert all(min(image.votes) == image.base.slot + 1 for image in images)


def test_the_careful_keep_what_a_live_member_lacks() -> None:
    cluster = Cluster(PEACE)
    laggard = cluster.follower
    cluster.write(cluster.leader, 5)
    laggard.pause()
    cluster.write(cluster.leader, 45)
    assert cluster.leader.disk.image.base.slot == 0
    assert len(cluster.leader.disk.image.snapshots) == 2


def test_who_is_far_behind_goes_on_behind_a_snapshot_of_a_peer() -> None:
    cluster = Cluster(EAGER)
    laggard = cluster.follower
    laggard.crash()
    cluster.write(cluster.leader, 60)
    laggard.boot()
    cluster.ticks(60)
    assert cluster.invariants.installs == 1
    assert laggard.process is not None
    assert laggard.process.delivered == len(cluster.invariants.chosen)
    assert laggard.process.app.digest == (cluster.leader.process and cluster.leader.process.app.digest)


def test_a_snapshot_ahead_of_the_log_is_installed_at_the_start() -> None:
    cluster = Cluster(EAGER)
    laggard = cluster.follower
    laggard.crash()
    cluster.write(cluster.leader, 60)
    laggard.disk.image.snapshots = [cluster.leader.disk.image.snapshots[-1]]
    laggard.boot()
    assert cluster.invariants.installs == 1
    cluster.ticks(20)
    assert laggard.disk.image.base == laggard.disk.image.snapshots[0].base


@pytest.mark.parametrize(("fault", "rate"), [(Fault.CHUNK_DAMAGED, 0.8), (Fault.TRANSFER_CUT, 0.3)])
def test_damaged_chunks_and_broken_transfers_are_survived(fault: Fault, rate: float) -> None:
    cluster = Cluster(swarm(**{fault.name: rate})._replace(eager_trim=True))
    laggard = cluster.follower
    laggard.crash()
    cluster.write(cluster.leader, 60)
    laggard.boot()
    cluster.ticks(600)
    assert laggard.process is not None
    assert laggard.process.delivered == len(cluster.invariants.chosen)
    assert cluster._faults.hits[fault] > 0


# --- one transfer ----------------------------------------------------------------------------------------------------


def chunk(number: int, data: bytes, count: int = 3) -> Chunk:
    return Chunk(7, number, count, data, 0)


def test_the_first_chunk_tells_how_many_there_are_and_few_are_asked_for_at_once() -> None:
    transfer = Transfer(7)
    assert transfer.due() == [0]
    assert transfer.due() == []
    transfer.take(chunk(0, b"a"))
    assert transfer.due() == [1, 2]
    assert len(transfer.asked) == ASKED_MAX
    transfer.take(chunk(2, b"c"))
    assert transfer.complete() is None
    transfer.take(chunk(1, b"b"))
    assert transfer.complete() == b"abc"


def test_a_chunk_that_does_not_come_is_asked_for_again() -> None:
    transfer = Transfer(7)
    asked = [transfer.due() for _ in range(ASK_TICKS + 3)]
    assert asked.count([0]) == 2

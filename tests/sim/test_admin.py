"""The operator: one task at a time, until it is certain what became of it."""

from __future__ import annotations

from tests.sim.worlds import PEACE, Cluster, swarm

from quorate.sim.admin import MEMBERS_MAX
from quorate.sim.swarm import Fault
from quorate.types import ReplicaId


def working(replicas: int = 3, **rates: float) -> Cluster:
    cluster = Cluster(swarm(**rates)._replace(replicas=replicas))
    cluster.admin.begin()
    return cluster


def test_replicas_come_up_to_a_bound_and_go_down_to_the_last() -> None:
    cluster = working(replicas=1)
    for _ in range(MEMBERS_MAX + 1):
        cluster.admin.add()
        cluster.ticks(60)
    assert len(cluster.invariants.membership.voters) == MEMBERS_MAX
    for _ in range(MEMBERS_MAX + 1):
        cluster.admin.remove()
        cluster.ticks(120)
    assert len(cluster.invariants.membership.voters) == 1
    assert cluster.write(cluster.leader)


def test_a_request_that_is_lost_is_repeated() -> None:
    cluster = working(LOSS=0.2)
    cluster.admin.remove()
    cluster.ticks(200)
    assert cluster.admin.idle()
    assert len(cluster.invariants.membership.voters) == 2


def test_one_task_is_done_at_a_time() -> None:
    cluster = working()
    cluster.admin.add()
    cluster.admin.add()
    cluster.admin.remove()
    assert not cluster.admin.idle()
    cluster.ticks(100)
    assert cluster.invariants.membership.voters == (1, 2, 3, 4)


def test_what_was_lost_is_replaced_by_a_replica_with_a_new_id() -> None:
    cluster = working()
    cluster.write(cluster.leader, 20)
    cluster[3].retire("for a test")
    cluster.ticks(200)
    assert cluster.invariants.membership.voters == (1, 2, 4)
    assert cluster.invariants.membership.last_id == 4


def test_no_more_is_lost_than_a_quorum_can_bear() -> None:
    cluster = working()
    assert cluster.admin.may_lose(ReplicaId(1))
    cluster[2].condemned = True
    assert not cluster.admin.may_lose(ReplicaId(1))
    assert cluster.admin.may_lose(ReplicaId(2))
    cluster.admin.remove()
    assert not cluster.admin.may_lose(ReplicaId(2))


def test_what_must_be_refused_is_refused() -> None:
    cluster = Cluster(PEACE)
    for _ in range(10):
        cluster.admin.ask_unlawful()
        cluster.ticks(3)
    assert cluster.invariants.membership.version == 0
    assert cluster._faults.hits[Fault.UNLAWFUL] > 3


def test_once_healed_nothing_new_is_begun() -> None:
    cluster = working()
    cluster.admin.end()
    cluster[3].retire("for a test")
    cluster.ticks(100)
    assert cluster.invariants.membership.version == 0

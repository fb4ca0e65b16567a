"""What happens to disks, and that the cluster bears it."""

from __future__ import annotations

import pytest
from tests.sim.worlds import PEACE, Cluster, swarm

from quorate.sim.kits import KITS
from quorate.sim.swarm import Fault
from quorate.sim.world import World

ROT = (
    *(Fault.FLIPPED, Fault.MISDIRECTED, Fault.HELICAL, Fault.SNAPSHOT_DAMAGED),
    *(Fault.META_DAMAGE, Fault.WIPED, Fault.ROLLED_BACK),
)


@pytest.mark.parametrize("core", KITS)
@pytest.mark.parametrize("fault", ROT)
def test_each_damage_strikes_alone_and_is_survived(core: str, fault: Fault) -> None:
    circumstances = swarm(**{fault.name: 1 / 50})._replace(replicas=5, checkpoint_commands=100)
    if fault is Fault.SNAPSHOT_DAMAGED:
        circumstances = circumstances._replace(checkpoint_commands=10)
    report = World(circumstances, KITS[core]).run()
    assert report.failure == ""
    assert report.hits[fault] > 0


def test_nothing_is_damaged_that_only_the_victim_has() -> None:
    cluster = Cluster(PEACE._replace(replicas=1))
    cluster.write(cluster.leader, 20)
    for strike in cluster.rot.strikes.values():
        strike()
    assert cluster[1].intact


def test_a_disk_that_nobody_knows_is_not_exchanged() -> None:
    cluster = Cluster()
    for machine in cluster.machines.values():
        machine.disk.image.acquaintances.clear()
    cluster.rot.strikes[Fault.WIPED]()
    assert all(machine.intact for machine in cluster.machines.values())


def test_only_so_many_are_damaged_at_once_that_the_rest_is_a_quorum() -> None:
    cluster = Cluster(PEACE._replace(replicas=5, checkpoint_commands=100))
    cluster.write(cluster.leader, 20)
    for _ in range(10):
        cluster.rot.strikes[Fault.META_DAMAGE]()
    assert sum(machine.intact for machine in cluster.machines.values()) == 3

"""A damaged log is made whole by peers before its replica takes part again."""

from __future__ import annotations

from tests.sim.worlds import PEACE, Cluster

from quorate.sim.machine import Machine

UNTRIMMED = PEACE._replace(checkpoint_commands=100)


def damage(machine: Machine, *slots: int) -> None:
    machine.crash()
    for slot in slots:
        del machine.disk.image.votes[slot]
        machine.disk.image.damaged.add(slot)


def test_what_is_damaged_comes_from_peers() -> None:
    cluster = Cluster(UNTRIMMED)
    cluster.write(cluster.leader, 12)
    victim = cluster.follower
    damage(victim, 3, 9)
    victim.boot()
    assert victim.process is None
    assert victim.up
    cluster.ticks(20)
    assert victim.process is not None
    assert victim.intact
    assert victim.disk.image.votes[3].batch == cluster.invariants.chosen[3]


def test_each_helps_the_others_with_what_is_whole() -> None:
    cluster = Cluster(UNTRIMMED)
    cluster.write(cluster.leader, 12)
    cluster.ticks(10)
    for slot, machine in zip((3, 5, 7), cluster.machines.values(), strict=True):
        damage(machine, slot)
    for machine in cluster.machines.values():
        machine.boot()
    cluster.ticks(60)
    assert all(machine.intact and machine.process is not None for machine in cluster.machines.values())


def test_what_no_peer_has_any_more_is_the_end_of_this_replica() -> None:
    cluster = Cluster(PEACE._replace(eager_trim=True))
    cluster.write(cluster.leader, 12)
    victim = cluster.follower
    victim.crash()
    cluster.write(cluster.leader, 60)
    damage(victim, 8)
    victim.boot()
    cluster.ticks(40)
    assert victim.gone == "no peer has what is damaged"

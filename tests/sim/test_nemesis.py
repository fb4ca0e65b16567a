"""What the nemesis does to a cluster, fault by fault, and that it stops."""

from __future__ import annotations

import pytest
from tests.sim.worlds import PEACE, Cluster, swarm

from quorate.sim.kits import PAXOS
from quorate.sim.swarm import RATES, Fault
from quorate.sim.world import World
from quorate.storage.room import Room

FIVE = PEACE._replace(replicas=5)
ALONE = (
    *(Fault.PARTITION, Fault.ONE_WAY, Fault.BRIDGE, Fault.FLAP, Fault.SLOW_LINK),
    *(Fault.CRASH, Fault.CRASH_AT_COMMIT, Fault.POWER_CUT, Fault.PAUSE, Fault.STALL),
    *(Fault.DRIFT, Fault.CLOCK_STEP, Fault.DISK_FULL, Fault.COMMIT_ERROR, Fault.HAND_OVER),
    *(Fault.ADDED, Fault.REMOVED, Fault.UNLAWFUL),
)


def world(**rates: float) -> World:
    return World(swarm(**rates)._replace(replicas=5), PAXOS)


@pytest.mark.parametrize("fault", ALONE)
def test_each_lasting_fault_strikes_alone_and_is_survived(fault: Fault) -> None:
    report = world(**{fault.name: 2 * RATES[fault][1]}).run()
    assert not report.failure
    assert report.hits[fault] > 0
    assert set(report.hits) <= {fault, Fault.LOST_WRITE}


def test_crashes_lose_unsynced_writes() -> None:
    assert world(CRASH_AT_COMMIT=0.2).run().hits[Fault.LOST_WRITE] > 0


@pytest.mark.parametrize("replicas", [3, 5])
def test_a_bridge_leaves_one_replica_that_reaches_all(replicas: int) -> None:
    members = set(range(1, replicas + 1))
    nemesis = Cluster(PEACE._replace(replicas=replicas)).nemesis
    for _ in range(20):
        links = nemesis.bridge()
        bridges = members - {end for link in links for end in link}
        assert len(bridges) == 1
        assert all((b, a) in links for a, b in links)


def test_two_sides_are_cut_both_ways_and_neither_is_empty() -> None:
    nemesis = Cluster(FIVE).nemesis
    for _ in range(20):
        links = nemesis.two_sides()
        assert links
        assert all((b, a) in links for a, b in links)
        near = {a for a, _ in links if (a, 1) not in links and a != 1} | {1}
        assert len(links) == 2 * len(near) * (5 - len(near))


def test_one_way_cuts_silence_or_deafen_one_replica() -> None:
    nemesis = Cluster(FIVE).nemesis
    for _ in range(20):
        links = nemesis.one_way()
        assert not any((b, a) in links for a, b in links)
        assert min(len({a for a, _ in links}), len({b for _, b in links})) == 1


def test_one_replica_alone_can_be_parted_from_nobody() -> None:
    nemesis = Cluster(PEACE._replace(replicas=1)).nemesis
    assert nemesis.two_sides() == nemesis.one_way() == nemesis.bridge() == frozenset()


def test_the_end_heals_everything_for_good() -> None:
    troubled = world(**{fault.name: RATES[fault][1] for fault in ALONE})
    report = troubled.run()
    assert not report.failure
    hits = dict(report.hits)
    troubled.clock.run_until(troubled.clock.now + 1_000_000)
    assert report.hits == hits
    assert all(machine.disk.room is Room.OK and not machine.paused for machine in troubled.machines.values())

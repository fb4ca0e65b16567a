"""What the nemesis does to a cluster, fault by fault, and that it stops."""

from __future__ import annotations

import pytest

from quorate.consensus.paxos.messages import PaxosMessage
from quorate.consensus.paxos.node import PaxosCore
from quorate.sim.swarm import RATES, Fault, draw
from quorate.sim.world import World
from quorate.wire import MessageCodec

PEACE = draw(1)._replace(replicas=5, clients=4, safety_ticks=400, rates={})
LASTING = (
    Fault.PARTITION,
    Fault.ONE_WAY,
    Fault.BRIDGE,
    Fault.FLAP,
    Fault.CRASH,
    Fault.CRASH_AT_COMMIT,
    Fault.POWER_CUT,
    Fault.PAUSE,
    Fault.DRIFT,
)


def world(**rates: float) -> World:
    swarm = PEACE._replace(rates={Fault[name]: rate for name, rate in rates.items()})
    return World(swarm, PaxosCore, MessageCodec(PaxosMessage))


def test_in_peace_one_leader_serves_for_ever() -> None:
    report = world().run()
    assert not report.failure
    assert report.elections == 1
    assert report.hits == {}


@pytest.mark.parametrize("fault", LASTING)
def test_each_lasting_fault_strikes_alone_and_is_survived(fault: Fault) -> None:
    report = world(**{fault.name: 2 * RATES[fault][1]}).run()
    assert not report.failure
    assert report.hits[fault] > 0
    assert set(report.hits) <= {fault, Fault.LOST_WRITE}


def test_crashes_lose_unsynced_writes() -> None:
    assert world(CRASH_AT_COMMIT=0.2).run().hits[Fault.LOST_WRITE] > 0


@pytest.mark.parametrize("replicas", [3, 5])
def test_a_bridge_leaves_one_replica_that_reaches_all(replicas: int) -> None:
    swarm = PEACE._replace(replicas=replicas)
    members = set(range(1, replicas + 1))
    nemesis = World(swarm, PaxosCore, MessageCodec(PaxosMessage)).nemesis
    for _ in range(20):
        links = nemesis.bridge()
        bridges = members - {end for link in links for end in link}
        assert len(bridges) == 1
        assert all((b, a) in links for a, b in links)


def test_two_sides_are_cut_both_ways_and_neither_is_empty() -> None:
    nemesis = world().nemesis
    for _ in range(20):
        links = nemesis.two_sides()
        assert links
        assert all((b, a) in links for a, b in links)
        near = {a for a, _ in links if (a, 1) not in links and a != 1} | {1}
        assert len(links) == 2 * len(near) * (5 - len(near))


def test_one_way_cuts_silence_or_deafen_one_replica() -> None:
    nemesis = world().nemesis
    for _ in range(20):
        links = nemesis.one_way()
        assert not any((b, a) in links for a, b in links)
        assert min(len({a for a, _ in links}), len({b for _, b in links})) == 1


def test_the_end_heals_everything_for_good() -> None:
    strikes = {fault.name: RATES[fault][1] for fault in LASTING}
    troubled = world(**strikes)
    report = troubled.run()
    assert not report.failure
    hits = dict(report.hits)
    troubled.clock.run_until(troubled.clock.now + 1_000_000)
    assert report.hits == hits

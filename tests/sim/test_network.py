"""Each fault of the network on its own."""

from __future__ import annotations

import random

from quorate.sim.clock import TICK, Clock
from quorate.sim.network import Cut, Network
from quorate.sim.swarm import Fault, Faults
from quorate.types import ReplicaId
from quorate.wire import Channel

R1, R2 = ReplicaId(1), ReplicaId(2)
LATENCY = (10, 200)


class Wire:
    """A network between two replicas that carries numbered messages, and what arrived of them."""

    def __init__(self, **rates: float) -> None:
        self.clock = Clock()
        self.faults = Faults(1, {Fault[name]: rate for name, rate in rates.items()})
        self.network = Network(self.clock, random.Random(2), self.faults, LATENCY)
        self.arrived: list[int] = []
        for replica in (R1, R2):
            self.network.attach(replica, lambda _sender, _channel, data: self.arrived.append(data[0]))

    def send(self, count: int, sender: ReplicaId = R1, receiver: ReplicaId = R2) -> list[int]:
        """Send `count` messages 20 units apart and return those that arrived, in order."""
        self.arrived.clear()
        for number in range(count):
            self.network.send(sender, receiver, Channel.ORDER, bytes([number]))
            self.clock.run_until(self.clock.now + 20)
        self.clock.run_until(self.clock.now + 700 * TICK)
        return list(self.arrived)


def test_without_faults_every_message_arrives_once_and_in_order() -> None:
    wire = Wire()
    assert wire.send(100) == list(range(100))
    assert wire.network.sent == 100


def test_loss_drops_and_counts() -> None:
    wire = Wire(LOSS=0.3)
    arrived = wire.send(100)
    assert len(arrived) == 100 - wire.faults.hits[Fault.LOSS]
    assert 0 < wire.faults.hits[Fault.LOSS] < 100


def test_delay_holds_a_link_but_keeps_its_order() -> None:
    wire = Wire(DELAY=0.1)
    assert wire.send(100) == list(range(100))
    assert wire.faults.hits[Fault.DELAY] > 0


def test_duplicates_come_on_top() -> None:
    wire = Wire(DUPLICATE=0.3)
    arrived = wire.send(100)
    assert sorted(set(arrived)) == list(range(100))
    assert len(arrived) == 100 + wire.faults.hits[Fault.DUPLICATE] > 100


def test_reordering_loses_nothing() -> None:
    wire = Wire(REORDER=0.3)
    arrived = wire.send(100)
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(100))
    assert wire.faults.hits[Fault.REORDER] > 0


def test_a_cut_stops_its_links_in_its_direction_only_and_takes_the_blame() -> None:
    wire = Wire(ONE_WAY=0.0)
    cut = Cut(Fault.ONE_WAY, frozenset({(R1, R2)}))
    wire.network.cut(cut)
    assert wire.send(3) == []
    assert wire.send(3, sender=R2, receiver=R1) == [0, 1, 2]
    assert wire.faults.hits[Fault.ONE_WAY] == 3
    wire.network.mend(cut)
    wire.network.mend(cut)
    assert wire.send(3) == [0, 1, 2]


def test_overlapping_cuts_end_one_by_one_and_healing_ends_all() -> None:
    wire = Wire(PARTITION=0.0)
    cut = Cut(Fault.PARTITION, frozenset({(R1, R2)}))
    wire.network.cut(cut)
    wire.network.cut(cut)
    wire.network.mend(cut)
    assert wire.send(1) == []
    wire.network.heal()
    assert wire.send(1) == [0]


def test_stale_messages_come_once_more_long_after() -> None:
    wire = Wire(STALE=0.3)
    arrived = wire.send(100)
    assert arrived[:100] == list(range(100))
    assert len(arrived) == 100 + wire.faults.hits[Fault.STALE] > 100


def test_a_slow_link_is_slow_one_way_and_until_it_is_mended() -> None:
    wire = Wire(SLOW_LINK=0.0)
    wire.network.slow((R1, R2), 5 * TICK)
    wire.network.send(R1, R2, Channel.ORDER, b"1")
    wire.network.send(R2, R1, Channel.ORDER, b"2")
    wire.clock.run_until(TICK)
    assert wire.arrived == [ord("2")]
    wire.clock.run_until(6 * TICK)
    assert wire.arrived == [ord("2"), ord("1")]
    assert wire.faults.hits[Fault.SLOW_LINK] == 1
    wire.network.slow((R1, R2), 0)
    assert wire.send(3) == [0, 1, 2]
    assert wire.faults.hits[Fault.SLOW_LINK] == 1

"""A network between replicas: it loses, holds back, doubles and reorders messages, and falls apart.

It carries bytes, as the real one does, and never alters them: a damaged frame fails its checksum and is lost. Unless a
fault strikes, each link keeps its order, as TCP does. Messages to a dead process are lost; those still under way when
it comes back reach its next life, which is worse than TCP would do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from quorate.sim.clock import TICK, Clock
from quorate.sim.swarm import Fault, Faults
from quorate.types import ReplicaId
from quorate.wire import Channel

DELAY_TICKS_MAX = 10
REORDER_TICKS_MAX = 4
DUPLICATE_TICKS_MAX = 100
STALE_TICKS_MAX = 600
SLOW_LINK_TICKS_MAX = 20

Link = tuple[ReplicaId, ReplicaId]
"""Sender and receiver."""

Receiver = Callable[[ReplicaId, Channel, bytes], None]


class Cut(NamedTuple):
    """Links that carry nothing as long as the cut stands, and the fault that is to blame."""

    fault: Fault
    links: frozenset[Link]


class Network:
    """Carries bytes from replica to replica, or does not."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, latency: tuple[int, int]) -> None:
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._latency = latency
        self._cuts: list[Cut] = []
        self._slow: dict[Link, int] = {}
        """How much longer a link takes."""
        self._arrival_last: dict[Link, int] = {}
        self._receivers: dict[ReplicaId, Receiver] = {}
        self.sent = 0

    def attach(self, replica: ReplicaId, receive: Receiver) -> None:
        """Let `receive(sender, channel, data)` take what is sent to `replica`."""
        self._receivers[replica] = receive

    def send(self, sender: ReplicaId, receiver: ReplicaId, channel: Channel, data: bytes) -> None:
        """Carry `data`, if the faults let it pass."""
        self.sent += 1
        link = (sender, receiver)
        for cut in self._cuts:
            if link in cut.links:
                self._faults.hit(cut.fault)
                return
        if self._faults.strikes(Fault.LOSS):
            return
        arrive = partial(self._receivers[receiver], sender, channel, data)
        self._clock.after(self._delay(link), arrive)
        if self._faults.strikes(Fault.DUPLICATE):
            self._clock.after(self._rng.randint(1, DUPLICATE_TICKS_MAX * TICK), arrive)
        if self._faults.strikes(Fault.STALE):
            self._clock.after(self._rng.randint(DUPLICATE_TICKS_MAX * TICK, STALE_TICKS_MAX * TICK), arrive)

    def _delay(self, link: Link) -> int:
        now = self._clock.now
        if self._faults.strikes(Fault.REORDER):
            return self._rng.randint(1, REORDER_TICKS_MAX * TICK)
        arrival = now + self._rng.randint(*self._latency)
        if self._faults.strikes(Fault.DELAY):
            arrival += self._rng.randint(TICK // 2, DELAY_TICKS_MAX * TICK)
        if link in self._slow:
            self._faults.hit(Fault.SLOW_LINK)
            arrival += self._slow[link]
        arrival = max(arrival, self._arrival_last.get(link, 0) + 1)
        self._arrival_last[link] = arrival
        return arrival - now

    def cut(self, cut: Cut) -> None:
        """Let a partition begin."""
        self._cuts.append(cut)

    def mend(self, cut: Cut) -> None:
        """Let it end; mending twice does nothing."""
        if cut in self._cuts:
            self._cuts.remove(cut)

    def slow(self, link: Link, more: int) -> None:
        """Let a link take `more` time for each message, or as before if that is 0."""
        if more:
            self._slow[link] = more
        else:
            self._slow.pop(link, None)

    def heal(self) -> None:
        """End every partition, and let every link be as fast as it was."""
        self._cuts.clear()
        self._slow.clear()

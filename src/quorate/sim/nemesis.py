"""The nemesis: kills, pauses and parts replicas at times of its own, and leaders by preference.

What strikes single messages and commits is thrown where they pass (`Faults.strikes`); here is what lasts for a while.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import permutations

from quorate.sim.clock import TICK, Clock
from quorate.sim.machine import Machine
from quorate.sim.network import SLOW_LINK_TICKS_MAX, Cut, Link, Network
from quorate.sim.swarm import Fault, Faults
from quorate.storage.room import Room
from quorate.types import ReplicaId

DOWN_TICKS_MAX = 100
PAUSE_TICKS_MAX = 100
STALL_TICKS_MAX = 12
FULL_TICKS_MAX = 80
SLOW_LINK_TICKS = 120
STEP_MS_MAX = 3_600_000
PARTITION_TICKS_MAX = 120
FLAP_TICKS_MAX = 15
FLAPS = 10
"""How often a flapping partition comes and goes before it is over."""

LEADER_SHARE = 0.5
"""How often the leader is chosen to suffer rather than anyone."""


class Nemesis:
    """Strikes until told to stop, then puts everything right."""

    def __init__(
        self,
        machines: dict[ReplicaId, Machine],
        network: Network,
        clock: Clock,
        rng: random.Random,
        faults: Faults,
        more: dict[Fault, Callable[[], None]],
    ) -> None:
        self._machines = machines
        self._network = network
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._strikes: dict[Fault, Callable[[], None]] = more | {
            Fault.CRASH: self._crash_one,
            Fault.POWER_CUT: self._cut_power,
            Fault.PAUSE: lambda: self._pause_one(Fault.PAUSE, STALL_TICKS_MAX, PAUSE_TICKS_MAX),
            Fault.STALL: lambda: self._pause_one(Fault.STALL, 1, STALL_TICKS_MAX),
            Fault.CLOCK_STEP: self._step_clock,
            Fault.DISK_FULL: self._fill_disk,
            Fault.HAND_OVER: self._hand_over,
            Fault.SLOW_LINK: self._slow_link,
            Fault.PARTITION: lambda: self._part(Fault.PARTITION, self.two_sides()),
            Fault.ONE_WAY: lambda: self._part(Fault.ONE_WAY, self.one_way()),
            Fault.BRIDGE: lambda: self._part(Fault.BRIDGE, self.bridge()),
            Fault.FLAP: lambda: self._flap(Cut(Fault.FLAP, self.two_sides()), FLAPS),
        }

    def begin(self) -> None:
        """Draw the time of every fault's first strike."""
        for fault in self._strikes:
            self._schedule(fault)

    def watch(self, machine: Machine) -> None:
        """Bend the clock of a new machine, and strike at its commits and transfers."""
        machine.disk.on_commit = partial(self._maybe_crash_at_commit, machine)
        machine.disk.on_error = lambda: self._take_down(machine, self._rng.randint(1, DOWN_TICKS_MAX * TICK))
        machine.on_transfer = partial(self._maybe_cut_transfer, machine)
        if drift := self._faults.rate(Fault.DRIFT):
            self._faults.hit(Fault.DRIFT)
            machine.tick_length = round(TICK * self._rng.uniform(1 - drift, 1 + drift))

    def end(self) -> None:
        """Heal the network, the clocks, the paused, the full and the dead; the lost stay lost."""
        self._faults.heal()
        self._network.heal()
        for machine in self._machines.values():
            machine.tick_length = TICK
            machine.disturbs = False
            machine.disk.room = Room.OK
            self._resume(machine)
            self._restart(machine)

    def _schedule(self, fault: Fault) -> None:
        if rate := self._faults.rate(fault):
            pause = round(self._rng.expovariate(rate) * TICK)
            self._clock.after(pause, partial(self._strike, fault))

    def _strike(self, fault: Fault) -> None:
        if self._faults.rate(fault):
            self._strikes[fault]()
            self._schedule(fault)

    def _there(self) -> list[Machine]:
        return [machine for machine in self._machines.values() if not machine.gone]

    def _victim(self) -> Machine:
        there = self._there()
        leaders = [machine for machine in there if machine.leads()]
        if leaders and self._rng.random() < LEADER_SHARE:
            return self._rng.choice(leaders)
        return self._rng.choice(there)

    # --- processes ---------------------------------------------------------------------------------------------------

    def _crash_one(self) -> None:
        self._crash(Fault.CRASH, self._victim())

    def _cut_power(self) -> None:
        for machine in self._there():
            self._crash(Fault.POWER_CUT, machine)

    def _maybe_crash_at_commit(self, machine: Machine, duration: int) -> None:
        if self._faults.falls(Fault.CRASH_AT_COMMIT):
            moment = self._rng.randint(0, 2 * duration)
            self._clock.after(moment, lambda: self._crash(Fault.CRASH_AT_COMMIT, machine))

    def _maybe_cut_transfer(self, machine: Machine) -> None:
        if self._faults.falls(Fault.TRANSFER_CUT):
            self._clock.after(self._rng.randint(1, TICK), lambda: self._crash(Fault.TRANSFER_CUT, machine))

    def _crash(self, fault: Fault, machine: Machine) -> None:
        if machine.up and self._faults.rate(fault):
            self._faults.hit(fault)
            self._take_down(machine, self._rng.randint(1, DOWN_TICKS_MAX * TICK))

    def _take_down(self, machine: Machine, down: int) -> None:
        if machine.up:
            machine.crash()
            self._clock.after(down, partial(self._restart, machine))

    def _restart(self, machine: Machine) -> None:
        if not machine.up:
            machine.boot()

    def _pause_one(self, fault: Fault, least: int, most: int) -> None:
        machine = self._victim()
        if machine.process is not None and not machine.paused:
            self._faults.hit(fault)
            machine.pause()
            self._clock.after(self._rng.randint(least * TICK, most * TICK), partial(self._resume, machine))

    def _resume(self, machine: Machine) -> None:
        if machine.paused:
            machine.resume()

    def _hand_over(self) -> None:
        machine = self._victim()
        if machine.leads():
            self._faults.hit(Fault.HAND_OVER)
            machine.reach(lambda process: process.hand_over())

    # --- clocks and room ---------------------------------------------------------------------------------------------

    def _step_clock(self) -> None:
        self._faults.hit(Fault.CLOCK_STEP)
        self._victim().wall_offset_ms += self._rng.randint(-STEP_MS_MAX, STEP_MS_MAX)

    def _fill_disk(self) -> None:
        disk = self._victim().disk
        disk.room = self._rng.choice((Room.LOW, Room.FULL))
        self._clock.after(self._rng.randint(TICK, FULL_TICKS_MAX * TICK), lambda: setattr(disk, "room", Room.OK))

    # --- links -------------------------------------------------------------------------------------------------------

    def _slow_link(self) -> None:
        victim, *others = self._shuffled()
        if others:
            link = (victim, others[0]) if self._rng.random() < 0.5 else (others[0], victim)
            self._network.slow(link, self._rng.randint(TICK, SLOW_LINK_TICKS_MAX * TICK))
            self._clock.after(SLOW_LINK_TICKS * TICK, partial(self._network.slow, link, 0))

    def _part(self, fault: Fault, links: frozenset[Link]) -> None:
        cut = Cut(fault, links)
        self._network.cut(cut)
        self._clock.after(self._rng.randint(TICK, PARTITION_TICKS_MAX * TICK), partial(self._network.mend, cut))

    def _flap(self, cut: Cut, times: int) -> None:
        if not times or not self._faults.rate(Fault.FLAP):
            return
        self._network.cut(cut)
        down, up = (self._rng.randint(1, FLAP_TICKS_MAX * TICK) for _ in range(2))
        self._clock.after(down, partial(self._network.mend, cut))
        self._clock.after(down + up, partial(self._flap, cut, times - 1))

    def two_sides(self) -> frozenset[Link]:
        """Split into two sides of any sizes; the victim's side never holds all."""
        victim, *others = self._shuffled()
        near = {victim, *others[: self._rng.randrange(max(1, len(others)))]}
        return frozenset(link for link in permutations([victim, *others], 2) if (link[0] in near) != (link[1] in near))

    def one_way(self) -> frozenset[Link]:
        """Silence or deafen the victim, towards one replica or all."""
        victim, *others = self._shuffled()
        affected = others[: self._rng.randint(min(1, len(others)), len(others))]
        silent = self._rng.random() < 0.5
        return frozenset((victim, other) if silent else (other, victim) for other in affected)

    def bridge(self) -> frozenset[Link]:
        """Leave two sides only one replica that both can reach."""
        others = self._shuffled()[1:]
        near, far = others[: len(others) // 2], others[len(others) // 2 :]
        return frozenset(link for a in near for b in far for link in ((a, b), (b, a)))

    def _shuffled(self) -> list[ReplicaId]:
        """Return all replicas, a victim first, the others in any order."""
        victim = self._victim().me
        others = [machine.me for machine in self._there() if machine.me != victim]
        self._rng.shuffle(others)
        return [victim, *others]

"""One world: a cluster, its network and disks, its clients and its nemesis, all drawn from one seed.

A run has two phases, as TigerBeetle's simulator has. In the first, faults strike and only safety is asked for. Then the
world heals, and the cluster has ten election timeouts to answer every call, to order a new write and to serve a read at
every replica, and to bring all logs to the same end (FAULTS.md §2, I7).
"""

from __future__ import annotations

import itertools
import random
import traceback
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from quorate.limits import ELECTION_TICKS_MAX
from quorate.sim.clients import Client
from quorate.sim.clock import TICK, Clock, Transcript
from quorate.sim.disk import Disk
from quorate.sim.invariants import Invariants, Violation
from quorate.sim.machine import CoreFactory, Machine
from quorate.sim.nemesis import Nemesis
from quorate.sim.network import Network
from quorate.sim.process import Codec, Surroundings
from quorate.sim.swarm import Fault, Faults, Swarm
from quorate.types import ReplicaId

HEALED_TICKS_MAX = 10 * ELECTION_TICKS_MAX


class Report(NamedTuple):
    """What a run saw."""

    seed: int
    replicas: int
    ticks: int
    healing_ticks: int
    """How long the healed cluster took to come to rest."""
    commands: int
    """Commands chosen, each counted once."""
    slots: int
    reads: int
    elections: int
    """Ballots that had a leader."""
    messages: int
    hits: dict[Fault, int]
    """Hits of every fault that the seed brought."""
    digest: str
    """Hash over all that happened."""
    failure: str = ""
    """The invariant that broke and how, or empty."""
    last: tuple[str, ...] = ()
    """The last that happened before a failure."""


class World:
    """A cluster of the cores that `factory` builds, in the circumstances that `swarm` describes."""

    def __init__(self, swarm: Swarm, factory: CoreFactory, codec: Codec) -> None:
        self._swarm = swarm
        self._rng = random.Random(f"world {swarm.seed}")
        self.clock = Clock()
        self.transcript = Transcript(self.clock)
        self._faults = Faults(self._rng, swarm.rates)
        self._network = Network(self.clock, self._rng, self._faults, swarm.latency)
        self._numbers = itertools.count(1)
        members = tuple(ReplicaId(number) for number in range(1, swarm.replicas + 1))
        disks = {me: Disk(self.clock, self._rng, self._faults, swarm.commit) for me in members}
        self.invariants = Invariants({me: disk.image for me, disk in disks.items()})
        surroundings = Surroundings(codec, self._network, self.invariants, self.transcript, swarm.learn_slots)
        self.machines = [
            Machine(me, partial(factory, me, members), swarm.seed, self.clock, disk, surroundings)
            for me, disk in disks.items()
        ]
        self.nemesis = Nemesis(self.machines, self._network, self.clock, self._rng, self._faults)
        self._healed = False
        self._clients = [
            self._client(self._endless_calls(), self.machines, swarm.think_ticks) for _ in range(swarm.clients)
        ]

    def run(self) -> Report:
        """Run both phases. A broken invariant, or whatever a core raises, ends the run and is reported."""
        try:
            self._run_faults()
            self._run_healed()
            self.invariants.on_end()
        except Violation as violation:
            return self._report(str(violation), tuple(self.transcript.last()))
        except Exception as error:  # a core must not raise, so every exception is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"no exceptions: {error!r} in {where.name}, line {where.lineno} of {where.filename}"
            return self._report(what, tuple(self.transcript.last()))
        return self._report()

    def _run_faults(self) -> None:
        for machine in self.machines:
            machine.boot()
        self.nemesis.begin()
        for client in self._clients:
            client.call()
        self.clock.run_until(self._swarm.safety_ticks * TICK)

    def _run_healed(self) -> None:
        self._healed = True
        self.transcript.note(0, "heals")
        self.nemesis.end()
        probes = [self._client(iter((True, False)), [machine], think_ticks=0) for machine in self.machines]
        for probe in probes:
            probe.call()
        self._clients += probes
        deadline = self.clock.now + HEALED_TICKS_MAX * TICK
        while not self._at_rest():
            if self.clock.now >= deadline:
                raise Violation("the healed make progress", self._unrest())
            self.clock.run_until(self.clock.now + TICK)

    def _client(self, calls: Iterator[bool], machines: list[Machine], think_ticks: int) -> Client:
        circumstances = (self.clock, self._rng, self.invariants)
        return Client(calls, self._numbers, machines, think_ticks, self._swarm.patience_ticks, *circumstances)

    def _endless_calls(self) -> Iterator[bool]:
        while not self._healed:
            yield self._rng.random() >= self._swarm.read_share

    def _at_rest(self) -> bool:
        ends = {machine.process.delivered for machine in self.machines if machine.process}
        return (
            ends == {len(self.invariants.chosen)}
            and all(machine.disk.idle() for machine in self.machines)
            and not any(client.waits for client in self._clients)
        )

    def _unrest(self) -> str:
        waiting = sum(client.waits for client in self._clients)
        states = [
            (machine.process.delivered, machine.process.core.status()) for machine in self.machines if machine.process
        ]
        return f"{waiting} calls wait, {len(self.invariants.chosen)} slots are chosen, each delivered: {states}"

    def _report(self, failure: str = "", last: tuple[str, ...] = ()) -> Report:
        return Report(
            seed=self._swarm.seed,
            replicas=self._swarm.replicas,
            ticks=self.clock.now // TICK,
            healing_ticks=max(0, self.clock.now // TICK - self._swarm.safety_ticks),
            commands=len(self.invariants.first_slot),
            slots=len(self.invariants.chosen),
            reads=sum(client.reads_done for client in self._clients),
            elections=self.invariants.elections,
            messages=self._network.sent,
            hits=self._faults.hits,
            digest=self.transcript.digest(),
            failure=failure,
            last=last,
        )

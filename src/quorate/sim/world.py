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
from typing import NamedTuple

from quorate.limits import ELECTION_TICKS_MAX
from quorate.sim.admin import Admin
from quorate.sim.checker import Operation
from quorate.sim.clients import Client, judge_history
from quorate.sim.clients import Surroundings as Callers
from quorate.sim.clock import TICK, Clock, Transcript
from quorate.sim.disk import Disk
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Kit, Machine, Surroundings
from quorate.sim.nemesis import Nemesis
from quorate.sim.network import Network
from quorate.sim.rot import Rot
from quorate.sim.swarm import Fault, Faults, Swarm
from quorate.sim.transfer import StateMessage
from quorate.sim.violation import Violation
from quorate.types import ReplicaId, founding
from quorate.wire import MessageCodec

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
    retries: int
    """Calls tried again."""
    elections: int
    """Ballots that had a leader."""
    changes: int
    """Memberships chosen after the first."""
    snapshots: int
    """Taken, at whatever replica."""
    installs: int
    """Snapshots of a peer that took the place of a log."""
    histories: int
    """Histories searched for a linearization."""
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
    """A cluster built of the parts of `kit`, in the circumstances that `swarm` describes."""

    def __init__(self, swarm: Swarm, kit: Kit) -> None:
        self._swarm = swarm
        self._rng = random.Random(f"world {swarm.seed}")
        self.clock = Clock()
        self.transcript = Transcript(self.clock)
        self._faults = Faults(swarm.seed, swarm.rates)
        self._network = Network(self.clock, self._rng, self._faults, swarm.latency)
        self._founding = founding({ReplicaId(number): f"host{number}:7000" for number in range(1, swarm.replicas + 1)})
        self.invariants = Invariants(self._founding, kit.rules)
        self.machines: dict[ReplicaId, Machine] = {}
        self._surroundings = Surroundings(
            kit,
            MessageCodec(kit.messages),
            MessageCodec(StateMessage),
            *(self._network, self.invariants, self.transcript, self.clock, self._faults, swarm, self.machines),
        )
        circumstances = (self.clock, self._rng, self._faults, self.invariants)
        self.admin = Admin(self.machines, self._new_machine, *circumstances)
        self.rot = Rot(self.machines, self.admin, *circumstances)
        changes = {
            Fault.ADDED: self.admin.add,
            Fault.REMOVED: self.admin.remove,
            Fault.UNLAWFUL: self.admin.ask_unlawful,
        }
        self.nemesis = Nemesis(
            self.machines, self._network, self.clock, self._rng, self._faults, self.rot.strikes | changes
        )
        self._healed = False
        self._history: list[Operation] = []
        self._callers = Callers(
            self.clock, self._rng, self.invariants, itertools.count(1), self._history, swarm.patience_ticks
        )
        self._clients = [
            Client(name, self._endless_calls(), self.machines, swarm.think_ticks, self._callers)
            for name in range(swarm.clients)
        ]

    def _new_machine(self, me: ReplicaId) -> Machine:
        disk = Disk(self.clock, self._rng, self._faults, self._swarm.commit)
        known = self._founding if me in self._founding.voters else founding({})
        self.machines[me] = machine = self._surroundings.kit.machine(me, known, disk, self._surroundings)
        self.nemesis.watch(machine)
        return machine

    def run(self) -> Report:
        """Run both phases. A broken invariant, or whatever a core raises, ends the run and is reported."""
        try:
            self._run_faults()
            self._run_healed()
            self.invariants.on_end({machine.me: machine.disk.image for machine in self._members()})
            if self._swarm.recorded:
                judge_history(self._history)
        except Violation as violation:
            return self._report(str(violation), tuple(self.transcript.last()))
        except Exception as error:  # a core must not raise, so every exception is a finding
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"no exceptions: {error!r} in {where.name}, line {where.lineno} of {where.filename}"
            return self._report(what, tuple(self.transcript.last()))
        return self._report()

    def _run_faults(self) -> None:
        for me in self._founding.voters:
            self._new_machine(me).boot()
        self.nemesis.begin()
        self.rot.begin()
        self.admin.begin()
        for client in self._clients:
            client.call()
        self.clock.run_until(self._swarm.safety_ticks * TICK)

    def _run_healed(self) -> None:
        self._healed = True
        self.transcript.note(0, "heals")
        self.nemesis.end()
        self.admin.end()
        self._clients += [self._probe(machine) for machine in self._members()]
        deadline = self.clock.now + HEALED_TICKS_MAX * TICK
        while not self._at_rest():
            if self.clock.now >= deadline:
                raise Violation("the healed make progress", self._unrest())
            self.clock.run_until(self.clock.now + TICK)

    def _probe(self, machine: Machine) -> Client:
        """Let one more client write and read at one replica."""
        probe = Client(len(self._clients) + machine.me, iter((True, False)), {machine.me: machine}, 0, self._callers)
        probe.call()
        return probe

    def _endless_calls(self) -> Iterator[bool]:
        while not self._healed:
            yield self._rng.random() >= self._swarm.read_share

    def _members(self) -> list[Machine]:
        machines = (self.machines[member] for member in self.invariants.membership.members)
        return [machine for machine in machines if not machine.gone]

    def _at_rest(self) -> bool:
        end = len(self.invariants.chosen)
        return (
            self.admin.idle()
            and all(machine.process is not None and machine.process.delivered == end for machine in self._members())
            and all(machine.disk.idle() for machine in self._members())
            and not any(client.waits for client in self._clients)
        )

    def _unrest(self) -> str:
        waiting = sum(client.waits for client in self._clients)
        states = [
            (machine.me, machine.process and (machine.process.delivered, machine.process.core.status()))
            for machine in self._members()
        ]
        return f"{waiting} calls wait, {len(self.invariants.chosen)} slots are chosen, each delivered: {states}"

    def _report(self, failure: str = "", last: tuple[str, ...] = ()) -> Report:
        return Report(
            seed=self._swarm.seed,
            replicas=self._swarm.replicas,
            ticks=self.clock.now // TICK,
            healing_ticks=max(0, self.clock.now // TICK - self._swarm.safety_ticks),
            commands=len(self.invariants.executed),
            slots=len(self.invariants.chosen),
            reads=sum(client.reads_done for client in self._clients),
            retries=sum(client.retries for client in self._clients),
            elections=self.invariants.elections,
            changes=len(self.invariants.memberships) - 1,
            snapshots=self.invariants.snapshots,
            installs=self.invariants.installs,
            histories=int(self._swarm.recorded),
            messages=self._network.sent,
            hits=self._faults.hits,
            digest=self.transcript.digest(),
            failure=failure,
            last=last,
        )

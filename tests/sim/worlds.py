"""Worlds for tests: a cluster in peace, and what to do to it."""

from __future__ import annotations

from quorate.sim.clock import TICK
from quorate.sim.kits import PAXOS
from quorate.sim.machine import Kit, Machine
from quorate.sim.swarm import Fault, Swarm, draw
from quorate.sim.world import World
from quorate.types import ReplicaId

PEACE = draw(1)._replace(
    replicas=3,
    clients=4,
    safety_ticks=400,
    read_share=0.2,
    checkpoint_commands=10,
    chunks=4,
    eager_trim=False,
    recorded=True,
    rates={},
)


def swarm(**rates: float) -> Swarm:
    """Return peace, but for faults at these rates."""
    return PEACE._replace(rates={Fault[name]: rate for name, rate in rates.items()})


class Cluster(World):
    """A cluster that a test drives by hand; its clients are the test."""

    def __init__(self, circumstances: Swarm = PEACE, kit: Kit = PAXOS) -> None:
        super().__init__(circumstances, kit)
        self._written = 0
        for me in self._founding.voters:
            self._new_machine(me).boot()
        self.ticks(40)

    def __getitem__(self, me: int) -> Machine:
        return self.machines[ReplicaId(me)]

    @property
    def leader(self) -> Machine:
        """The one that leads."""
        (leader,) = (machine for machine in self.machines.values() if machine.leads())
        return leader

    @property
    def follower(self) -> Machine:
        """One that does not, and lives."""
        return next(machine for machine in self.machines.values() if machine.up and not machine.leads())

    def ticks(self, count: int) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now + count * TICK)

    def write(self, machine: Machine, count: int = 1) -> list[object]:
        """Submit commands, a tick apart; the list returned fills with the answers."""
        answers: list[object] = []
        for _ in range(count):
            self._written += 1
            self.submit(machine, self._written, answers)
            self.ticks(1)
        return answers

    def submit(self, machine: Machine, number: int, answers: list[object]) -> None:
        """Submit one command."""
        self.invariants.on_submitted(number)
        if not machine.reach(lambda process: process.submit(number, answers.append)):
            answers.append("unreachable")

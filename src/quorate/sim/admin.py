"""The operator: replicas come and go while the cluster works, and lost ones are replaced.

One task at a time, asked for again and again at any replica until it is certain what became of it: a request may be
lost, refused for now, or answered by nobody although the change was made. Now and then something is asked for that must
be refused. A voter is taken away only if those who are whole are still a quorum, for nothing could help a cluster that
has lost its majority.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from quorate.consensus.core import Change
from quorate.consensus.quorum import is_quorum
from quorate.sim.clock import TICK, Clock
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.swarm import Fault, Faults
from quorate.types import ReplicaId

MEMBERS_MAX = 7
POLL_TICKS = 8
DISTURB_TICKS_MAX = 300

LEADER_SHARE = 0.5
"""How often a request goes to whoever believes to lead."""


class Admin:
    """Changes the membership of a running cluster."""

    def __init__(
        self,
        machines: dict[ReplicaId, Machine],
        new_machine: Callable[[ReplicaId], Machine],
        clock: Clock,
        rng: random.Random,
        faults: Faults,
        invariants: Invariants,
    ) -> None:
        self._machines = machines
        self._new_machine = new_machine
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._judge = invariants
        self._task: Change | None = None
        self._requests = 0
        self._owed = 0
        """Replicas that were lost, removed, and have yet to be replaced."""
        self._healed = False

    def begin(self) -> None:
        """Work for as long as the world runs."""
        self._poll()

    def end(self) -> None:
        """Bring the task in hand to its end, and begin no other."""
        self._healed = True

    def idle(self) -> bool:
        """Say whether no change is under way."""
        return self._task is None

    def may_lose(self, replica: ReplicaId) -> bool:
        """Say whether the cluster lives on if this disk is lost."""
        voters = self._judge.membership.voters
        left = [voter for voter in voters if voter != replica and self._machines[voter].intact]
        return self.idle() and is_quorum(left, voters)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Let a replica come, if there is room.

        Not while a disk has lost something and nobody has noticed: who comes has met nobody, and would believe it.
        """
        membership = self._judge.membership
        noticed = all(machine.gone or not machine.condemned for machine in self._machines.values())
        if self.idle() and noticed and len(membership.members) < MEMBERS_MAX:
            joiner = ReplicaId(membership.last_id + 1)
            self._begin(Change(joiner, f"host{joiner}:7000"))
            self._new_machine(joiner).boot()

    def remove(self) -> None:
        """Let any voter go that can be spared."""
        voters = self._judge.membership.voters
        spare = [voter for voter in voters if self._spares(voter)]
        if self.idle() and spare:
            self._remove(self._rng.choice(spare))

    def _spares(self, leaver: ReplicaId) -> bool:
        rest = [voter for voter in self._judge.membership.voters if voter != leaver]
        return is_quorum([voter for voter in rest if self._machines[voter].intact], rest)

    def _remove(self, leaver: ReplicaId) -> None:
        machine = self._machines[leaver]
        if not machine.gone and self._faults.falls(Fault.DISTURBED):
            machine.disturbs = True
            self._clock.after(self._rng.randint(TICK, DISTURB_TICKS_MAX * TICK), partial(self._calm, machine))
        self._begin(Change(leaver, None))

    def _calm(self, machine: Machine) -> None:
        machine.disturbs = False

    def _begin(self, change: Change) -> None:
        self._task, self._requests = change, 0

    def _poll(self) -> None:
        self._clock.after(self._rng.randint(1, POLL_TICKS * TICK), self._poll)
        if self._task is None:
            self._replace_lost()
        elif self._done(self._task):
            self._faults.hit(Fault.REMOVED if self._task.address is None else Fault.ADDED)
            self._task = None
        else:
            self._ask(self._task)

    def _replace_lost(self) -> None:
        lost = [member for member in self._judge.membership.members if self._machines[member].gone]
        if self._healed:
            return
        if lost and self._spares(lost[0]):
            self._owed += 1
            self._remove(lost[0])
        elif self._owed:
            self.add()
            self._owed -= not self.idle()

    def _done(self, task: Change) -> bool:
        membership = self._judge.membership
        return task.replica in membership.voters if task.address else task.replica not in membership.members

    def _ask(self, task: Change) -> None:
        self._requests += 1
        self._judge.on_change_asked(task.replica, comes=task.address is not None)
        self._somebody().reach(lambda process: process.change(task, partial(self._answered, task)))

    def _answered(self, task: Change, refusal: str) -> None:
        if refusal and task == self._task and self._requests == 1 and not self._done(task):
            self._judge.on_change_refused(task.replica, comes=task.address is not None)

    def _somebody(self) -> Machine:
        there = [machine for machine in self._machines.values() if not machine.gone]
        leaders = [machine for machine in there if machine.leads()] if self._rng.random() < LEADER_SHARE else []
        return self._rng.choice(leaders or there)

    # --- what must be refused ----------------------------------------------------------------------------------------

    def ask_unlawful(self) -> None:
        """Ask for an id that was given before, or for the removal of nobody."""
        membership = self._judge.membership
        used = ReplicaId(self._rng.randint(1, membership.last_id))
        gone = sorted(set(range(1, membership.last_id + 1)) - set(membership.members))
        change = Change(used, "elsewhere:7000")
        if gone and self._rng.random() < 0.5:
            change = Change(ReplicaId(self._rng.choice(gone)), None)
        self._somebody().reach(lambda process: process.change(change, partial(self._refused, change)))

    def _refused(self, change: Change, refusal: str) -> None:
        self._judge.on_unlawful(change, refusal)
        self._faults.hit(Fault.UNLAWFUL)

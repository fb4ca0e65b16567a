"""What happens to disks while nobody looks: records decay, copies are put back, whole disks are lost.

As many are hit as the cluster can bear and no more, for beyond that there is nothing to show: a record is damaged only
while another member has it whole, and a disk is lost only while the others are a quorum that has lost nothing
(TigerBeetle's fault atlas). The victim's process is killed, since a store reads what it can't vouch for only when it is
opened.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from quorate.consensus.quorum import is_quorum
from quorate.sim.admin import Admin
from quorate.sim.clock import TICK, Clock
from quorate.sim.disk import SNAPSHOTS_KEPT, Image
from quorate.sim.invariants import Invariants
from quorate.sim.machine import Machine
from quorate.sim.swarm import Fault, Faults
from quorate.types import ReplicaId, Slot

DOWN_TICKS_MAX = 60
BACKUP_TICKS = 40
"""Backups are made so often."""

SLOTS_DAMAGED_MAX = 3


class Rot:
    """Damages disks on request."""

    def __init__(
        self,
        machines: dict[ReplicaId, Machine],
        admin: Admin,
        clock: Clock,
        rng: random.Random,
        faults: Faults,
        invariants: Invariants,
    ) -> None:
        self._machines = machines
        self._admin = admin
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._judge = invariants
        self._backups: dict[ReplicaId, Image] = {}
        self.strikes: dict[Fault, Callable[[], None]] = {
            Fault.FLIPPED: self._flip,
            Fault.MISDIRECTED: self._misdirect,
            Fault.HELICAL: self._damage_all,
            Fault.SNAPSHOT_DAMAGED: self._damage_snapshot,
            Fault.META_DAMAGE: self._damage_meta,
            Fault.WIPED: self._wipe,
            Fault.ROLLED_BACK: self._roll_back,
        }

    def begin(self) -> None:
        """Make the first backups."""
        if self._faults.rate(Fault.ROLLED_BACK):
            self._back_up()

    def _back_up(self) -> None:
        for me, machine in self._machines.items():
            self._backups[me] = machine.disk.image.copied()
        self._clock.after(BACKUP_TICKS * TICK, self._back_up)

    def _victim(self) -> Machine | None:
        """Return a member whose disk may be lost."""
        may = [member for member in self._judge.membership.members if self._admin.may_lose(member)]
        whole = [self._machines[member] for member in may if self._machines[member].intact]
        return self._rng.choice(whole) if whole else None

    def _others(self, machine: Machine) -> list[Machine]:
        members = self._judge.membership.members
        return [self._machines[member] for member in members if member != machine.me]

    def _take_down(self, machine: Machine) -> None:
        if machine.up:
            machine.crash()
            self._clock.after(self._rng.randint(1, DOWN_TICKS_MAX * TICK), partial(self._restart, machine))

    def _restart(self, machine: Machine) -> None:
        if not machine.up:
            machine.boot()

    # --- records -----------------------------------------------------------------------------------------------------

    def _flip(self) -> None:
        self._damage_records(Fault.FLIPPED, self._rng.randint(1, SLOTS_DAMAGED_MAX))

    def _misdirect(self) -> None:
        self._damage_records(Fault.MISDIRECTED, 2)

    def _damage_records(self, fault: Fault, count: int) -> None:
        machine = self._victim()
        if machine is None:
            return
        self._take_down(machine)
        others = [other.disk.image.votes for other in self._others(machine) if other.intact]
        chosen = [slot for slot in machine.disk.image.votes if slot <= machine.disk.image.chosen]
        repairable = [slot for slot in chosen if any(slot in votes for votes in others)]
        if len(repairable) < count:
            return
        for slot in self._rng.sample(repairable, count):
            self._damage(fault, machine, slot)

    def _damage(self, fault: Fault, machine: Machine, slot: Slot) -> None:
        self._faults.hit(fault)
        del machine.disk.image.votes[slot]
        machine.disk.image.damaged.add(slot)

    def _damage_all(self) -> None:
        """Damage another record at each member; each is whole at all others."""
        members = [self._machines[member] for member in self._judge.membership.members]
        if not self._admin.idle() or len(members) < 2 or not all(machine.intact for machine in members):
            return
        for machine in members:
            self._take_down(machine)
        # Behind all snapshots, so that nobody's log begins behind the slot before the others are repaired.
        first = max(max(machine.disk.image.base.slot, machine.disk.image.ends()) for machine in members) + 1
        last = min(machine.disk.image.chosen for machine in members)
        if last - first < len(members):
            return
        slots = self._rng.sample(range(first, last + 1), len(members))
        for machine, slot in zip(members, slots, strict=True):
            self._damage(Fault.HELICAL, machine, slot)

    # --- whole disks -------------------------------------------------------------------------------------------------

    def _damage_snapshot(self) -> None:
        """Damage the newest snapshot of somebody whose log reaches back to the one before."""
        machine = self._rng.choice([machine for machine in self._machines.values() if not machine.gone])
        self._take_down(machine)
        snapshots, base = machine.disk.image.snapshots, machine.disk.image.base
        if len(snapshots) == SNAPSHOTS_KEPT and snapshots[0].base.slot >= base.slot:
            self._faults.hit(Fault.SNAPSHOT_DAMAGED)
            snapshots.pop()

    def _damage_meta(self) -> None:
        machine = self._victim()
        if machine is not None:
            self._faults.hit(Fault.META_DAMAGE)
            machine.retire("its votes can't be vouched for")

    def _wipe(self) -> None:
        """Empty a disk."""
        machine = self._victim()
        if machine is not None:
            self._replace_disk(Fault.WIPED, machine, Image(store=-machine.me))

    def _roll_back(self) -> None:
        """Put an old copy back."""
        machine = self._victim()
        backup = self._backups.get(machine.me) if machine is not None else None
        # One whose snapshot is ahead of its log would write before it has met anyone.
        if machine is not None and backup is not None and backup.ends() <= backup.chosen:
            self._replace_disk(Fault.ROLLED_BACK, machine, backup.copied())

    def _replace_disk(self, fault: Fault, machine: Machine, image: Image) -> None:
        """Exchange a disk, where whoever could be asked for a quorum knows that there was more on it."""
        others = [other for other in self._machines.values() if other is not machine and not other.gone]
        founding = self._judge.memberships[0][1]
        image.open(0)  # as the next life will find it
        alone = is_quorum({machine.me}, (image.membership or founding).voters)
        if alone or any(other.disk.image.believes(machine.me, image) for other in others):
            return
        self._faults.hit(fault)
        self._take_down(machine)
        machine.condemned = True
        machine.disk.image = image

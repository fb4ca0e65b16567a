"""A disk: what was committed survives a crash, what was not is gone, and no transaction is ever half there.

As the real driver does it, one commit runs at a time and takes with it all that was written since the last. A crash
loses what waits; of the commit under way it loses all or, since the last page may have reached the platter, nothing.
Torn transactions are not among its faults: the store beneath replaces a root page, so that there are none.

What a platter bears can rot. The store finds a damaged record by its envelope when it is opened: in the chosen prefix
it has to be repaired, elsewhere it ends this member (`repair`, `machine`).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from quorate.consensus.core import Persist, Recovered
from quorate.sim.app import Snapshot
from quorate.sim.clock import TICK, Clock
from quorate.sim.swarm import Fault, Faults
from quorate.storage.room import Room
from quorate.types import NO_BALLOT, NO_BASE, Ballot, Base, Membership, ReplicaId, Slot, Vote

SLOW_TICKS_MAX = 40
SNAPSHOTS_KEPT = 2


class Acquaintance(NamedTuple):
    """The most that a peer's disk was known to be."""

    store: int
    life: int
    commits: int


@dataclass
class Image:
    """What is on the platter."""

    promised: Ballot = NO_BALLOT
    votes: dict[Slot, Vote] = field(default_factory=dict)
    """Every vote above the base; up to `chosen` they are the log."""
    chosen: Slot = 0
    base: Base = NO_BASE
    membership: Membership | None = None
    snapshots: list[Snapshot] = field(default_factory=list)
    """Oldest first."""
    damaged: set[Slot] = field(default_factory=set)
    """Slots whose votes can't be read."""
    store: int = 0
    """Names the store: another one after the disk was emptied."""
    life: int = 0
    """Names the opening of the store by the present process."""
    opened: int = 0
    """Commits when it was opened."""
    commits: int = 0
    acquaintances: dict[ReplicaId, Acquaintance] = field(default_factory=dict)

    def apply(self, persist: Persist) -> None:
        """Take over what one Persist says."""
        self.commits += 1
        self.promised = persist.promised
        self.chosen = persist.chosen
        if persist.last is not None:
            self.votes = {slot: vote for slot, vote in self.votes.items() if slot <= persist.last}
        self.votes.update(persist.votes)
        if persist.membership is not None:
            self.membership = persist.membership
        if persist.base is not None:
            self.base = persist.base
            self.votes = {slot: vote for slot, vote in self.votes.items() if slot > persist.base.slot}

    def recovered(self) -> Recovered:
        """Return what a core gets at start."""
        above = {slot: vote for slot, vote in self.votes.items() if slot > self.chosen}
        return Recovered(self.promised, above, self.chosen, self.ballot_at(self.chosen), self.base, self.membership)

    def ballot_at(self, slot: Slot) -> Ballot:
        """Return the ballot of the vote in a chosen slot, of which the base may be the last."""
        return self.base.ballot if slot == self.base.slot else self.votes[slot].ballot

    def believes(self, peer: ReplicaId, image: Image) -> bool:
        """Say whether a peer's disk is no less than this replica knew it to be.

        What counts is what was there when it was opened: an older copy may have been written to since.
        """
        known = self.acquaintances.get(peer)
        if known is None:
            return True
        return known.store == image.store and (known.life == image.life or known.commits <= image.opened)

    def open(self, life: int) -> None:
        """Let a new process use the store."""
        self.life, self.opened = life, self.commits

    def meet(self, peer: ReplicaId, image: Image) -> None:
        """Remember a peer's disk."""
        self.acquaintances[peer] = Acquaintance(image.store, image.life, image.commits)

    def ends(self) -> Slot:
        """Return the slot of the newest snapshot, 0 if there is none."""
        return self.snapshots[-1].base.slot if self.snapshots else 0

    def copied(self) -> Image:
        """Return a backup."""
        backup = copy.copy(self)
        backup.votes, backup.snapshots = dict(self.votes), list(self.snapshots)
        backup.damaged, backup.acquaintances = set(self.damaged), dict(self.acquaintances)
        return backup


class Disk:
    """Commits Persists in the order of their writing."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, commit: tuple[int, int]) -> None:
        self.image = Image()
        self.room = Room.OK
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._commit = commit
        self._waiting: list[Persist] = []
        self._under_way: list[Persist] = []
        self._saving: Snapshot | None = None
        self.on_apply: Callable[[Persist], None] = lambda _persist: None
        """Told of each Persist that becomes durable, before the image changes."""
        self.on_durable: Callable[[int], None] = lambda _seq: None
        """Told the last `seq` of a finished commit."""
        self.on_commit: Callable[[int], None] = lambda _duration: None
        """Told that a commit of that duration has begun."""
        self.on_error: Callable[[], None] = lambda: None
        """Told of a commit that failed."""

    def write(self, persist: Persist) -> None:
        """Queue for the next commit."""
        self._waiting.append(persist)
        if not self._under_way:
            self._begin()

    def idle(self) -> bool:
        """Say whether all that was written is durable."""
        return not self._under_way and self._saving is None

    def vote(self, slot: Slot) -> Vote | None:
        """Return the latest vote written in `slot`, durable or not."""
        for persist in reversed(self._under_way + self._waiting):
            for voted, vote in reversed(persist.votes):
                if voted == slot:
                    return vote
        return self.image.votes.get(slot)

    def crash(self) -> None:
        """Lose what is not durable."""
        kept, lost = self._under_way, self._waiting
        if self._rng.random() < 0.5:
            kept, lost = [], kept + lost
        self._under_way, self._waiting, self._saving = [], [], None
        for _ in lost:
            self._faults.hit(Fault.LOST_WRITE)
        self._apply(kept)

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def save(self, snapshot: Snapshot, on_saved: Callable[[], None]) -> None:
        """Write a snapshot beside the log; one at a time."""
        self._saving = snapshot
        duration = self._rng.randint(TICK // 10, 2 * TICK)
        self._clock.after(duration, lambda: self._saved(snapshot, on_saved))

    def saving(self) -> bool:
        """Say whether a snapshot is being written."""
        return self._saving is not None

    def _saved(self, snapshot: Snapshot, on_saved: Callable[[], None]) -> None:
        if self._saving is not snapshot:
            return  # a crash was faster, and left a temporary file behind
        self._saving = None
        kept = [older for older in self.image.snapshots if older.base.slot < snapshot.base.slot]
        self.image.snapshots = [*kept, snapshot][-SNAPSHOTS_KEPT:]
        on_saved()

    # --- commits -----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        transaction, self._waiting = self._waiting, []
        self._under_way = transaction
        duration = self._rng.randint(*self._commit)
        if self._faults.strikes(Fault.SLOW_DISK):
            duration += self._rng.randint(TICK, SLOW_TICKS_MAX * TICK)
        self._clock.after(duration, lambda: self._finish(transaction))
        self.on_commit(duration)

    def _finish(self, transaction: list[Persist]) -> None:
        if self._under_way is not transaction:
            return  # a crash was faster
        if self._faults.strikes(Fault.COMMIT_ERROR):
            self.on_error()
            return
        self._under_way = []
        self._apply(transaction)
        if self._waiting:
            self._begin()
        self.on_durable(transaction[-1].seq)

    def _apply(self, transaction: list[Persist]) -> None:
        for persist in transaction:
            self.on_apply(persist)
            self.image.apply(persist)

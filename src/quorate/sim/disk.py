"""A disk: what was committed survives a crash, what was not is gone, and no transaction is ever half there.

As the real driver does it, one commit runs at a time and takes with it all that was written since the last. A crash
loses what waits; of the commit under way it loses all or, since the last page may have reached the platter, nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from quorate.consensus.core import Persist, Recovered
from quorate.sim.clock import TICK, Clock
from quorate.sim.swarm import Fault, Faults
from quorate.types import NO_BALLOT, Ballot, Slot, Vote

SLOW_TICKS_MAX = 40


@dataclass
class Image:
    """What is on the platter."""

    promised: Ballot = NO_BALLOT
    votes: dict[Slot, Vote] = field(default_factory=dict)
    """Every vote ever committed; up to `chosen` they are the log."""
    chosen: Slot = 0

    def apply(self, persist: Persist) -> None:
        """Take over what one Persist says."""
        self.promised = persist.promised
        self.votes.update(persist.votes)
        self.chosen = persist.chosen

    def recovered(self) -> Recovered:
        """Return what a core gets at start."""
        above = {slot: vote for slot, vote in self.votes.items() if slot > self.chosen}
        return Recovered(self.promised, above, self.chosen)


class Disk:
    """Commits Persists in the order of their writing."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, commit: tuple[int, int]) -> None:
        self.image = Image()
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._commit = commit
        self._waiting: list[Persist] = []
        self._under_way: list[Persist] = []
        self.on_apply: Callable[[Image, Persist], None] = lambda _image, _persist: None
        """Told of each Persist with the image it is about to change."""
        self.on_durable: Callable[[int], None] = lambda _seq: None
        """Told the last `seq` of a finished commit."""
        self.on_commit: Callable[[int], None] = lambda _duration: None
        """Told that a commit of that duration has begun."""

    def write(self, persist: Persist) -> None:
        """Queue for the next commit."""
        self._waiting.append(persist)
        if not self._under_way:
            self._begin()

    def idle(self) -> bool:
        """Say whether all that was written is durable."""
        return not self._under_way

    def crash(self) -> None:
        """Lose what is not durable."""
        kept, lost = self._under_way, self._waiting
        if self._rng.random() < 0.5:
            kept, lost = [], kept + lost
        self._under_way, self._waiting = [], []
        for _ in lost:
            self._faults.hit(Fault.LOST_WRITE)
        self._apply(kept)

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
        self._under_way = []
        self._apply(transaction)
        if self._waiting:
            self._begin()
        self.on_durable(transaction[-1].seq)

    def _apply(self, transaction: list[Persist]) -> None:
        for persist in transaction:
            self.on_apply(self.image, persist)
            self.image.apply(persist)

"""Catching up: whom to ask for chosen values that this replica lacks, and when.

Rules: at most one request is outstanding; any peer that is ahead and still holds what comes next will do, and a random
one spreads the load and routes around a dead one. When no peer holds it any more, only a snapshot helps.
"""

from __future__ import annotations

import random

from quorate import limits
from quorate.types import ReplicaId, Slot

PATIENCE_TICKS = 2
"""How long a gap may stand before a peer is asked: the missing messages are most likely on their way."""


class CatchUp:
    """What peers have told of their prefixes, and the outstanding request."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.reached: dict[ReplicaId, Slot] = {}
        """How far each peer's prefix is known to reach."""
        self._bases: dict[ReplicaId, Slot] = {}
        """Where the log of each peer that refused a request begins."""
        self._gap_ticks = 0
        self._asked_ticks: int | None = None
        """Ticks since the outstanding request was sent; None when there is none."""

    def hear_of(self, peer: ReplicaId, chosen: Slot) -> None:
        """Note how far a peer's prefix reaches."""
        if chosen > self.reached.get(peer, 0):
            self.reached[peer] = chosen

    def refused(self, peer: ReplicaId, base: Slot) -> None:
        """Note that a peer's log begins after `base`."""
        self._bases[peer] = max(base, self._bases.get(peer, 0))
        self._asked_ticks = None

    def keep(self, members: tuple[ReplicaId, ...]) -> None:
        """Forget those who are no members any more."""
        for known in (self.reached, self._bases):
            for gone in known.keys() - set(members):
                del known[gone]

    @property
    def chosen_known(self) -> Slot:
        """The furthest slot that any peer is known to know as chosen."""
        return max(self.reached.values(), default=0)

    def tick(self, chosen: Slot) -> None:
        """Let a tick pass over the gap behind `chosen` and over the outstanding request."""
        self._gap_ticks = self._gap_ticks + 1 if self.chosen_known > chosen else 0
        if self._asked_ticks is not None:
            self._asked_ticks += 1

    def moved(self) -> None:
        """Note that the prefix has grown."""
        self._gap_ticks = 0

    def answered(self) -> None:
        """Note that the outstanding request was answered."""
        self._asked_ticks = None

    def peer_to_ask(self, chosen: Slot, *, at_once: bool) -> ReplicaId | None:
        """Return a peer to ask now, if a gap has stood long enough (or `at_once`) and no request is fresh."""
        far_behind = self.chosen_known > chosen + limits.WINDOW_SLOTS
        if not at_once and not far_behind and self._gap_ticks < PATIENCE_TICKS:
            return None
        if self._asked_ticks is not None and self._asked_ticks < limits.RESEND_TICKS:
            return None
        holding = sorted(peer for peer in self._ahead(chosen) if self._bases.get(peer, 0) <= chosen)
        if not holding:
            return None
        self._asked_ticks = 0
        return self._rng.choice(holding)

    def _ahead(self, chosen: Slot) -> list[ReplicaId]:
        return [peer for peer, reached in self.reached.items() if reached > chosen]

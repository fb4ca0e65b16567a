"""Election: when to believe in a leader, and when to try to become one.

Time is counted in ticks. A follower that hears nothing of a leader for a random time canvasses: it asks whether the
others would promise, which binds nobody, and spends a ballot only if a quorum would. So a replica that was cut off,
or is merely slow, can't depose a leader that the others hear (FAULTS.md §2 rows 6, 12, 13). Safety never depends on
anything in this file.
"""

from __future__ import annotations

import random

from quorate import limits
from quorate.types import ReplicaId


class Election:
    """Silence counted in ticks, the believed leader, and the supporters of an own canvass."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.leader: ReplicaId | None = None
        """Believed to lead; a leader believes in itself."""
        self.supporters: set[ReplicaId] | None = None
        """Who supports the canvass under way; None when there is none."""
        self._silence_ticks = 0
        # A fresh cluster need not wait a full timeout; in an old one the early canvass finds no support.
        self._timeout_ticks = rng.randint(1, limits.ELECTION_TICKS_MIN)

    def heard(self, leader: ReplicaId) -> None:
        """Note a sign of life of the leader with the highest ballot."""
        self.leader = leader
        self.supporters = None
        self._silence_ticks = 0

    def wait(self) -> None:
        """Believe in no leader, and give whoever tries next a fresh random time."""
        self.leader = None
        self.supporters = None
        self._silence_ticks = 0
        self._timeout_ticks = self._rng.randint(limits.ELECTION_TICKS_MIN, limits.ELECTION_TICKS_MAX)

    def tick(self) -> bool:
        """Let a tick pass; return whether the silence has lasted long enough to canvass."""
        self._silence_ticks += 1
        return self._silence_ticks >= self._timeout_ticks

    def hears_leader(self) -> bool:
        """Say whether a leader was heard of recently enough that a candidate gets no support."""
        return self.leader is not None and self._silence_ticks < limits.ELECTION_TICKS_MIN

    def canvass(self, me: ReplicaId) -> None:
        """Start asking for support; the own vote is the first."""
        self.wait()
        self.supporters = {me}

"""Read barriers: which slot a read must have seen applied, on the leader's word confirmed by a quorum.

The leader names a slot that no answered write lies behind; which one, each protocol knows. The word counts once a
quorum has said, after the read was asked for, that it has promised no higher ballot: then no later leader can have
chosen anything before. A follower's own query says so for itself, so among three replicas one round trip is enough. No
clock is involved (Ongaro, "Consensus: Bridging Theory and Practice", §6.4).
"""

from __future__ import annotations

from typing import NamedTuple

from quorate.consensus.quorum import is_quorum
from quorate.types import ReplicaId, Slot


class Barrier(NamedTuple):
    """A read barrier asked for by `reader` as `query`; `slot` is what the answer will say."""

    reader: ReplicaId
    query: int
    slot: Slot


class ReadConfirmation:
    """Rounds of confirmation at the leader: one under way, which serves every barrier that waited when it began."""

    def __init__(self, me: ReplicaId) -> None:
        self._me = me
        self.round = 0
        self._acks: set[ReplicaId] = set()
        self._confirming: list[Barrier] = []
        self._waiting: dict[tuple[ReplicaId, int], Barrier] = {}

    def ask(self, barrier: Barrier, voters: tuple[ReplicaId, ...]) -> bool:
        """Take a barrier; return True if its reader's word and our own are already a quorum."""
        if is_quorum({self._me, barrier.reader}, voters):
            return True
        self._waiting[barrier.reader, barrier.query] = barrier
        return False

    def begin_round(self) -> bool:
        """Start a round for the barriers that wait, unless one is under way; return whether it has to be announced."""
        if self._confirming or not self._waiting:
            return False
        self.round += 1
        self._acks = {self._me}
        self._confirming = list(self._waiting.values())
        self._waiting.clear()
        return True

    def on_ack(self, sender: ReplicaId, round_: int, voters: tuple[ReplicaId, ...]) -> list[Barrier]:
        """Count a word given in the present round; return the barriers it completes."""
        if round_ != self.round or not self._confirming:
            return []
        self._acks.add(sender)
        if not is_quorum(self._acks, voters):
            return []
        confirmed, self._confirming = self._confirming, []
        return confirmed

    def reset(self) -> None:
        """Forget everything: leadership was lost, and readers ask again."""
        self._confirming = []
        self._waiting.clear()

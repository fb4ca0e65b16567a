"""What a leader of either protocol holds: commands that wait for a slot, who acknowledged when, and what bars its way.

Nothing is proposed behind a change of membership until that is chosen, for who votes there is not certain before; nor
is a change proposed before everything ahead of it is chosen, for it is made from the membership it finds in force; nor
anything while leadership is being handed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from quorate import limits
from quorate.consensus.quorum import is_quorum
from quorate.types import Batch, Membership, ReplicaId, Slot

UNHEARD_TICKS = limits.ELECTION_TICKS_MAX + 1


class Asked(NamedTuple):
    """A change of membership that somebody waits for."""

    replica: ReplicaId
    query: int
    membership: Membership


class Office:
    """One leadership, and the commands of those who hope for it."""

    def __init__(self) -> None:
        self._pending: deque[Batch] = deque()
        self._pending_bytes = 0
        self._heartbeat_ticks = 0
        self._ack_ticks: dict[ReplicaId, int] = {}
        """Ticks since each peer last acknowledged."""
        self.changing: Slot = 0
        """The slot of a change of membership that is not chosen yet; 0 when there is none."""
        self.wanted: Membership | None = None
        """A change that waits until everything proposed before it is chosen."""
        self.asked: Asked | None = None
        self.successor: ReplicaId | None = None
        """To whom leadership is being handed over."""
        self._hand_over_ticks = 0
        self._age_ticks = 0

    def enter(self, peers: tuple[ReplicaId, ...], electors: Collection[ReplicaId]) -> None:
        """Begin a leadership; the electors have just been heard."""
        self._ack_ticks = dict.fromkeys(peers, UNHEARD_TICKS) | {peer: 0 for peer in electors if peer in peers}
        self._heartbeat_ticks = self._age_ticks = 0
        self.changing, self.wanted, self.asked, self.successor = 0, None, None, None

    def keep(self, peers: tuple[ReplicaId, ...]) -> None:
        """Watch these peers from now on; one that is new has yet to be heard."""
        self._ack_ticks = {peer: self._ack_ticks.get(peer, UNHEARD_TICKS) for peer in peers}

    # --- commands ----------------------------------------------------------------------------------------------------

    def enqueue(self, batch: Batch) -> bool:
        """Hold commands until the window has room; False when the bound is reached and they are declined."""
        if self._pending_bytes + len(batch.payload) > limits.PENDING_BYTES_MAX:
            return False
        self._pending.append(batch)
        self._pending_bytes += len(batch.payload)
        return True

    def next_batch(self, chosen: Slot, next_slot: Slot) -> Batch | None:
        """Merge whatever waits into the next value, if nothing bars it and few enough batches are in flight."""
        barred = self.changing > chosen or self.wanted is not None or self.successor is not None
        if barred or not self._pending or next_slot > chosen + limits.AHEAD_SLOTS:
            return None
        parts: list[bytes] = []
        size = length = 0
        while self._pending and (not parts or length + len(self._pending[0].payload) <= limits.BATCH_BYTES_MAX):
            batch = self._pending.popleft()
            size += batch.size
            length += len(batch.payload)
            parts.append(batch.payload)
        self._pending_bytes -= length
        return Batch(size, b"".join(parts))

    def clear(self) -> list[Batch]:
        """Give up the commands without a slot, and return them: whoever leads next may want them.

        Who asked for a change is answered no more: another one may be chosen in its slot.
        """
        self.wanted = self.asked = None
        left = list(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return left

    # --- the pulse ---------------------------------------------------------------------------------------------------

    def on_ack(self, peer: ReplicaId) -> None:
        """Note that a peer has acknowledged this leadership."""
        if peer in self._ack_ticks:
            self._ack_ticks[peer] = 0

    def heard(self) -> set[ReplicaId]:
        """Return the peers that have acknowledged within an election timeout."""
        return {peer for peer, ticks in self._ack_ticks.items() if ticks <= limits.ELECTION_TICKS_MAX}

    def knows_the_living(self) -> bool:
        """Say whether this leadership is old enough for all that live to have been heard."""
        return self._age_ticks > limits.ELECTION_TICKS_MAX

    def tick(self, me: ReplicaId, voters: tuple[ReplicaId, ...]) -> bool:
        """Let a tick pass; return whether a quorum still acknowledges (Ongaro, "Consensus", §6.2)."""
        for peer in self._ack_ticks:
            self._ack_ticks[peer] += 1
        self._heartbeat_ticks += 1
        self._age_ticks += 1
        if self.successor is not None:
            self._hand_over_ticks += 1
            if self._hand_over_ticks > limits.ELECTION_TICKS_MIN:
                self.successor = None
        return is_quorum(self.heard() | {me}, voters)

    def pulse_due(self) -> bool:
        """Say whether it is time to be heard of."""
        return self._heartbeat_ticks >= limits.HEARTBEAT_TICKS

    def pulsed(self) -> None:
        """Note that all peers have just been sent a sign of life."""
        self._heartbeat_ticks = 0

    # --- handing over ------------------------------------------------------------------------------------------------

    def hand_over(self, reached: dict[ReplicaId, Slot], voters: tuple[ReplicaId, ...]) -> None:
        """Choose as successor the voter whose prefix reaches furthest of those heard from, if there is one."""
        heard = sorted(self.heard().intersection(voters))
        if self.successor is None and heard:
            self.successor = max(heard, key=lambda peer: reached.get(peer, 0))
            self._hand_over_ticks = 0

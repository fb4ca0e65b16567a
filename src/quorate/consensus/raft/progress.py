"""Progress: what a leader knows of the other logs, and so what to send and what is on a quorum of disks.

Entries are sent ahead of the answers to those before. What stays unanswered for too long is sent again from where the
member is known to agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate import limits
from quorate.consensus.quorum import majority
from quorate.types import ReplicaId, Slot


class Progress:
    """One member's log, as far as the leader knows. Invariant: `match` <= `sent`."""

    __slots__ = ("match", "sent", "ticks")

    def __init__(self) -> None:
        self.match: Slot = 0
        """Durable there, and the same as ours, up to here."""
        self.sent: Slot = 0
        """Sent up to here; entries below the leader's chosen prefix never are."""
        self.ticks = 0
        """Ticks that an answer has been missing."""


class Replication:
    """The progress of all members, ourselves included, under one leadership."""

    def __init__(self) -> None:
        self._members: dict[ReplicaId, Progress] = {}

    def begin(self, members: Iterable[ReplicaId]) -> None:
        """Know nothing of anybody."""
        self._members = {member: Progress() for member in members}

    def keep(self, members: Iterable[ReplicaId]) -> None:
        """Watch these members from now on."""
        self._members = {member: self._members.get(member) or Progress() for member in members}

    def match(self, member: ReplicaId) -> Slot:
        """Return how far a member's log is known to agree with ours, durably."""
        return self._members[member].match if member in self._members else 0

    def on_match(self, member: ReplicaId, slot: Slot) -> None:
        """Take a member's word that it agrees up to `slot`; it is never taken back, though words may overtake."""
        progress = self._members.get(member)
        if progress is not None and slot > progress.match:
            progress.match, progress.ticks = slot, 0
            progress.sent = max(progress.sent, slot)

    def agreed(self, voters: tuple[ReplicaId, ...]) -> Slot:
        """Return the last slot up to which a majority of the voters agree with us."""
        return sorted(map(self.match, voters), reverse=True)[majority(len(voters)) - 1]

    # --- sending -----------------------------------------------------------------------------------------------------

    def by_sent(self, peers: Iterable[ReplicaId], chosen: Slot) -> dict[Slot, list[ReplicaId]]:
        """Group peers by the slot behind which they have to be sent what follows; at least the prefix's end."""
        groups: dict[Slot, list[ReplicaId]] = {}
        for peer in peers:
            groups.setdefault(max(self._members[peer].sent, chosen), []).append(peer)
        return groups

    def sent(self, peers: Iterable[ReplicaId], slot: Slot) -> None:
        """Note that entries up to `slot` were just sent."""
        for peer in peers:
            self._members[peer].sent = slot

    def rewind(self, peer: ReplicaId, slot: Slot) -> None:
        """Send a peer again what lies behind `slot`, or behind where it is known to agree."""
        progress = self._members[peer]
        progress.sent, progress.ticks = max(progress.match, slot), 0

    def hasten(self, peer: ReplicaId) -> None:
        """Let the next tick find a peer's answer overdue."""
        if peer in self._members:
            self._members[peer].ticks = limits.RESEND_TICKS

    def overdue(self, peers: Iterable[ReplicaId], chosen: Slot, last: Slot) -> list[ReplicaId]:
        """Let a tick pass over the peers that lack entries up to `last`; return those whose answer is overdue."""
        overdue = []
        for peer in peers:
            progress = self._members[peer]
            progress.ticks = progress.ticks + 1 if last > max(progress.match, chosen) else 0
            if progress.ticks >= limits.RESEND_TICKS:
                overdue.append(peer)
        return overdue

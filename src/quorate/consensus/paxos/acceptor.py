"""The acceptor: what this replica has promised and voted for.

It changes state only upwards: the promise never falls, a vote is replaced only by one of a higher or equal ballot,
and a slot leaves memory only once it belongs to the chosen prefix. What changed since the last `take_changes` has to
be durable before any message that vouches for it leaves; the node sees to that.
"""

from __future__ import annotations

from quorate import limits
from quorate.consensus.core import Recovered
from quorate.types import Ballot, Batch, Slot, Vote


class Acceptor:
    """Promise and votes of one replica, over every slot above its chosen prefix."""

    def __init__(self, recovered: Recovered) -> None:
        self.promised: Ballot = recovered.promised
        self.votes: dict[Slot, Vote] = dict(recovered.votes)
        """Invariant: every slot lies in (chosen, chosen + WINDOW_SLOTS]."""
        self._changed: list[tuple[Slot, Vote]] = []
        self._promise_changed = False

    def promise(self, ballot: Ballot) -> bool:
        """Promise to vote in nothing below `ballot`; False if a higher ballot has that promise ("Made Simple" P1a)."""
        if ballot < self.promised:
            return False
        if ballot > self.promised:
            self.promised = ballot
            self._promise_changed = True
        return True

    def accept(self, ballot: Ballot, slot: Slot, batch: Batch) -> None:
        """Vote; the caller has seen to it that `ballot` is promised and that `slot` lies within the window."""
        assert ballot == self.promised, (ballot, self.promised)
        previous = self.votes.get(slot)
        if previous is not None and previous.ballot == ballot:
            assert previous.batch == batch, f"two values in slot {slot} of {ballot}"
            return
        self.votes[slot] = vote = Vote(ballot, batch)
        self._changed.append((slot, vote))

    def record_chosen(self, slot: Slot, vote: Vote) -> None:
        """Keep what a peer knows to be chosen in `slot`, whatever was voted here; the prefix is about to cover it."""
        self.votes[slot] = vote
        self._changed.append((slot, vote))

    def forget(self, chosen: Slot) -> None:
        """Drop from memory what the chosen prefix has just reached; the store keeps it."""
        for slot in [slot for slot in self.votes if slot <= chosen]:
            del self.votes[slot]

    def within_window(self, slot: Slot, chosen: Slot) -> bool:
        """Say whether a vote in `slot` keeps memory bounded."""
        return chosen < slot <= chosen + limits.WINDOW_SLOTS

    def promise_changed(self) -> bool:
        """Say whether the promise rose since the last `take_changes`."""
        return self._promise_changed

    def take_changes(self) -> list[tuple[Slot, Vote]] | None:
        """Return the votes to persist, or None if neither promise nor votes changed since the last call."""
        if not self._changed and not self._promise_changed:
            return None
        changed, self._changed, self._promise_changed = self._changed, [], False
        return changed

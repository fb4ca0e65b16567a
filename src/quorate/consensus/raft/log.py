"""The log: the chosen prefix, and the entries above it, which a later leader may still replace.

Entries follow each other without a gap. If two logs hold entries of one term in one slot, they are the same there and
in all slots before (Log Matching, §3.5); and whoever leads has all that is chosen (Leader Completeness, §3.6). So it is
enough to know the term of the last chosen slot, and all that lies below is left to the store.

Rules: nothing chosen is ever replaced; an entry is replaced only for one of another term in the same slot, and then all
behind it go too; memory holds a window of entries, and the no-ops of leaders that came to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorate import limits
from quorate.consensus.core import Recovered
from quorate.types import NOOP, Base, Batch, Membership, Slot, Vote


class Changes(NamedTuple):
    """What has to be persisted."""

    votes: list[tuple[Slot, Vote]]
    last: Slot | None
    """Where the log ends, if it was cut."""


class Log:
    """One replica's log above its chosen prefix."""

    def __init__(self, recovered: Recovered) -> None:
        self.chosen: Slot = recovered.chosen
        """The commit index."""
        self.chosen_term = recovered.chosen_ballot.round
        self._open: list[Vote] = [recovered.votes[slot] for slot in sorted(recovered.votes)]
        """The entries of the slots behind `chosen`."""
        assert set(recovered.votes) == set(range(self.chosen + 1, self.last + 1)), "a log has no gaps"
        self.agreed: Slot = 0
        """How far this log is known to agree with that of the leader of the present term."""
        self._changed: dict[Slot, Vote] = {}
        self._cut_off = False
        """Entries were removed, which the store still has."""

    @property
    def last(self) -> Slot:
        """The slot of the last entry."""
        return self.chosen + len(self._open)

    @property
    def last_term(self) -> int:
        """The term of the last entry."""
        return self._open[-1].ballot.round if self._open else self.chosen_term

    def term(self, slot: Slot) -> int | None:
        """Return the term of the entry in `slot`; None if there is none, or if it lies below the end of the prefix."""
        if slot == self.chosen:
            return self.chosen_term
        return self._open[slot - self.chosen - 1].ballot.round if self.chosen < slot <= self.last else None

    def behind(self, slot: Slot) -> tuple[Vote, ...]:
        """Return the entries behind `slot`, which is not below the end of the prefix: a message full of them."""
        start = slot - self.chosen
        assert start >= 0
        return tuple(self._open[start : start + limits.WINDOW_SLOTS])

    def is_covered_by(self, last: Slot, last_term: int) -> bool:
        """Say whether a log that ends in `last` with an entry of `last_term` is at least as up to date (§3.6.1)."""
        return (last_term, last) >= (self.last_term, self.last)

    def membership(self) -> Membership | None:
        """Return the membership that was appended last, if it is not chosen yet (§4.1)."""
        found = (Membership.of(vote.batch) for vote in reversed(self._open))
        return next((membership for membership in found if membership), None)

    # --- appending ---------------------------------------------------------------------------------------------------

    def append(self, vote: Vote) -> Slot:
        """Append an entry, and return its slot."""
        assert vote.ballot.round >= self.last_term, "terms only rise along a log"
        self._open.append(vote)
        self._changed[self.last] = vote
        return self.last

    def merge(self, prev: Slot, prev_term: int, entries: Sequence[Vote]) -> Slot | None:
        """Take over what the leader has behind `prev`; return up to where the two logs agree now.

        None if nobody can tell (§3.5, the consistency check): we lack `prev`, or its entry is of another term, or all
        of it lies below our prefix. Entries past the window are left for later.
        """
        if prev < self.chosen:
            known = self.chosen - prev
            if len(entries) < known:
                return None
            prev, prev_term, entries = self.chosen, entries[known - 1].ballot.round, entries[known:]
        if self.term(prev) != prev_term:
            return None
        for slot, vote in enumerate(entries, prev + 1):
            if self.term(slot) != vote.ballot.round:
                if not self._has_room(slot, vote):
                    break
                self._cut(slot - 1)
                self.append(vote)
            prev = slot
        self.agreed = max(self.agreed, prev)
        return prev

    def _has_room(self, slot: Slot, vote: Vote) -> bool:
        """Say whether an entry keeps memory bounded.

        A new leader's no-op is taken in any case: without it a full window could never be chosen.
        """
        return slot <= self.chosen + limits.WINDOW_SLOTS or vote.batch == NOOP

    def adopt(self, vote: Vote) -> None:
        """Let the slot behind the prefix hold `vote`, which a peer knows to be chosen there."""
        if self.term(self.chosen + 1) != vote.ballot.round:
            self._cut(self.chosen)
            self.append(vote)

    def _cut(self, last: Slot) -> None:
        """Remove the entries behind `last`: they conflict with what is to come."""
        assert last >= self.chosen, "what is chosen is never removed"
        if last < self.last:
            del self._open[last - self.chosen :]
            self._changed = {slot: vote for slot, vote in self._changed.items() if slot <= last}
            self.agreed = min(self.agreed, last)
            self._cut_off = True

    # --- choosing ----------------------------------------------------------------------------------------------------

    def choose_next(self) -> Batch:
        """Extend the chosen prefix by one slot, and return its value."""
        vote = self._open.pop(0)
        self.chosen += 1
        self.chosen_term = vote.ballot.round
        return vote.batch

    def jump(self, base: Base) -> None:
        """Extend the chosen prefix to `base`; what we hold behind it stays if our log agrees with it there (§5.1)."""
        assert base.slot > self.chosen
        if self.term(base.slot) == base.ballot.round:
            del self._open[: base.slot - self.chosen]
        else:
            self._cut(self.chosen)
        self.chosen, self.chosen_term = base.slot, base.ballot.round

    # --- the store ---------------------------------------------------------------------------------------------------

    def take_changes(self) -> Changes | None:
        """Return what changed since the last call, or None."""
        if not self._changed and not self._cut_off:
            return None
        changes = Changes(sorted(self._changed.items()), self.last if self._cut_off else None)
        self._changed, self._cut_off = {}, False
        return changes

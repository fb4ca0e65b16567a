"""The proposer: winning a ballot, and proposing under it.

Phase 1 runs once per leadership, over all slots from the first open one ("Paxos Made Simple" §3). Its promisers may
know longer prefixes than we do; then the gap is closed by catch-up first (phase RECOVERING), since those slots are
chosen and must not be proposed in. After that every open slot gets the vote with the highest ballot among the
promises (P2c), holes get no-ops, and the window is open for new commands.

Who votes in a slot is known only once every slot before it is chosen. So a leader proposes nothing behind a change of
membership that is not chosen, and once it is, runs phase 1 again among those who vote from there on, under the same
ballot: every slot behind it is new to that ballot.

Rule the learners rely on: while LEADING, the prefix grows only by slots proposed under this ballot. A leader that
learns of a higher ballot, from whatever message, resigns before anything else, and catch-up answers are not taken
while LEADING.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

from quorate import limits
from quorate.consensus.paxos.messages import Promise
from quorate.consensus.quorum import is_quorum
from quorate.types import NO_BALLOT, NOOP, Ballot, Batch, Membership, ReplicaId, Slot, Vote


class Phase(enum.Enum):
    """How far this replica has come towards leading."""

    IDLE = "follower"
    PREPARING = "preparing"
    RECOVERING = "recovering"
    LEADING = "leader"


class Proposer:
    """One replica's attempt at leadership."""

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.ballot: Ballot = NO_BALLOT
        self.next_slot: Slot = 0
        """The first slot nothing was proposed in; meaningful while LEADING."""
        self._promises: dict[ReplicaId, Promise] = {}
        self._phase_ticks = 0
        self._open_ticks: dict[Slot, int] = {}
        """Ticks since each slot in flight was last sent."""

    # --- phase 1 -----------------------------------------------------------------------------------------------------

    def prepare(self, ballot: Ballot) -> None:
        """Start phase 1 of a ballot higher than any seen, or again of our own for slots that are new to it."""
        assert ballot >= self.ballot
        self.phase, self.ballot, self._phase_ticks = Phase.PREPARING, ballot, 0
        self._promises = {}

    def on_promise(self, sender: ReplicaId, promise: Promise, voters: tuple[ReplicaId, ...]) -> bool:
        """Take a promise; return True when it completes the quorum."""
        if self.phase is not Phase.PREPARING or promise.ballot != self.ballot:
            return False
        self._promises[sender] = promise
        if not is_quorum(self._promises, voters):
            return False
        self.phase, self._phase_ticks = Phase.RECOVERING, 0
        return True

    def promisers(self) -> Collection[ReplicaId]:
        """Return who has promised."""
        return self._promises.keys()

    def may_lead(self, chosen: Slot) -> bool:
        """Say whether our prefix has reached the longest one promised, so that proposing may begin."""
        return self.phase is Phase.RECOVERING and chosen >= max(p.chosen for p in self._promises.values())

    def lead(self, chosen: Slot) -> list[tuple[Slot, Batch]]:
        """Begin to lead; return what must be proposed in the open slots, holes filled with no-ops (P2c).

        What lies behind a change of membership is left out: phase 1 will be run again for it.
        """
        votes: dict[Slot, Vote] = {}
        for promise in self._promises.values():
            for slot, vote in promise.votes:
                if slot > chosen and (slot not in votes or votes[slot].ballot < vote.ballot):
                    votes[slot] = vote
        self.phase, self._promises = Phase.LEADING, {}
        self.next_slot = chosen + 1
        adopted = []
        for slot in range(self.next_slot, max(votes, default=0) + 1):
            adopted.append((slot, votes[slot].batch if slot in votes else NOOP))
            if Membership.of(adopted[-1][1]):
                break
        return adopted

    def resign(self) -> None:
        """Give up leadership or candidacy."""
        self.phase = Phase.IDLE
        self._promises = {}
        self._open_ticks.clear()

    def phase_overdue(self) -> bool:
        """Let a tick pass over a candidacy; return whether it has taken too long and needs a new ballot."""
        self._phase_ticks += 1
        return self._phase_ticks > limits.ELECTION_TICKS_MIN

    def made_progress(self) -> None:
        """Note that catch-up moved, so that a long recovery is not taken for a stuck one."""
        self._phase_ticks = 0

    # --- phase 2 -----------------------------------------------------------------------------------------------------

    def sent(self, slot: Slot) -> None:
        """Note that Accept for `slot` was just sent."""
        self._open_ticks[slot] = 0
        self.next_slot = max(self.next_slot, slot + 1)

    def closed(self, slot: Slot) -> None:
        """Note that `slot` is chosen."""
        self._open_ticks.pop(slot, None)

    def overdue_slots(self) -> list[Slot]:
        """Let a tick pass over the slots in flight; return those whose Accept should be sent again, lowest first."""
        overdue = []
        for slot, ticks in self._open_ticks.items():
            self._open_ticks[slot] = ticks + 1
            if ticks + 1 >= limits.RESEND_TICKS:
                overdue.append(slot)
        return sorted(overdue)[: limits.RESEND_SLOTS_MAX]

"""The proposer: winning a ballot, and proposing under it.

Phase 1 runs once per leadership, over all slots from the first open one ("Paxos Made Simple" §3). Its promisers may
know longer prefixes than we do; then the gap is closed by catch-up first (phase RECOVERING), since those slots are
chosen and must not be proposed in. After that every open slot gets the vote with the highest ballot among the
promises (P2c), holes get no-ops, and the window is open for new commands.

Rule the learners rely on: while LEADING, the prefix grows only by slots proposed under this ballot. A leader that
learns of a higher ballot, from whatever message, resigns before anything else, and catch-up answers are not taken
while LEADING.
"""

from __future__ import annotations

import enum
from collections import deque

from quorate import limits
from quorate.consensus.paxos.messages import Promise
from quorate.consensus.quorum import is_quorum
from quorate.types import NO_BALLOT, NOOP, Ballot, Batch, ReplicaId, Slot, Vote


class Phase(enum.Enum):
    """How far this replica has come towards leading."""

    IDLE = "follower"
    PREPARING = "preparing"
    RECOVERING = "recovering"
    LEADING = "leader"


class Proposer:
    """One replica's attempt at leadership, and the commands that wait for a slot."""

    def __init__(self, members: tuple[ReplicaId, ...]) -> None:
        self._members = len(members)
        self.phase = Phase.IDLE
        self.ballot: Ballot = NO_BALLOT
        self.next_slot: Slot = 0
        """The first slot nothing was proposed in; meaningful while LEADING."""
        self._promises: dict[ReplicaId, Promise] = {}
        self._phase_ticks = 0
        self._pending: deque[Batch] = deque()
        self._pending_bytes = 0
        self._open_ticks: dict[Slot, int] = {}
        """Ticks since each slot in flight was last sent."""

    # --- phase 1 -----------------------------------------------------------------------------------------------------

    def prepare(self, ballot: Ballot) -> None:
        """Start phase 1 of a ballot higher than any seen."""
        assert ballot > self.ballot
        self.phase, self.ballot, self._phase_ticks = Phase.PREPARING, ballot, 0
        self._promises = {}

    def on_promise(self, sender: ReplicaId, promise: Promise) -> bool:
        """Take a promise; return True when it completes the quorum."""
        if self.phase is not Phase.PREPARING or promise.ballot != self.ballot:
            return False
        self._promises[sender] = promise
        if not is_quorum(self._promises, self._members):
            return False
        self.phase, self._phase_ticks = Phase.RECOVERING, 0
        return True

    def may_lead(self, chosen: Slot) -> bool:
        """Say whether our prefix has reached the longest one promised, so that proposing may begin."""
        return self.phase is Phase.RECOVERING and chosen >= max(p.chosen for p in self._promises.values())

    def lead(self, chosen: Slot) -> list[tuple[Slot, Batch]]:
        """Begin to lead; return what must be proposed in the open slots, holes filled with no-ops (P2c)."""
        votes: dict[Slot, Vote] = {}
        for promise in self._promises.values():
            for slot, vote in promise.votes:
                if slot > chosen and (slot not in votes or votes[slot].ballot < vote.ballot):
                    votes[slot] = vote
        self.phase, self._promises = Phase.LEADING, {}
        self.next_slot = chosen + 1
        open_slots = range(self.next_slot, max(votes, default=0) + 1)
        return [(slot, votes[slot].batch if slot in votes else NOOP) for slot in open_slots]

    def resign(self) -> None:
        """Give up leadership or candidacy. Commands without a slot are dropped: their submitters still hold them."""
        self.phase = Phase.IDLE
        self._promises = {}
        self._pending.clear()
        self._pending_bytes = 0
        self._open_ticks.clear()

    def phase_overdue(self) -> bool:
        """Let a tick pass over a candidacy; return whether it has taken too long and needs a new ballot."""
        self._phase_ticks += 1
        return self._phase_ticks > limits.ELECTION_TICKS_MIN

    def made_progress(self) -> None:
        """Note that catch-up moved, so that a long recovery is not taken for a stuck one."""
        self._phase_ticks = 0

    # --- phase 2 -----------------------------------------------------------------------------------------------------

    def enqueue(self, batch: Batch) -> bool:
        """Hold commands until the window has room; False when the bound is reached and they are declined."""
        if self._pending_bytes + len(batch.payload) > limits.PENDING_BYTES_MAX:
            return False
        self._pending.append(batch)
        self._pending_bytes += len(batch.payload)
        return True

    def next_batch(self, chosen: Slot) -> Batch | None:
        """Merge whatever waits into the next value, if few enough batches are in flight."""
        if not self._pending or self.next_slot > chosen + limits.AHEAD_SLOTS:
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

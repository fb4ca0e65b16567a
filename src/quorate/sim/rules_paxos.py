"""What Multi-Paxos promises: its votes, its promises, and what its leaders propose ("Paxos Made Simple" §2.2)."""

from __future__ import annotations

from quorate.consensus.core import Persist
from quorate.consensus.paxos.messages import Accept, Accepted, Prepare, Promise
from quorate.limits import WINDOW_SLOTS
from quorate.sim.invariants import Invariants
from quorate.sim.rules import Record, Rules
from quorate.sim.violation import require
from quorate.types import Ballot, Batch, Membership, ReplicaId, Slot, Vote


class PaxosRules(Rules):
    """The rules of Multi-Paxos."""

    def __init__(self, judge: Invariants) -> None:
        super().__init__(judge)
        self._first_asked: dict[Ballot, Slot] = {}
        """From which slot on the last Prepare of each ballot asks for votes."""
        self._accepts: dict[tuple[Ballot, Slot], Batch] = {}
        self._changing: dict[Ballot, Slot] = {}
        """The slot of the last membership that was proposed in each ballot."""
        self._judges |= {
            Prepare: self._on_prepare,
            Promise: self._on_promise,
            Accepted: self._on_accepted,
            Accept: self._on_accept,
        }

    def electorates(self, slot: Slot) -> list[Membership]:
        """Return the membership that the slots before `slot` have left in force."""
        return [self._judge.membership_at(slot)]

    def on_choose(self, slot: Slot, holding: list[Record]) -> Ballot:
        """Return the highest ballot that was voted for."""
        return max(record.votes[slot].ballot for record in holding)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def on_persist(self, replica: ReplicaId, record: Record, persist: Persist) -> None:
        """Judge the votes of a Persist that is about to become durable."""
        for slot, vote in persist.votes:
            self._judge_vote(replica, record, persist, slot, vote)

    def _judge_vote(self, replica: ReplicaId, record: Record, persist: Persist, slot: Slot, vote: Vote) -> None:
        near = slot <= persist.chosen + WINDOW_SLOTS
        require(near, "votes above the chosen prefix are bounded", "replica", replica, "slot", slot, "in", persist)
        if self._judge.chosen.get(slot) == vote.batch:
            return  # what is chosen may be written at any time, also under an old ballot
        require(slot > record.chosen, "chosen records never change", "replica", replica, "slot", slot, vote)
        old = record.votes.get(slot)
        kept = record.promised <= vote.ballot <= persist.promised
        require(kept, "votes keep promises", "replica", replica, "slot", slot, vote, "after promise", record.promised)
        newer = old is None or vote.ballot > old.ballot or vote == old
        require(newer, "votes only move to higher ballots", "replica", replica, "slot", slot, vote, "over", old)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _on_prepare(self, replica: ReplicaId, message: Prepare) -> None:
        require(message.ballot.replica == replica, "ballots belong to one replica", "replica", replica, message)
        first = self._first_asked.get(message.ballot)
        # A ballot is prepared again behind a change of membership, for slots that nothing was proposed in under it.
        changed = first is None or self._judge.membership_at(message.first).version > 0
        lawful = first in (None, message.first) or (changed and message.first > (first or 0))
        require(lawful, "ballots are prepared once", "replica", replica, message, "before from", first)
        self._first_asked[message.ballot] = message.first

    def _on_promise(self, replica: ReplicaId, message: Promise) -> None:
        record = self._judge.records[replica]
        require(record.promised >= message.ballot, "what vouches is durable", "replica", replica, message)
        told = dict(message.votes)
        require(len(told) <= WINDOW_SLOTS, "votes above the chosen prefix are bounded", "replica", replica, message)
        delivered = self._judge.delivered[replica]
        require(message.chosen <= delivered, "the chosen prefix is delivered", "replica", replica, message)
        first = max(self._first_asked[message.ballot], message.chosen + 1, record.chosen + 1)
        for slot in range(first, max(record.votes, default=0) + 1):
            vote = record.votes.get(slot)
            told_it = vote is None or vote.ballot >= message.ballot or told.get(slot) == vote
            require(told_it, "a promise tells every vote", "replica", replica, "slot", slot, vote, "not in", message)

    def _on_accepted(self, replica: ReplicaId, message: Accepted) -> None:
        record = self._judge.records[replica]
        vote = record.votes.get(message.slot)
        voted = vote is not None and min(vote.ballot, record.promised) >= message.ballot
        # What this replica delivered is durable at a quorum: it may confirm that value under any ballot (P2b).
        durable = voted or message.slot <= self._judge.delivered[replica]
        require(durable, "what vouches is durable", "replica", replica, message, "on disk", vote)

    def _on_accept(self, replica: ReplicaId, message: Accept) -> None:
        ballot, slot, batch, _ = message.ballot, message.slot, message.batch, message.chosen
        require(ballot.replica == replica, "ballots belong to one replica", "replica", replica, message)
        first = self._accepts.get((ballot, slot))
        if first is None:
            self._accepts[ballot, slot] = first = batch
            self._judge_behind_change(message)
        require(first == batch, "one value per ballot and slot", "replica", replica, message, "before", first)
        chosen = self._judge.chosen.get(slot)
        if chosen is not None and ballot > self._judge.chosen_by[slot]:
            # P2b of "Paxos Made Simple" §2.2.
            require(batch == chosen, "later ballots keep the chosen value", "replica", replica, message)

    def _judge_behind_change(self, message: Accept) -> None:
        """Judge that nothing is proposed behind a membership before that is chosen: nobody knows who votes there."""
        changing = self._changing.get(message.ballot, 0)
        free = message.slot <= changing or changing == 0 or changing in self._judge.chosen
        require(free, "nothing is proposed behind an open change", message, "while slot", changing, "is open")
        if message.batch.size == 0 and message.batch.payload:
            found = message.slot == 1 or message.slot - 1 in self._judge.chosen
            require(found, "a change is made from the membership in force", message)
            self._changing[message.ballot] = max(message.slot, changing)

"""What Raft promises: the five properties of Ongaro, "Consensus", figure 3.2, and what its messages vouch for.

Election Safety, Leader Append-Only, Log Matching and Leader Completeness are judged here; State Machine Safety is what
`invariants` judges of every protocol.
"""

from __future__ import annotations

from quorate.consensus.core import Persist
from quorate.consensus.quorum import is_quorum
from quorate.consensus.raft.messages import Append, Appended, Heartbeat, RequestVote, VoteGranted
from quorate.sim.invariants import Invariants
from quorate.sim.rules import Record, Rules
from quorate.sim.violation import require
from quorate.types import Ballot, Batch, Membership, ReplicaId, Slot, Vote


class RaftRules(Rules):
    """The rules of Raft."""

    def __init__(self, judge: Invariants) -> None:
        super().__init__(judge)
        self._leaders: dict[int, ReplicaId] = {}
        """Of each term."""
        self._logs: dict[int, dict[Slot, Vote]] = {}
        """What the leader of each term has shown of its log."""
        self._entries: dict[tuple[Slot, int], tuple[Batch, int]] = {}
        """The value of an entry, and the term of the entry before it, by slot and term."""
        self._stored: dict[tuple[Slot, int], set[ReplicaId]] = {}
        """Who stored an entry while its own term lasted, by slot and term, as far as slots are open."""
        self._appended: dict[Slot, list[Membership]] = {}
        """Memberships that were ever in some log."""
        self._judges |= {
            RequestVote: lambda replica, message: self._judge_leader(replica, message.term),
            VoteGranted: self._on_vote_granted,
            Append: self._on_append,
            Appended: self._on_appended,
            Heartbeat: lambda replica, message: self._judge_leader(replica, message.term),
        }

    def electorates(self, slot: Slot) -> list[Membership]:
        """Return who may count: a membership is in force from when it is in the leader's log, chosen or not (§4.1)."""
        open_ones = [new for appended_in, found in self._appended.items() if appended_in >= slot for new in found]
        return [self._judge.membership_at(slot), *open_ones]

    def on_choose(self, slot: Slot, holding: list[Record]) -> Ballot:
        """Judge that the value, or one behind it, was stored by a quorum in the term it was proposed in (§3.6.2)."""
        counted = any(
            is_quorum(storing, membership.voters)
            for (stored_in, _), storing in self._stored.items()
            if stored_in >= slot
            for membership in self.electorates(slot)
        )
        require(counted, "entries of earlier terms are not counted", "slot", slot, holding[0].votes.get(slot))
        self._stored = {place: storing for place, storing in self._stored.items() if place[0] >= slot}
        # In no later term than any of those who hold it has come to.
        return max(record.promised for record in holding)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def on_persist(self, replica: ReplicaId, record: Record, persist: Persist) -> None:
        """Judge the vote and the log of a Persist that is about to become durable."""
        before, after = record.promised, persist.promised
        kept = before.round < after.round or before.replica in (0, after.replica)
        require(kept, "a term has one vote", "replica", replica, before, after)
        if persist.last is not None:
            require(persist.last >= record.chosen, "chosen records never change", "replica", replica, persist)
        votes = dict(persist.votes)
        for slot, vote in persist.votes:
            require(vote.ballot.round <= after.round, "entries are of terms that began", "replica", replica, vote)
            held = record.votes.get(slot)
            same = held is None or held == vote or persist.last is not None or slot <= persist.chosen
            require(same, "entries are replaced by cutting the log", "replica", replica, slot, vote, "over", held)
            if vote.ballot.round >= before.round:
                self._stored.setdefault((slot, vote.ballot.round), set()).add(replica)
            previous = votes.get(slot - 1) or record.votes.get(slot - 1)
            if previous is not None:
                self._judge_entry(replica, slot, vote, previous.ballot.round)

    def _judge_entry(self, replica: ReplicaId, slot: Slot, vote: Vote, prev_term: int) -> None:
        """Judge Log Matching: same slot and term, so same entry, and same entries before it."""
        require(prev_term <= vote.ballot.round, "terms rise along a log", "replica", replica, "slot", slot, vote)
        known = self._entries.setdefault((slot, vote.ballot.round), (vote.batch, prev_term))
        matching = known == (vote.batch, prev_term)
        require(matching, "logs match", "replica", replica, "slot", slot, vote, "behind term", prev_term, "not", known)
        self._note_membership(slot, vote)

    def _note_membership(self, slot: Slot, vote: Vote) -> None:
        if vote.batch.size == 0 and (membership := Membership.of(vote.batch)) is not None:
            found = self._appended.setdefault(slot, [])
            if membership not in found:
                found.append(membership)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _judge_leader(self, replica: ReplicaId, term: int) -> None:
        """Judge that whoever speaks for a term has voted for itself in it, durably."""
        promised = self._judge.records[replica].promised
        vouched = promised.round > term or promised == (term, replica)
        require(vouched, "what vouches is durable", "replica", replica, "leads term", term, "on disk", promised)

    def _on_vote_granted(self, replica: ReplicaId, message: VoteGranted) -> None:
        promised = self._judge.records[replica].promised
        voted = promised.round > message.term or (promised.round == message.term and promised.replica > 0)
        require(voted, "what vouches is durable", "replica", replica, message, "on disk", promised)

    def _on_append(self, replica: ReplicaId, message: Append) -> None:
        self._judge_leader(replica, message.term)
        leader = self._leaders.setdefault(message.term, replica)
        require(leader == replica, "one leader per term", replica, message, "before", leader)
        log = self._logs.setdefault(message.term, {})
        prev_term = message.prev_term
        for slot, vote in enumerate(message.entries, message.prev + 1):
            if slot not in log:
                log[slot] = vote
                self._judge_entry(replica, slot, vote, prev_term)
                self._judge_complete(replica, message.term, slot, vote)
                self._judge_change(replica, message.term, slot, vote)
            require(log[slot] == vote, "leaders only append", "replica", replica, "slot", slot, vote, "over", log[slot])
            prev_term = vote.ballot.round

    def _judge_complete(self, replica: ReplicaId, term: int, slot: Slot, vote: Vote) -> None:
        """Judge Leader Completeness (§3.6.3): what was chosen in an earlier term is in the leader's log."""
        chosen = self._judge.chosen.get(slot)
        if chosen is not None and term > self._judge.chosen_by[slot].round:
            require(vote.batch == chosen, "leaders have what is chosen", "replica", replica, "slot", slot, vote)

    def _judge_change(self, replica: ReplicaId, term: int, slot: Slot, vote: Vote) -> None:
        """Judge that a leader changes members only behind a chosen entry of its own term, and once at a time (§4.1)."""
        if vote.batch.size or not vote.batch.payload or vote.ballot.round != term:
            return
        log = self._judge.records[replica].votes | self._logs[term]
        own = (other for other, entry in log.items() if entry.ballot.round == term and other in self._judge.chosen)
        require(any(own), "a change follows a chosen entry of its term", "slot", slot, vote)
        open_ones = [other for other, entry in log.items() if other < slot and other not in self._judge.chosen]
        changing = [other for other in open_ones if log[other].batch.size == 0 and log[other].batch.payload]
        require(not changing, "one change at a time", "slot", slot, vote, "while open", changing)

    def _on_appended(self, replica: ReplicaId, message: Appended) -> None:
        record = self._judge.records[replica]
        if record.promised.round > message.term or message.slot <= self._judge.delivered[replica]:
            return  # a later leader may have cut the log since
        expected = self._logs.get(message.term, {}).get(message.slot)
        held = record.votes.get(message.slot)
        durable = held is not None and expected in (None, held) and record.promised.round == message.term
        require(durable, "what vouches is durable", "replica", replica, message, "on disk", record.promised, held)

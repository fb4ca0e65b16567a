"""One replica's log, vote and, if it leads, view of the others composed into a core.

What does not depend on the protocol stands in `consensus.member`; here are elections, replication and the leader's
pulse. A message of a higher term ends whatever we were in ours, one of a lower term has no effect (§3.3), and each
handler begins with that. Messages to oneself take the same way as to others: a candidate counts its own vote, and a
leader its own entries, only once that is durable; but entries leave for the others at once (§10.2.1).
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Sequence

from quorate.consensus.core import Deliver, Persist, Recovered, Tick
from quorate.consensus.member import SHARED_MESSAGES, Member
from quorate.consensus.quorum import is_quorum
from quorate.consensus.raft import messages as m
from quorate.consensus.raft.log import Log
from quorate.consensus.raft.progress import Replication
from quorate.types import NOOP, Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote

NOBODY = ReplicaId(0)


class Role(enum.Enum):
    """What this replica is in its term (§3.3)."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class RaftCore(Member):
    """A member of a Raft group behind the core contract."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        self._voted = recovered.promised
        """The present term, and whom we voted for in it, if anybody: it only rises."""
        self._voted_moved = False
        self._voted_seq = 0
        """The last Persist that carried a change of it."""
        self._log = Log(recovered)
        self._role = Role.FOLLOWER
        self._granted: set[ReplicaId] = set()
        """Who has voted for us in the present term."""
        self._replication = Replication()
        self._obey_log()

    # --- the contract ------------------------------------------------------------------------------------------------

    @property
    def _chosen(self) -> Slot:
        return self._log.chosen

    @property
    def _promised(self) -> Ballot:
        return self._voted

    @property
    def _term(self) -> int:
        return self._voted.round

    def _leads(self) -> bool:
        return self._role is Role.LEADER

    def _stands(self) -> bool:
        return self._role is not Role.FOLLOWER

    def _on_tick(self, _: Tick) -> None:
        self._catch_up.tick(self._chosen)
        if not self._leads():
            self._ask_for_missing()
        self._tick_read()
        if self._leads():
            self._tick_leader()
        elif self._election.tick():
            self._on_silence()

    # --- terms -------------------------------------------------------------------------------------------------------

    def _notice(self, ballot: Ballot) -> None:
        self._enter_term(ballot.round)

    def _enter_term(self, term: int, candidate: ReplicaId | None = None) -> None:
        """Take over a term, if it is higher than ours; in it we have voted for nobody yet (§3.3)."""
        if term <= self._term:
            return
        if self._stands():
            self._step_down(f"term {term} is higher", candidate)
        else:
            self._election.wait()
        self._vote(Ballot(term, NOBODY))

    def _vote(self, ballot: Ballot) -> None:
        assert ballot > self._voted, "a term has one vote, and terms only rise"
        if ballot.round > self._term:
            self._log.agreed = 0
        self._voted = ballot
        self._voted_moved = True

    def _step_down(self, why: str, successor: ReplicaId | None = None) -> None:
        self._out.trace("step_down", ballot=self._voted, why=why)
        self._role = Role.FOLLOWER
        self._replication.keep(())
        self._leave_office(successor)
        self._election.wait()

    def _on_higher_term(self, _: ReplicaId, message: m.HigherTerm) -> None:
        self._enter_term(message.term)

    # --- election (§3.4, §9.6) ---------------------------------------------------------------------------------------

    def _on_silence(self) -> None:
        if self._stands():
            self._step_down("candidacy took too long")
        if not self._votes():
            self._election.wait()
            return
        self._election.canvass(self._me)
        self._out.send(self._peers, m.PreVote(self._term + 1, self._log.last, self._log.last_term))
        self._maybe_campaign()

    def _on_pre_vote(self, sender: ReplicaId, message: m.PreVote) -> None:
        if message.term <= self._term:
            self._out.send((sender,), m.HigherTerm(self._term))
        elif not self._leader_lives() and self._log.is_covered_by(message.last, message.last_term):
            self._out.send((sender,), m.PreVoteGranted(message.term))

    def _leader_lives(self) -> bool:
        return self._leads() or self._election.hears_leader()

    def _on_pre_vote_granted(self, sender: ReplicaId, message: m.PreVoteGranted) -> None:
        if self._election.supporters is not None and message.term == self._term + 1:
            self._election.supporters.add(sender)
            self._maybe_campaign()

    def _maybe_campaign(self) -> None:
        supporters = self._election.supporters
        if supporters is not None and is_quorum(supporters, self._membership.voters):
            self._campaign(told=False)

    def _stand(self) -> None:
        self._campaign(told=True)

    def _campaign(self, *, told: bool) -> None:
        self._election.wait()
        self._role = Role.CANDIDATE
        self._granted = set()
        self._vote(Ballot(self._term + 1, self._me))
        self._out.trace("campaign", ballot=self._voted)
        self._out.vouch((self._me,), m.VoteGranted(self._term))
        # RequestVote leaves once our own vote is durable: after a crash we must not stand in this term a second time.
        self._out.vouch(self._peers, m.RequestVote(self._term, self._log.last, self._log.last_term, told))

    def _on_request_vote(self, sender: ReplicaId, message: m.RequestVote) -> None:
        """Vote, whatever our membership says of the candidate: its own may be newer (§4.1)."""
        if message.term < self._term:
            self._out.send((sender,), m.HigherTerm(self._term))
            return
        if self._leader_lives() and not message.told:
            return  # nor take over the term: whoever was removed must not disrupt (§4.2.3)
        self._enter_term(message.term, sender)
        free = self._voted.replica in (NOBODY, sender)
        if free and self._log.is_covered_by(message.last, message.last_term):
            if self._voted.replica == NOBODY:
                self._vote(Ballot(message.term, sender))
            self._election.wait()
            self._out.vouch((sender,), m.VoteGranted(message.term))

    def _on_vote_granted(self, sender: ReplicaId, message: m.VoteGranted) -> None:
        if self._role is not Role.CANDIDATE or message.term != self._term:
            return
        self._granted.add(sender)
        if is_quorum(self._granted, self._membership.voters):
            self._lead()

    def _lead(self) -> None:
        self._role = Role.LEADER
        self._out.trace("elected", ballot=self._voted, adopted=self._log.last - self._chosen)
        self._election.heard(self._me)
        self._office.enter(self._peers, self._granted)
        self._replication.begin(self._everyone)
        # Entries of earlier terms are never chosen by counting (§3.6.2), so the new term needs one of its own.
        self._propose(NOOP)
        self._fill_window()

    # --- replication (§3.5) ------------------------------------------------------------------------------------------

    def _fill_window(self) -> None:
        while (batch := self._office.next_batch(self._chosen, self._log.last + 1)) is not None:
            self._propose(batch)

    def _propose(self, batch: Batch) -> Slot:
        slot = self._log.append(Vote(self._voted, batch))
        self._obey_log()
        self._replicate(self._peers)
        self._out.vouch((self._me,), m.Appended(self._term, slot, self._chosen))
        return slot

    def _replicate(self, peers: Iterable[ReplicaId]) -> None:
        """Send peers what they were not sent yet; those that are equally far share a message."""
        for prev, group in self._replication.by_sent(peers, self._chosen).items():
            entries = self._log.behind(prev)
            prev_term = self._log.term(prev)
            assert prev_term is not None
            self._out.send(tuple(group), m.Append(self._term, prev, prev_term, entries, self._chosen))
            self._replication.sent(group, prev + len(entries))

    def _follow(self, leader: ReplicaId, term: int) -> bool:
        """Obey the leader of `term`, or tell it that its term is over."""
        if term < self._term:
            self._out.send((leader,), m.HigherTerm(self._term))
            return False
        self._enter_term(term)
        assert not self._leads(), f"two leaders in term {term}"
        if self._stands():
            self._step_down(f"replica {leader} has won term {term}", leader)
        self._election.heard(leader)
        return True

    def _on_append(self, sender: ReplicaId, message: m.Append) -> None:
        if not self._follow(sender, message.term):
            return
        agreed = self._log.merge(message.prev, message.prev_term, message.entries)
        if agreed is None:
            self._out.send((sender,), m.Mismatch(message.term, message.prev, self._chosen))
        else:
            self._obey_log()
            self._out.vouch((sender,), m.Appended(message.term, agreed, self._chosen))
        self._hear_prefix(sender, message.chosen)

    def _hear_prefix(self, leader: ReplicaId, chosen: Slot) -> None:
        """Take the leader's word for what is chosen as far as our log is its own, and leave the rest to catch-up."""
        self._catch_up.hear_of(leader, chosen)
        self._commit(min(chosen, self._log.agreed))

    def _on_committed(self, sender: ReplicaId, message: m.Committed) -> None:
        if self._follow(sender, message.term):
            self._hear_prefix(sender, message.chosen)

    def _on_appended(self, sender: ReplicaId, message: m.Appended) -> None:
        if not self._hear_back(sender, message.term, message.chosen):
            return
        self._replication.on_match(sender, message.slot)
        self._maybe_commit()
        if self._leads():
            self._maybe_promote(sender, message.chosen)
            self._maybe_hand_over()

    def _on_mismatch(self, sender: ReplicaId, message: m.Mismatch) -> None:
        """Hasten what was sent, unless the member lacks what we hold no longer and has to catch up first."""
        if self._hear_back(sender, message.term, message.chosen) and max(message.prev, message.chosen) > self._chosen:
            self._replication.hasten(sender)

    def _hear_back(self, sender: ReplicaId, term: int, chosen: Slot) -> bool:
        """Note how far a member is, and that it obeys us; False if it speaks of another leadership."""
        if sender != self._me:
            self._catch_up.hear_of(sender, chosen)
        if not self._leads() or term != self._term:
            return False
        self._office.on_ack(sender)
        return True

    # --- choosing (§3.6) ---------------------------------------------------------------------------------------------

    def _maybe_commit(self) -> None:
        """Choose what a majority has, once that includes an entry of the present term (§3.6.2, figure 3.7)."""
        slot = self._replication.agreed(self._membership.voters)
        if slot <= self._chosen or self._log.term(slot) != self._term:
            return
        last = self._log.last
        self._commit(slot)
        if self._leads():
            self._fill_window()
        if self._leads() and self._log.last == last:
            self._out.send(self._peers, m.Committed(self._term, self._chosen))

    def _commit(self, last: Slot) -> None:
        """Extend the chosen prefix to `last`, if it ends before that."""
        while self._chosen < last:
            batch = self._log.choose_next()
            self._deliver(self._chosen, batch)

    def _deliver(self, slot: Slot, batch: Batch) -> None:
        self._catch_up.moved()
        self._out.effects.append(Deliver(slot, batch))
        membership = Membership.of(batch)
        if membership is None:
            return
        self._settle_membership(membership)
        if self._stands() and self._me not in membership.voters:
            self._step_down("no voter any more")

    def _take_chosen(self, first: Slot, votes: Sequence[Vote]) -> None:
        """Take over chosen values; a leader has them all already (Leader Completeness, §3.6.3)."""
        before = self._chosen
        for slot, vote in enumerate(votes, first):
            if slot == self._chosen + 1 and not self._leads():
                self._notice(vote.ballot)
                self._log.adopt(vote)
                self._obey_log()
                self._commit(slot)
        if self._chosen > before:
            self._ask_for_missing(at_once=True)

    def _jump(self, base: Base) -> None:
        self._notice(base.ballot)
        self._log.jump(base)
        self._catch_up.moved()

    # --- the leader's pulse ------------------------------------------------------------------------------------------

    def _tick_leader(self) -> None:
        if not self._office.tick(self._me, self._membership.voters):
            self._step_down("no quorum answers")
            return
        if self._office.pulse_due():
            self._send_pulse()
        self._resend(self._replication.overdue(self._peers, self._chosen, self._log.last))
        self._fill_window()
        self._maybe_hand_over()

    def _resend(self, peers: list[ReplicaId]) -> None:
        for peer in peers:
            # What a member knows to be chosen it has, though it may never have acknowledged it to us.
            known = min(self._catch_up.reached.get(peer, 0), self._log.last)
            self._replication.rewind(peer, known)
        self._replicate(peers)

    def _send_pulse(self) -> None:
        self._office.pulsed()
        self._out.send(self._peers, m.Heartbeat(self._term, self._chosen, self._reads.round))

    def _on_heartbeat(self, sender: ReplicaId, message: m.Heartbeat) -> None:
        if not self._follow(sender, message.term):
            return
        # It speaks for the term alone and need not wait for entries on their way to the disk.
        after = None if self._voted_moved else self._voted_seq
        self._out.vouch((sender,), m.HeartbeatAck(message.term, self._chosen, message.round), after)
        self._hear_prefix(sender, message.chosen)

    def _on_heartbeat_ack(self, sender: ReplicaId, message: m.HeartbeatAck) -> None:
        if self._hear_back(sender, message.term, message.chosen):
            self._on_round(sender, message.round)
            self._maybe_promote(sender, message.chosen)

    def _barrier_slot(self) -> Slot | None:
        """Return the end of the chosen prefix: nobody knows of a longer one once our term has an entry in it (§6.4)."""
        return self._chosen if self._log.chosen_term == self._term else None

    # --- members (§4) ------------------------------------------------------------------------------------------------

    def _obey_log(self) -> None:
        """Put in force the membership that was appended last, chosen or not; if it was cut off, the one before."""
        membership = self._log.membership() or self._settled
        if membership != self._membership:
            self._put_in_force(membership)

    def _put_in_force(self, membership: Membership) -> None:
        super()._put_in_force(membership)
        if self._leads():
            self._replication.keep(self._everyone)

    def _settle_membership(self, membership: Membership) -> None:
        super()._settle_membership(membership)
        self._obey_log()

    def _may_change(self) -> bool:
        """Say whether an entry of our own term is chosen.

        Else a change of an earlier leader may come into force beside ours, and their quorums may not meet: Ongaro, "Bug
        in single-server membership changes", raft-dev, 10 July 2015.
        """
        return self._leads() and self._log.chosen_term == self._term

    def _idle(self) -> bool:
        successor, last = self._office.successor, self._log.last
        if successor is None or self._chosen < last:
            return self._chosen == last
        return max(self._replication.match(successor), self._catch_up.reached.get(successor, 0)) >= last

    # --- effects -----------------------------------------------------------------------------------------------------

    def _take_persist(self, seq: int) -> Persist | None:
        changes = self._log.take_changes()
        if changes is None and not self._voted_moved and not self._has_moved():
            return None
        if self._voted_moved:
            self._voted_moved, self._voted_seq = False, seq
        membership, base = self._take_moved()
        votes, last = changes or ((), None)
        return Persist(seq, self._voted, votes, self._chosen, membership, base, last)


RaftCore.messages = SHARED_MESSAGES | {
    m.PreVote: RaftCore._on_pre_vote,
    m.PreVoteGranted: RaftCore._on_pre_vote_granted,
    m.RequestVote: RaftCore._on_request_vote,
    m.VoteGranted: RaftCore._on_vote_granted,
    m.Append: RaftCore._on_append,
    m.Appended: RaftCore._on_appended,
    m.Mismatch: RaftCore._on_mismatch,
    m.Committed: RaftCore._on_committed,
    m.Heartbeat: RaftCore._on_heartbeat,
    m.HeartbeatAck: RaftCore._on_heartbeat_ack,
    m.HigherTerm: RaftCore._on_higher_term,
}

"""One replica's acceptor, proposer and learner composed into a core.

What does not depend on the protocol stands in `consensus.member`; here are phase 1, phase 2 and the leader's pulse.
Messages to oneself take the same way as to others: a leader counts its own promise or vote only once that is durable.
Each handler begins with the ballots, for a higher one ends every lower leadership.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from quorate import limits
from quorate.consensus.core import Deliver, Persist, Recovered, Tick
from quorate.consensus.member import SHARED_MESSAGES, Member
from quorate.consensus.paxos import messages as m
from quorate.consensus.paxos.acceptor import Acceptor
from quorate.consensus.paxos.learner import Learner
from quorate.consensus.paxos.proposer import Phase, Proposer
from quorate.consensus.quorum import is_quorum
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote


class PaxosCore(Member):
    """A member of a Multi-Paxos group behind the core contract."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        self._acceptor = Acceptor(recovered)
        self._learner = Learner(recovered.chosen)
        self._proposer = Proposer()
        self._round_seen = recovered.promised.round
        self._promise_seq = 0
        """The last Persist that carried a risen promise."""
        self._renew = False
        """The membership has changed under our ballot, which has to be prepared again."""

    # --- the contract ------------------------------------------------------------------------------------------------

    @property
    def _chosen(self) -> Slot:
        return self._learner.chosen

    @property
    def _promised(self) -> Ballot:
        return self._acceptor.promised

    def _leads(self) -> bool:
        return self._proposer.phase is Phase.LEADING

    def _stands(self) -> bool:
        return self._proposer.phase is not Phase.IDLE

    def _on_tick(self, _: Tick) -> None:
        self._catch_up.tick(self._chosen)
        if not self._leads():
            self._ask_for_missing()
        self._tick_read()
        if self._leads():
            self._tick_leader()
        elif self._stands():
            if self._proposer.phase_overdue():
                self._step_down("candidacy took too long")
        elif self._election.tick():
            self._end_silence()

    # --- election and phase 1 ----------------------------------------------------------------------------------------

    def _end_silence(self) -> None:
        """Try to lead; who does not vote just believes in the silent leader no longer, and may support another."""
        if self._votes():
            self._canvass()
        else:
            self._election.wait()

    def _canvass(self) -> None:
        self._election.canvass(self._me)
        self._out.send(self._peers, m.Canvass(self._next_ballot(), self._chosen))
        self._maybe_prepare()

    def _on_canvass(self, sender: ReplicaId, message: m.Canvass) -> None:
        # It may be the last of a newer membership, and not vote in ours: then we have to catch up before we can help.
        self._catch_up.hear_of(sender, message.chosen)
        leader_lives = self._leads() or self._election.hears_leader()
        lags = message.chosen + limits.WINDOW_SLOTS < self._chosen
        stranger = sender not in self._membership.voters
        if message.ballot <= self._promised:
            self._out.send((sender,), m.Preempted(self._promised))
        elif not leader_lives and not lags and not stranger:
            self._out.send((sender,), m.Support(message.ballot))

    def _on_support(self, sender: ReplicaId, message: m.Support) -> None:
        if self._election.supporters is not None and message.ballot == self._next_ballot():
            self._election.supporters.add(sender)
            self._maybe_prepare()

    def _maybe_prepare(self) -> None:
        supporters = self._election.supporters
        if supporters is not None and is_quorum(supporters, self._membership.voters):
            self._stand()

    def _stand(self) -> None:
        ballot = self._next_ballot()
        self._election.wait()
        self._round_seen = ballot.round
        self._out.trace("prepare", ballot=ballot)
        self._prepare(ballot)

    def _next_ballot(self) -> Ballot:
        return Ballot(self._round_seen + 1, self._me)

    def _prepare(self, ballot: Ballot) -> None:
        self._renew = False
        self._proposer.prepare(ballot)
        prepare = m.Prepare(ballot, self._chosen + 1)
        self._on_prepare(self._me, prepare)
        # Prepare leaves once our own promise is durable: after a crash this ballot must never be used a second time.
        self._out.vouch(self._peers, prepare)

    def _on_prepare(self, sender: ReplicaId, message: m.Prepare) -> None:
        self._notice(message.ballot)
        if not self._acceptor.promise(message.ballot):
            self._out.send((sender,), m.Preempted(self._promised))
            return
        if sender != self._me:
            self._election.wait()
        open_votes = tuple(item for item in self._acceptor.votes.items() if item[0] >= message.first)
        self._out.vouch((sender,), m.Promise(message.ballot, self._chosen, open_votes))

    def _on_promise(self, sender: ReplicaId, message: m.Promise) -> None:
        if sender != self._me:
            self._catch_up.hear_of(sender, message.chosen)
        if self._proposer.on_promise(sender, message, self._membership.voters):
            self._maybe_lead()

    def _maybe_lead(self) -> None:
        if self._renew:
            self._prepare(self._proposer.ballot)
            return
        if not self._proposer.may_lead(self._chosen):
            self._ask_for_missing(at_once=True)
            return
        self._office.enter(self._peers, self._proposer.promisers())
        adopted = self._proposer.lead(self._chosen)
        self._out.trace("elected", ballot=self._proposer.ballot, adopted=len(adopted))
        self._election.heard(self._me)
        self._reads.reset()
        self._send_pulse()
        for slot, batch in adopted:
            self._propose_in(slot, batch)
            if Membership.of(batch):
                self._office.changing = slot
        self._fill_window()

    def _on_preempted(self, _: ReplicaId, message: m.Preempted) -> None:
        self._notice(message.ballot)

    def _notice(self, ballot: Ballot) -> None:
        self._round_seen = max(self._round_seen, ballot.round)
        if self._stands() and ballot > self._proposer.ballot:
            self._step_down(f"ballot {ballot.round}.{ballot.replica} is higher", ballot.replica)

    def _step_down(self, why: str, successor: ReplicaId | None = None) -> None:
        self._out.trace("step_down", ballot=self._proposer.ballot, why=why)
        self._renew = False
        self._proposer.resign()
        self._leave_office(successor)
        self._election.wait()

    # --- phase 2 -----------------------------------------------------------------------------------------------------

    def _fill_window(self) -> None:
        while (batch := self._office.next_batch(self._chosen, self._proposer.next_slot)) is not None:
            self._propose(batch)

    def _propose(self, batch: Batch) -> Slot:
        slot = self._proposer.next_slot
        self._propose_in(slot, batch)
        return slot

    def _propose_in(self, slot: Slot, batch: Batch) -> None:
        accept = m.Accept(self._proposer.ballot, slot, batch, self._chosen)
        self._proposer.sent(slot)
        self._out.send(self._peers, accept)
        self._accept(accept)

    def _on_accept(self, sender: ReplicaId, message: m.Accept) -> None:
        if not self._follow(sender, message.ballot):
            return
        self._accept(message)
        self._hear_prefix(sender, message.ballot, message.chosen)

    def _hear_prefix(self, leader: ReplicaId, ballot: Ballot, chosen: Slot) -> None:
        self._catch_up.hear_of(leader, chosen)
        self._learner.on_leader_prefix(ballot, chosen, self._acceptor.votes)
        self._advance()

    def _accept(self, message: m.Accept) -> None:
        """Vote, or confirm a slot known to be chosen, where a higher ballot can only propose the same value (P2b)."""
        if message.slot > self._chosen:
            if not self._acceptor.within_window(message.slot, self._chosen):
                return
            self._acceptor.accept(message.ballot, message.slot, message.batch)
        leader = message.ballot.replica  # of whom a newcomer may know nothing but this
        told = self._everyone if leader in self._everyone else (*self._everyone, leader)
        self._out.vouch(told, m.Accepted(message.ballot, message.slot))

    def _on_accepted(self, sender: ReplicaId, message: m.Accepted) -> None:
        self._notice(message.ballot)
        self._learner.on_vote(sender, message.ballot, message.slot)
        self._advance()

    def _advance(self) -> None:
        """Deliver what has become contiguous, and use the room it made in the window."""
        moved = False
        while (batch := self._learner.next_value(self._acceptor.votes, self._membership.voters)) is not None:
            self._deliver(self._chosen, batch)
            moved = True
        if moved:
            self._go_on()

    def _go_on(self) -> None:
        """Take the next step that a longer prefix allows."""
        if self._renew or self._proposer.phase is Phase.RECOVERING:
            self._maybe_lead()
        elif self._leads():
            self._fill_window()
            self._maybe_hand_over()

    def _deliver(self, slot: Slot, batch: Batch) -> None:
        self._catch_up.moved()
        self._proposer.closed(slot)
        self._acceptor.forget(slot)
        self._out.effects.append(Deliver(slot, batch))
        membership = Membership.of(batch)
        if membership is not None:
            self._on_changed(membership)

    def _on_changed(self, membership: Membership) -> None:
        """Bring a chosen membership into force: our ballot has to be prepared anew by those who vote from here on.

        One that was made for an older membership is void: a leader that had not seen it made another change first, and
        then had to adopt it. Phase 1 is run again behind it too, for what lay there was not adopted with it.
        """
        unknown = not self._membership.voters  # a newcomer takes the first it hears of
        if unknown or membership.version == self._membership.version + 1:
            self._put_in_force(membership)
            self._settle_membership(membership)
        if not self._stands():
            return
        if self._votes():
            self._renew = True
        else:
            self._step_down("no voter any more")

    def _follow(self, leader: ReplicaId, ballot: Ballot) -> bool:
        """Obey the leader of `ballot`, or tell it that a higher ballot was promised."""
        self._notice(ballot)
        if not self._acceptor.promise(ballot):
            self._out.send((leader,), m.Preempted(self._promised))
            return False
        self._election.heard(leader)
        return True

    def _take_chosen(self, first: Slot, votes: Sequence[Vote]) -> None:
        if self._leads():
            return
        for slot, vote in enumerate(votes, first):
            if slot == self._chosen + 1:
                self._acceptor.record_chosen(slot, vote)
                self._learner.extend(slot)
                self._deliver(slot, vote.batch)
                self._proposer.made_progress()
        self._ask_for_missing(at_once=bool(votes))  # a peer that is mending its own log has nothing to tell
        self._go_on()
        self._advance()

    def _jump(self, base: Base) -> None:
        self._acceptor.forget(base.slot)
        self._learner.extend(base.slot)
        self._catch_up.moved()

    # --- the leader's pulse ------------------------------------------------------------------------------------------

    def _tick_leader(self) -> None:
        if not self._office.tick(self._me, self._membership.voters):
            self._step_down("no quorum answers")
            return
        if self._office.pulse_due():
            self._send_pulse()
        for slot in self._proposer.overdue_slots():
            self._resend(slot)
        self._fill_window()
        self._maybe_hand_over()

    def _resend(self, slot: Slot) -> None:
        vote = self._acceptor.votes[slot]
        voted = self._learner.voters(slot, vote.ballot)
        silent = tuple(peer for peer in self._peers if peer not in voted)
        self._out.send(silent, m.Accept(vote.ballot, slot, vote.batch, self._chosen))
        self._proposer.sent(slot)

    def _send_pulse(self) -> None:
        self._office.pulsed()
        self._out.send(self._peers, m.Heartbeat(self._proposer.ballot, self._chosen, self._reads.round))

    def _on_heartbeat(self, sender: ReplicaId, message: m.Heartbeat) -> None:
        if not self._follow(sender, message.ballot):
            return
        # It speaks for the promise alone and need not wait for votes on their way to the disk.
        after = None if self._acceptor.promise_changed() else self._promise_seq
        self._out.vouch((sender,), m.HeartbeatAck(message.ballot, self._chosen, message.round), after)
        self._hear_prefix(sender, message.ballot, message.chosen)

    def _on_heartbeat_ack(self, sender: ReplicaId, message: m.HeartbeatAck) -> None:
        self._catch_up.hear_of(sender, message.chosen)
        if not self._leads() or message.ballot != self._proposer.ballot:
            return
        self._office.on_ack(sender)
        self._on_round(sender, message.round)
        self._maybe_promote(sender, message.chosen)

    def _barrier_slot(self) -> Slot | None:
        """Return the last slot proposed in.

        Not the end of the chosen prefix: acceptors tell all learners, so another replica may have answered a write that
        the leader does not yet know to be chosen. Behind an adopted change of membership an earlier leader may have
        gone on, and we do not know how far before our ballot is prepared again.
        """
        return None if self._office.changing > self._chosen else self._proposer.next_slot - 1

    def _may_change(self) -> bool:
        return self._leads()

    def _idle(self) -> bool:
        return self._chosen == self._proposer.next_slot - 1

    # --- effects -----------------------------------------------------------------------------------------------------

    def _take_persist(self, seq: int) -> Persist | None:
        promise_rose = self._acceptor.promise_changed()
        votes = self._acceptor.take_changes()
        if votes is None and not self._has_moved():
            return None
        if promise_rose:
            self._promise_seq = seq
        membership, base = self._take_moved()
        return Persist(seq, self._promised, votes or (), self._chosen, membership, base)


PaxosCore.messages = SHARED_MESSAGES | {
    m.Canvass: PaxosCore._on_canvass,
    m.Support: PaxosCore._on_support,
    m.Prepare: PaxosCore._on_prepare,
    m.Promise: PaxosCore._on_promise,
    m.Accept: PaxosCore._on_accept,
    m.Accepted: PaxosCore._on_accepted,
    m.Preempted: PaxosCore._on_preempted,
    m.Heartbeat: PaxosCore._on_heartbeat,
    m.HeartbeatAck: PaxosCore._on_heartbeat_ack,
}

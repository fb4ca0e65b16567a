"""One replica's acceptor, proposer, learner and election composed into a core.

A step handles one event, then collects what became dirty into one Persist, then releases the messages that vouch for
it. Messages to oneself take the same way: a leader counts its own promise or vote only once that is durable. Handlers
are found in a table by event and message type; each begins with the ballots, for a higher one ends every lower
leadership.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from quorate import limits
from quorate.consensus.core import (
    Deliver,
    Effect,
    Event,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Recovered,
    Send,
    SendChosen,
    Status,
    Tick,
    Trace,
)
from quorate.consensus.paxos import messages as m
from quorate.consensus.paxos.acceptor import Acceptor
from quorate.consensus.paxos.election import Election
from quorate.consensus.paxos.learner import Learner
from quorate.consensus.paxos.proposer import Phase, Proposer
from quorate.consensus.paxos.reads import Barrier, ReadConfirmation
from quorate.consensus.quorum import is_quorum
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

QUERY_BITS = 60


class PaxosCore:
    """A member of a Multi-Paxos group behind the core contract.

    Args: `me` and all `members` (me included), a generator for timeouts, and what the store recovered.
    """

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        assert me in members
        self._me = me
        self._members = members
        self._peers = tuple(peer for peer in members if peer != me)
        self._acceptor = Acceptor(recovered)
        self._learner = Learner(members, recovered.chosen, rng)
        self._proposer = Proposer(members)
        self._election = Election(rng)
        self._reads = ReadConfirmation(me, members)
        self._round_seen = recovered.promised.round
        self._heartbeat_ticks = 0
        self._ack_ticks: dict[ReplicaId, int] = {}
        """While LEADING: ticks since each peer last acknowledged."""
        self._read_token: int | None = None
        """The read barrier this replica waits for, and the ticks since it was last asked for."""
        self._read_ticks = 0
        self._query = rng.getrandbits(QUERY_BITS)
        """Names the present query to the leader; random, since an answer to an earlier life of ours may still be on its
        way and says too little."""
        self._persist_seq = 0
        self._promise_seq = 0
        """The last Persist that carried a risen promise."""
        self._durable_seq = 0
        self._issued: deque[tuple[int, Slot]] = deque()
        """The Persists under way, each with the chosen prefix it records."""
        self._stored_chosen = recovered.chosen
        """The chosen prefix that the store is known to hold; above it the store may still hold older, other votes."""
        self._effects: list[Effect] = []
        self._vouching: list[tuple[tuple[ReplicaId, ...], m.Message]] = []
        self._to_self: deque[tuple[int, m.Message]] = deque()

    # --- the contract ------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take one event and return its effects, in the order in which they must be carried out."""
        self._effects = []
        _EVENTS[type(event)](self, event)
        self._settle()
        return self._effects

    def status(self) -> Status:
        """Return what an operator wants to see."""
        leading = self._proposer.phase is Phase.LEADING
        trying = self._election.supporters is not None or self._proposer.phase is not Phase.IDLE
        return Status(
            role="leader" if leading else "candidate" if trying else "follower",
            leader=self._me if leading else self._election.leader,
            ballot=self._acceptor.promised,
            chosen=self._learner.chosen,
            chosen_known=max(self._learner.chosen_known, self._learner.chosen),
        )

    def accepts_proposals(self) -> bool:
        """Say whether this replica leads, or knows whom to forward to."""
        if self._proposer.phase is Phase.IDLE:
            return self._election.leader is not None
        return self._proposer.phase is Phase.LEADING

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> m.Learned:
        """Wrap chosen values read from the store as the answer to a Learn."""
        return m.Learned(first, tuple(votes), self._learner.chosen)

    # --- events ------------------------------------------------------------------------------------------------------

    def _on_tick(self, _: Tick) -> None:
        self._learner.tick()
        self._ask_for_missing()
        self._tick_read()
        if self._proposer.phase is Phase.LEADING:
            self._tick_leader()
        elif self._proposer.phase is not Phase.IDLE:
            if self._proposer.phase_overdue():
                self._step_down("candidacy took too long")
        elif self._election.tick():
            self._canvass()

    def _on_proposed(self, event: Proposed) -> None:
        if self._proposer.phase is Phase.LEADING:
            self._enqueue(event.batch)
        elif self._election.leader is not None:
            self._send((self._election.leader,), m.Forward(event.batch))

    def _on_read_requested(self, event: ReadRequested) -> None:
        self._read_token = event.token
        self._query += 1
        self._ask_barrier()

    def _on_received(self, event: Received) -> None:
        _MESSAGES[type(event.message)](self, event.sender, event.message)

    def _on_persisted(self, event: Persisted) -> None:
        assert self._durable_seq < event.seq <= self._persist_seq
        self._durable_seq = event.seq
        while self._issued and self._issued[0][0] <= event.seq:
            self._stored_chosen = self._issued.popleft()[1]

    # --- election and phase 1 ----------------------------------------------------------------------------------------

    def _canvass(self) -> None:
        self._election.canvass(self._me)
        self._send(self._peers, m.Canvass(self._next_ballot(), self._learner.chosen))
        self._maybe_prepare()

    def _on_canvass(self, sender: ReplicaId, message: m.Canvass) -> None:
        leader_lives = self._proposer.phase is Phase.LEADING or self._election.hears_leader()
        lags = message.chosen + limits.WINDOW_SLOTS < self._learner.chosen
        if message.ballot > self._acceptor.promised and not leader_lives and not lags:
            self._send((sender,), m.Support(message.ballot))
        elif message.ballot <= self._acceptor.promised:
            self._send((sender,), m.Preempted(self._acceptor.promised))

    def _on_support(self, sender: ReplicaId, message: m.Support) -> None:
        if self._election.supporters is not None and message.ballot == self._next_ballot():
            self._election.supporters.add(sender)
            self._maybe_prepare()

    def _maybe_prepare(self) -> None:
        supporters = self._election.supporters
        if supporters is None or not is_quorum(supporters, len(self._members)):
            return
        ballot = self._next_ballot()
        self._election.wait()
        self._round_seen = ballot.round
        self._proposer.prepare(ballot)
        self._trace("prepare", ballot=ballot)
        prepare = m.Prepare(ballot, self._learner.chosen + 1)
        self._on_prepare(self._me, prepare)
        # Prepare leaves once our own promise is durable: after a crash this ballot must never be used a second time.
        self._vouch(self._peers, prepare)

    def _next_ballot(self) -> Ballot:
        return Ballot(self._round_seen + 1, self._me)

    def _on_prepare(self, sender: ReplicaId, message: m.Prepare) -> None:
        self._notice(message.ballot)
        if not self._acceptor.promise(message.ballot):
            self._send((sender,), m.Preempted(self._acceptor.promised))
            return
        if sender != self._me:
            self._election.wait()
        open_votes = tuple(item for item in self._acceptor.votes.items() if item[0] >= message.first)
        self._vouch((sender,), m.Promise(message.ballot, self._learner.chosen, open_votes))

    def _on_promise(self, sender: ReplicaId, message: m.Promise) -> None:
        self._learner.hear_of(sender, message.chosen)
        if self._proposer.on_promise(sender, message):
            self._maybe_lead()

    def _maybe_lead(self) -> None:
        if not self._proposer.may_lead(self._learner.chosen):
            self._ask_for_missing(at_once=True)
            return
        adopted = self._proposer.lead(self._learner.chosen)
        self._trace("elected", ballot=self._proposer.ballot, adopted=len(adopted))
        self._election.heard(self._me)
        self._ack_ticks = dict.fromkeys(self._peers, 0)
        self._reads.reset()
        self._send_heartbeat()
        for slot, batch in adopted:
            self._propose(slot, batch)

    def _on_preempted(self, _: ReplicaId, message: m.Preempted) -> None:
        self._notice(message.ballot)

    def _notice(self, ballot: Ballot) -> None:
        """Take note of a ballot that exists; a higher one than ours ends our leadership or candidacy."""
        self._round_seen = max(self._round_seen, ballot.round)
        if self._proposer.phase is not Phase.IDLE and ballot > self._proposer.ballot:
            self._step_down(f"ballot {ballot.round}.{ballot.replica} is higher")

    def _step_down(self, why: str) -> None:
        self._trace("step_down", ballot=self._proposer.ballot, why=why)
        self._proposer.resign()
        self._reads.reset()
        self._election.wait()

    # --- phase 2 -----------------------------------------------------------------------------------------------------

    def _enqueue(self, batch: Batch) -> None:
        if not self._proposer.enqueue(batch):
            self._trace("declined", size=batch.size)
            return
        self._fill_window()

    def _fill_window(self) -> None:
        while (batch := self._proposer.next_batch(self._learner.chosen)) is not None:
            self._propose(self._proposer.next_slot, batch)

    def _propose(self, slot: Slot, batch: Batch) -> None:
        accept = m.Accept(self._proposer.ballot, slot, batch, self._learner.chosen)
        self._proposer.sent(slot)
        self._send(self._peers, accept)
        self._accept(accept)

    def _on_accept(self, sender: ReplicaId, message: m.Accept) -> None:
        if not self._follow(sender, message.ballot):
            return
        self._accept(message)
        self._learner.on_leader_prefix(message.ballot, message.chosen, self._acceptor.votes)
        self._advance()

    def _accept(self, message: m.Accept) -> None:
        """Vote, or confirm a slot known to be chosen, where a higher ballot can only propose the same value (P2b)."""
        if message.slot > self._learner.chosen:
            if not self._acceptor.within_window(message.slot, self._learner.chosen):
                return
            self._acceptor.accept(message.ballot, message.slot, message.batch)
        self._vouch(self._members, m.Accepted(message.ballot, message.slot))

    def _on_accepted(self, sender: ReplicaId, message: m.Accepted) -> None:
        self._notice(message.ballot)
        self._learner.on_vote(sender, message.ballot, message.slot)
        self._advance()

    def _advance(self) -> None:
        """Deliver what has become contiguous, and use the room it made in the window."""
        moved = False
        while (batch := self._learner.next_value(self._acceptor.votes)) is not None:
            self._deliver(self._learner.chosen, batch)
            moved = True
        if moved and self._proposer.phase is Phase.LEADING:
            self._fill_window()
        elif moved and self._proposer.phase is Phase.RECOVERING:
            self._maybe_lead()

    def _deliver(self, slot: Slot, batch: Batch) -> None:
        self._proposer.closed(slot)
        self._acceptor.forget(slot)
        self._effects.append(Deliver(slot, batch))

    def _follow(self, leader: ReplicaId, ballot: Ballot) -> bool:
        """Obey the leader of `ballot`, or tell it that a higher ballot was promised."""
        self._notice(ballot)
        if not self._acceptor.promise(ballot):
            self._send((leader,), m.Preempted(self._acceptor.promised))
            return False
        self._election.heard(leader)
        return True

    # --- the leader's pulse ------------------------------------------------------------------------------------------

    def _tick_leader(self) -> None:
        for peer in self._peers:
            self._ack_ticks[peer] += 1
        alive = {peer for peer, ticks in self._ack_ticks.items() if ticks <= limits.ELECTION_TICKS_MAX}
        if not is_quorum(alive | {self._me}, len(self._members)):
            self._step_down("no quorum answers")
            return
        self._heartbeat_ticks += 1
        if self._heartbeat_ticks >= limits.HEARTBEAT_TICKS:
            self._send_heartbeat()
        for slot in self._proposer.overdue_slots():
            self._resend(slot)

    def _resend(self, slot: Slot) -> None:
        vote = self._acceptor.votes[slot]
        voted = self._learner.voters(slot, vote.ballot)
        silent = tuple(peer for peer in self._peers if peer not in voted)
        self._send(silent, m.Accept(vote.ballot, slot, vote.batch, self._learner.chosen))
        self._proposer.sent(slot)

    def _send_heartbeat(self) -> None:
        self._heartbeat_ticks = 0
        self._send(self._peers, m.Heartbeat(self._proposer.ballot, self._learner.chosen, self._reads.round))

    def _on_heartbeat(self, sender: ReplicaId, message: m.Heartbeat) -> None:
        if not self._follow(sender, message.ballot):
            return
        self._learner.on_leader_prefix(message.ballot, message.chosen, self._acceptor.votes)
        self._vouch((sender,), m.HeartbeatAck(message.ballot, self._learner.chosen, message.round))
        self._advance()

    def _on_heartbeat_ack(self, sender: ReplicaId, message: m.HeartbeatAck) -> None:
        self._learner.hear_of(sender, message.chosen)
        if self._proposer.phase is not Phase.LEADING or message.ballot != self._proposer.ballot:
            return
        self._ack_ticks[sender] = 0
        for barrier in self._reads.on_ack(sender, message.round):
            self._answer_barrier(barrier)
        self._confirm_reads()

    def _on_forward(self, _: ReplicaId, message: m.Forward) -> None:
        if self._proposer.phase is Phase.LEADING:
            self._enqueue(message.batch)

    # --- catch-up ----------------------------------------------------------------------------------------------------

    def _ask_for_missing(self, *, at_once: bool = False) -> None:
        if self._proposer.phase is Phase.LEADING:
            return
        peer = self._learner.peer_to_ask(at_once=at_once)
        if peer is not None:
            self._send((peer,), m.Learn(self._learner.chosen + 1))

    def _on_learn(self, sender: ReplicaId, message: m.Learn) -> None:
        last = self._learner.chosen if self._durable_seq == self._persist_seq else self._stored_chosen
        if message.first <= last:
            self._effects.append(SendChosen(sender, message.first, last))

    def _on_learned(self, sender: ReplicaId, message: m.Learned) -> None:
        self._learner.hear_of(sender, message.chosen)
        if self._proposer.phase is Phase.LEADING:
            return
        self._learner.answered()
        for slot, vote in enumerate(message.votes, message.first):
            if slot == self._learner.chosen + 1:
                self._acceptor.record_chosen(slot, vote)
                self._learner.learn(slot)
                self._deliver(slot, vote.batch)
                self._proposer.made_progress()
        self._ask_for_missing(at_once=True)
        if self._proposer.phase is Phase.RECOVERING:
            self._maybe_lead()
        self._advance()

    # --- read barriers -----------------------------------------------------------------------------------------------

    def _ask_barrier(self) -> None:
        self._read_ticks = 0
        query = m.ReadQuery(self._query, self._acceptor.promised)
        if self._proposer.phase is Phase.LEADING:
            self._on_read_query(self._me, query)
        elif self._election.leader is not None:
            self._send((self._election.leader,), query)

    def _tick_read(self) -> None:
        if self._read_token is None:
            return
        self._read_ticks += 1
        if self._read_ticks >= limits.RESEND_TICKS:
            self._ask_barrier()

    def _on_read_query(self, sender: ReplicaId, message: m.ReadQuery) -> None:
        self._notice(message.ballot)
        if self._proposer.phase is not Phase.LEADING:
            return
        barrier = Barrier(sender, message.query, self._proposer.next_slot - 1)
        if self._reads.ask(barrier):
            self._answer_barrier(barrier)
        else:
            self._confirm_reads()

    def _confirm_reads(self) -> None:
        if self._reads.begin_round():
            self._send_heartbeat()

    def _answer_barrier(self, barrier: Barrier) -> None:
        answer = m.ReadAnswer(barrier.query, barrier.slot)
        if barrier.reader == self._me:
            self._on_read_answer(self._me, answer)
        else:
            self._send((barrier.reader,), answer)

    def _on_read_answer(self, _: ReplicaId, message: m.ReadAnswer) -> None:
        if self._read_token is not None and message.query == self._query:
            self._effects.append(ReadReady(self._read_token, message.slot))
            self._read_token = None

    # --- effects -----------------------------------------------------------------------------------------------------

    def _send(self, to: tuple[ReplicaId, ...], message: m.Message) -> None:
        """Send what vouches for nothing."""
        if to:
            self._effects.append(Send(to, message))

    def _vouch(self, to: tuple[ReplicaId, ...], message: m.Message) -> None:
        """Send, to ourselves too where named, once the state it speaks for is durable."""
        self._vouching.append((to, message))

    def _trace(self, what: str, **detail: Any) -> None:
        self._effects.append(Trace(what, detail))

    def _settle(self) -> None:
        """Persist what changed, release what vouches for it, and hear our own words once they are durable."""
        while True:
            self._persist()
            self._release()
            if not self._to_self or self._to_self[0][0] > self._durable_seq:
                return
            message = self._to_self.popleft()[1]
            _MESSAGES[type(message)](self, self._me, message)

    def _persist(self) -> None:
        promise_rose = self._acceptor.promise_changed()
        votes = self._acceptor.take_changes()
        if votes is not None:
            self._persist_seq += 1
            if promise_rose:
                self._promise_seq = self._persist_seq
            self._issued.append((self._persist_seq, self._learner.chosen))
            self._effects.append(Persist(self._persist_seq, self._acceptor.promised, votes, self._learner.chosen))

    def _release(self) -> None:
        vouching, self._vouching = self._vouching, []
        for to, message in vouching:
            # A HeartbeatAck speaks for the promise alone and need not wait for votes on their way to the disk.
            after = self._promise_seq if type(message) is m.HeartbeatAck else self._persist_seq
            others = self._peers if to is self._members else tuple(peer for peer in to if peer != self._me)
            if others:
                self._effects.append(Send(others, message, after if after > self._durable_seq else 0))
            if len(others) < len(to):
                self._to_self.append((after, message))


_EVENTS: dict[type[Any], Callable[[PaxosCore, Any], None]] = {
    Tick: PaxosCore._on_tick,
    Proposed: PaxosCore._on_proposed,
    ReadRequested: PaxosCore._on_read_requested,
    Received: PaxosCore._on_received,
    Persisted: PaxosCore._on_persisted,
}

_MESSAGES: dict[type[Any], Callable[[PaxosCore, ReplicaId, Any], None]] = {
    m.Canvass: PaxosCore._on_canvass,
    m.Support: PaxosCore._on_support,
    m.Prepare: PaxosCore._on_prepare,
    m.Promise: PaxosCore._on_promise,
    m.Accept: PaxosCore._on_accept,
    m.Accepted: PaxosCore._on_accepted,
    m.Preempted: PaxosCore._on_preempted,
    m.Heartbeat: PaxosCore._on_heartbeat,
    m.HeartbeatAck: PaxosCore._on_heartbeat_ack,
    m.Forward: PaxosCore._on_forward,
    m.Learn: PaxosCore._on_learn,
    m.Learned: PaxosCore._on_learned,
    m.ReadQuery: PaxosCore._on_read_query,
    m.ReadAnswer: PaxosCore._on_read_answer,
}

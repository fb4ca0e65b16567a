"""What a replica does whatever the protocol: it forwards, catches up, asks for read barriers, and changes members.

Base of the cores. A core adds how a leader is elected and how a value is chosen; here is what follows from having a
leader and a chosen prefix. A step handles one event, then collects what became dirty into one Persist, then releases
the messages that vouch for it. Handlers are found in tables by event and message type.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from quorate import limits
from quorate.consensus import membership as changes
from quorate.consensus import messages as m
from quorate.consensus.catchup import CatchUp
from quorate.consensus.core import (
    Change,
    ChangeAnswered,
    ChangeRequested,
    Effect,
    Event,
    HandOverRequested,
    Installed,
    Persist,
    Persisted,
    Proposed,
    ReadReady,
    ReadRequested,
    Received,
    Reconfigured,
    Recovered,
    SendChosen,
    SnapshotNeeded,
    Status,
    Tick,
    Trimmed,
)
from quorate.consensus.election import Election
from quorate.consensus.office import Asked, Office
from quorate.consensus.outbox import Outbox
from quorate.consensus.reads import Barrier, ReadConfirmation
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote

QUERY_BITS = 60
HANDING_OVER = "leadership is being handed over; ask again"

Handlers = dict[type[Any], Callable[[Any, ReplicaId, Any], None]]


class Member(ABC):
    """A replica's part in a group, behind the core contract; the subclasses are the protocols.

    Args: `me`, the `founding` membership (used until one is stored), a generator for timeouts, and what the store
    recovered.
    """

    messages: ClassVar[Handlers]
    """What to do about each type of message."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        self._me = me
        self._membership = self._settled = recovered.membership or founding
        """The membership in force, and the one as of the chosen prefix; a protocol may let the former run ahead."""
        self._settled_moved = recovered.membership is None
        """The store does not have it yet."""
        self._base = recovered.base
        self._base_moved = False
        self._peers = self._others()
        self._everyone = (*self._peers, me)
        self._out = Outbox(me, recovered.chosen)
        self._election = Election(rng)
        self._office = Office()
        self._catch_up = CatchUp(rng)
        self._reads = ReadConfirmation(me)
        self._read_token: int | None = None
        """The read barrier this replica waits for, and the ticks since it was last asked for."""
        self._read_ticks = 0
        self._query = rng.getrandbits(QUERY_BITS)
        """Names the present query to the leader; random, since an answer to an earlier life of ours may still be on its
        way and says too little."""
        self._change_tokens: dict[int, int] = {}
        """The query of the change last asked for here, and its token."""

    # --- what a protocol adds ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _chosen(self) -> Slot:
        """The end of the chosen prefix."""

    @property
    @abstractmethod
    def _promised(self) -> Ballot:
        """The highest ballot or term this replica is bound to."""

    @abstractmethod
    def _leads(self) -> bool:
        """Say whether this replica may propose."""

    @abstractmethod
    def _stands(self) -> bool:
        """Say whether this replica leads or tries to, so that commands may wait for its success."""

    @abstractmethod
    def _on_tick(self, event: Tick) -> None:
        """Let a tick pass."""

    @abstractmethod
    def _notice(self, ballot: Ballot) -> None:
        """Take note of a ballot that exists; a higher one than ours ends our leadership or candidacy."""

    @abstractmethod
    def _fill_window(self) -> None:
        """Propose what waits, as far as the window has room."""

    @abstractmethod
    def _propose(self, batch: Batch) -> Slot:
        """Propose a value in the next slot, and return that; called only of a leader whose way is not barred."""

    @abstractmethod
    def _may_change(self) -> bool:
        """Say whether the protocol's own rules let the leader change the membership now."""

    @abstractmethod
    def _stand(self) -> None:
        """Stand for election without asking others first."""

    @abstractmethod
    def _step_down(self, why: str, successor: ReplicaId | None = None) -> None:
        """Lead no longer, nor try to; `successor` is who does now, if that is known."""

    @abstractmethod
    def _barrier_slot(self) -> Slot | None:
        """Return the slot no answered write lies behind; None while the leader can't know it."""

    @abstractmethod
    def _send_pulse(self) -> None:
        """Let all peers hear of the leader, and acknowledge the present round of reads."""

    @abstractmethod
    def _take_chosen(self, first: Slot, votes: Sequence[Vote]) -> None:
        """Take over chosen values from a peer."""

    @abstractmethod
    def _jump(self, base: Base) -> None:
        """Take everything up to `base`, which lies ahead of the chosen prefix, to be chosen and delivered."""

    @abstractmethod
    def _take_persist(self, seq: int) -> Persist | None:
        """Return what changed since the last call, or None."""

    # --- the contract ------------------------------------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take one event and return its effects, in the order in which they must be carried out."""
        self._out.begin()
        _EVENTS[type(event)](self, event)
        self._maybe_change()
        self._out.settle(self._take_persist, self._hear_self)
        return self._out.effects

    def status(self) -> Status:
        """Return what an operator wants to see."""
        trying = self._election.supporters is not None or self._stands()
        return Status(
            role="leader" if self._leads() else "candidate" if trying else "follower",
            leader=self._me if self._leads() else self._election.leader,
            ballot=self._promised,
            chosen=self._chosen,
            chosen_known=max(self._catch_up.chosen_known, self._chosen),
            membership=self._settled,
            reached=dict(self._catch_up.reached),
        )

    def accepts_proposals(self) -> bool:
        """Say whether this replica leads, hopes to lead again, or knows whom to forward to."""
        return self._election.leader is not None

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> m.Learned:
        """Wrap chosen values read from the store as the answer to a Learn."""
        return m.Learned(first, tuple(votes), self._chosen)

    def _on_received(self, event: Received) -> None:
        self.messages[type(event.message)](self, event.sender, event.message)

    def _hear_self(self, message: Any) -> None:
        self.messages[type(message)](self, self._me, message)

    def _on_persisted(self, event: Persisted) -> None:
        self._out.on_persisted(event.seq)

    # --- commands ----------------------------------------------------------------------------------------------------

    def _on_proposed(self, event: Proposed) -> None:
        if self._stands():
            self._enqueue(event.batch)
        elif self._election.leader is not None:
            self._out.send((self._election.leader,), m.Forward(event.batch))

    def _on_forward(self, _: ReplicaId, message: m.Forward) -> None:
        if self._stands() and message.batch.size:
            self._enqueue(message.batch)

    def _enqueue(self, batch: Batch) -> None:
        if not self._office.enqueue(batch):
            self._out.trace("declined", size=batch.size)
        elif self._leads():
            self._fill_window()

    def _leave_office(self, successor: ReplicaId | None) -> None:
        """Forget what a leader holds; commands without a slot go to the successor, or are left to their submitters."""
        for batch in self._office.clear():
            if successor is not None and successor in self._peers:
                self._out.send((successor,), m.Forward(batch))
        self._reads.reset()

    # --- catch-up ----------------------------------------------------------------------------------------------------

    def _ask_for_missing(self, *, at_once: bool = False) -> None:
        peer = self._catch_up.peer_to_ask(self._chosen, at_once=at_once)
        if peer is not None:
            self._out.send((peer,), m.Learn(self._chosen + 1))

    def _on_learn(self, sender: ReplicaId, message: m.Learn) -> None:
        stored = self._out.durable_seq == self._out.persist_seq
        last = self._chosen if stored else self._out.stored_chosen
        if message.first <= self._base.slot:
            self._out.send((sender,), m.Behind(self._base.slot))
        elif message.first <= last:
            self._out.effects.append(SendChosen(sender, message.first, last))

    def _on_learned(self, sender: ReplicaId, message: m.Learned) -> None:
        self._catch_up.hear_of(sender, message.chosen)
        self._catch_up.answered()
        self._take_chosen(message.first, message.votes)

    def _on_behind(self, sender: ReplicaId, message: m.Behind) -> None:
        self._catch_up.refused(sender, message.base)
        if message.base > self._chosen:
            self._out.effects.append(SnapshotNeeded(message.base))
        self._ask_for_missing(at_once=True)

    def _on_trimmed(self, event: Trimmed) -> None:
        assert event.base.slot <= self._chosen, (event, self._chosen)
        self._move_base(event.base)

    def _on_installed(self, event: Installed) -> None:
        if event.base.slot > self._chosen:
            if self._stands():
                self._step_down("a snapshot was installed")
            self._jump(event.base)
            self._put_in_force(event.membership)
            self._settle_membership(event.membership)
        self._move_base(event.base)
        self._ask_for_missing(at_once=True)

    def _move_base(self, base: Base) -> None:
        if base.slot > self._base.slot:
            self._base = base
            self._base_moved = True

    def _has_moved(self) -> bool:
        """Say whether base or membership has to be persisted.

        A change is written as soon as it is chosen: whoever it removed may be needed until it is known for good.
        """
        return self._base_moved or (self._settled_moved and self._chosen > 0)

    def _take_moved(self) -> tuple[Membership | None, Base | None]:
        """Return membership and base for the next Persist, each only if it is another than in the last."""
        moved = (self._settled if self._settled_moved else None, self._base if self._base_moved else None)
        self._settled_moved = self._base_moved = False
        return moved

    # --- read barriers -----------------------------------------------------------------------------------------------

    def _on_read_requested(self, event: ReadRequested) -> None:
        self._read_token = event.token
        self._query += 1
        self._ask_barrier()

    def _ask_barrier(self) -> None:
        self._read_ticks = 0
        query = m.ReadQuery(self._query, self._promised)
        if self._election.leader == self._me:
            self._on_read_query(self._me, query)
        elif self._election.leader is not None:
            self._out.send((self._election.leader,), query)

    def _tick_read(self) -> None:
        if self._read_token is None:
            return
        self._read_ticks += 1
        if self._read_ticks >= limits.RESEND_TICKS:
            self._ask_barrier()

    def _on_read_query(self, sender: ReplicaId, message: m.ReadQuery) -> None:
        self._notice(message.ballot)
        slot = self._barrier_slot() if self._leads() else None
        if slot is None:
            return
        barrier = Barrier(sender, message.query, slot)
        if self._reads.ask(barrier, self._membership.voters):
            self._answer_barrier(barrier)
        else:
            self._confirm_reads()

    def _confirm_reads(self) -> None:
        if self._reads.begin_round():
            self._send_pulse()

    def _on_round(self, sender: ReplicaId, round_: int) -> None:
        """Take a peer's word that it had promised no higher ballot in `round_`."""
        for barrier in self._reads.on_ack(sender, round_, self._membership.voters):
            self._answer_barrier(barrier)
        self._confirm_reads()

    def _answer_barrier(self, barrier: Barrier) -> None:
        answer = m.ReadAnswer(barrier.query, barrier.slot)
        if barrier.reader == self._me:
            self._on_read_answer(self._me, answer)
        else:
            self._out.send((barrier.reader,), answer)

    def _on_read_answer(self, _: ReplicaId, message: m.ReadAnswer) -> None:
        if self._read_token is not None and message.query == self._query:
            self._out.effects.append(ReadReady(self._read_token, message.slot))
            self._read_token = None

    # --- members -----------------------------------------------------------------------------------------------------

    def _others(self) -> tuple[ReplicaId, ...]:
        return tuple(member for member in self._membership.members if member != self._me)

    def _votes(self) -> bool:
        return self._me in self._membership.voters

    def _on_change_requested(self, event: ChangeRequested) -> None:
        self._query += 1
        self._change_tokens = {self._query: event.token}
        query = m.ChangeQuery(self._query, event.change.replica, event.change.address)
        if self._election.leader == self._me:
            self._on_change_query(self._me, query)
        elif self._election.leader is not None:
            self._out.send((self._election.leader,), query)
        else:
            self._on_change_answer(self._me, m.ChangeAnswer(self._query, "no leader is known"))

    def _on_change_query(self, sender: ReplicaId, message: m.ChangeQuery) -> None:
        asked = self._office.asked
        if asked is not None and (asked.replica, asked.query) == (sender, message.query):
            return  # the network has doubled the question
        change = Change(message.replica, message.address)
        refusal = self._refusal(change)
        if not refusal and change.replica == self._me:
            # Gone at once, it would leave the others without a leader until they notice.
            self._office.hand_over(self._catch_up.reached, self._membership.voters)
            refusal = HANDING_OVER
        if refusal:
            self._answer_change(sender, message.query, refusal)
            return
        changed = changes.changed(self._membership, change)
        self._office.asked = Asked(sender, message.query, changed)
        self._begin_change(changed)

    def _refusal(self, change: Change) -> str:
        if not self._leads():
            return "this replica leads no longer; ask again"
        if self._changes() or not self._may_change():
            return "another change is under way; ask again"
        if self._office.successor is not None:
            return HANDING_OVER
        refusal = changes.refusal(self._membership, change, self._office.heard() | {self._me})
        others = changes.refusal(self._membership, change, self._membership.members)
        if refusal and not others and not self._office.knows_the_living():
            return f"{refusal} so far; ask again"
        return refusal

    def _changes(self) -> bool:
        return self._office.wanted is not None or self._office.changing > self._chosen

    def _begin_change(self, membership: Membership) -> None:
        self._out.trace("change", membership=membership)
        self._office.wanted = membership
        self._maybe_change()

    def _maybe_change(self) -> None:
        """Propose the change that waits, once everything proposed before it is chosen.

        Proposed sooner, it might be adopted by a later leader behind another change, made in a slot that was open.
        """
        wanted = self._office.wanted
        if wanted is not None and self._leads() and self._idle():
            self._office.wanted = None
            self._office.changing = self._propose(wanted.batch())

    def _maybe_promote(self, learner: ReplicaId, reached: Slot) -> None:
        """Let a learner vote that has caught up (Ongaro, "Consensus", §4.2.1)."""
        near = reached + limits.AHEAD_SLOTS >= self._chosen
        free = not self._changes() and self._office.successor is None and self._may_change()
        if learner in self._membership.learners and near and free:
            self._begin_change(changes.promoted(self._membership))

    def _put_in_force(self, membership: Membership) -> None:
        """Talk to these members and count these voters from now on; a canvass among others is over."""
        self._membership = membership
        self._election.supporters = None
        self._peers = self._others()
        self._everyone = (*self._peers, self._me)
        self._catch_up.keep(membership.members)
        self._office.keep(self._peers)

    def _settle_membership(self, membership: Membership) -> None:
        """Take note that a membership is chosen, and tell whoever asked for it."""
        self._settled = membership
        self._settled_moved = True
        self._out.effects.append(Reconfigured(membership))
        asked, self._office.asked = self._office.asked, None
        if asked is not None and asked.membership == membership:
            self._answer_change(asked.replica, asked.query, "")

    def _answer_change(self, asker: ReplicaId, query: int, refusal: str) -> None:
        answer = m.ChangeAnswer(query, refusal)
        if asker == self._me:
            self._on_change_answer(self._me, answer)
        else:
            self._out.send((asker,), answer)

    def _on_change_answer(self, _: ReplicaId, message: m.ChangeAnswer) -> None:
        token = self._change_tokens.pop(message.query, None)
        if token is not None:
            self._out.effects.append(ChangeAnswered(token, message.refusal))

    # --- handing over ------------------------------------------------------------------------------------------------

    def _on_hand_over_requested(self, _: HandOverRequested) -> None:
        if self._leads():
            self._office.hand_over(self._catch_up.reached, self._membership.voters)
            self._maybe_hand_over()

    def _maybe_hand_over(self) -> None:
        """Ask the successor to stand once all that was proposed is chosen, so that it has nothing to finish."""
        if self._office.successor is not None and self._idle():
            self._out.send((self._office.successor,), m.TakeOver(self._promised))

    @abstractmethod
    def _idle(self) -> bool:
        """Say whether everything proposed is chosen, so that the successor has nothing to finish."""

    def _on_take_over(self, sender: ReplicaId, message: m.TakeOver) -> None:
        # Rounds only: what a replica has promised may name another that it voted for, but not one that leads.
        of_our_time = message.ballot.round == self._promised.round and self._election.leader == sender
        if of_our_time and self._votes():
            self._stand()


_EVENTS: dict[type[Any], Callable[[Any, Any], None]] = {
    Tick: lambda member, event: member._on_tick(event),
    Proposed: Member._on_proposed,
    ReadRequested: Member._on_read_requested,
    Received: Member._on_received,
    Persisted: Member._on_persisted,
    ChangeRequested: Member._on_change_requested,
    HandOverRequested: Member._on_hand_over_requested,
    Trimmed: Member._on_trimmed,
    Installed: Member._on_installed,
}

SHARED_MESSAGES: Handlers = {
    m.Forward: Member._on_forward,
    m.Learn: Member._on_learn,
    m.Learned: Member._on_learned,
    m.Behind: Member._on_behind,
    m.ReadQuery: Member._on_read_query,
    m.ReadAnswer: Member._on_read_answer,
    m.ChangeQuery: Member._on_change_query,
    m.ChangeAnswer: Member._on_change_answer,
    m.TakeOver: Member._on_take_over,
}

"""The learner: what is chosen, and the catching up of a replica that missed some of it.

A slot is chosen once a quorum has voted in it at one ballot; acceptors tell every learner, so nobody waits for the
leader's word. The value is our own vote, provided that it was cast at that ballot or a later one: a later ballot can
only have proposed the same value ("Paxos Made Simple" P2b). Where our vote is missing or older, the value is fetched
from a peer whose prefix is longer.

Rules: `chosen` is the end of the contiguous prefix and never falls; values are delivered in slot order, once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from quorate import limits
from quorate.consensus.quorum import majority
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

PATIENCE_TICKS = 2
"""How long a gap may stand before a peer is asked: the missing messages are most likely on their way."""


class Learner:
    """The chosen prefix, the tallies above it, and at most one outstanding catch-up request."""

    def __init__(self, members: tuple[ReplicaId, ...], chosen: Slot, rng: random.Random) -> None:
        self.chosen = chosen
        self._majority = majority(len(members))
        self._rng = rng
        self._tallies: dict[Slot, tuple[Ballot, set[ReplicaId]]] = {}
        self._decided: dict[Slot, Ballot] = {}
        """Slots above the prefix known to be chosen, by a ballot at which they were."""
        self._peer_chosen: dict[ReplicaId, Slot] = {}
        self._gap_ticks = 0
        self._asked_ticks: int | None = None
        """Ticks since the outstanding Learn was sent; None when there is none."""

    # --- finding out -------------------------------------------------------------------------------------------------

    def on_vote(self, voter: ReplicaId, ballot: Ballot, slot: Slot) -> None:
        """Count one acceptor's word that it voted in `slot` at `ballot` ("Paxos Made Simple" §2.3)."""
        if slot <= self.chosen or slot > self.chosen + 2 * limits.WINDOW_SLOTS or slot in self._decided:
            return
        tally = self._tallies.get(slot)
        if tally is None or tally[0] < ballot:
            self._tallies[slot] = tally = (ballot, set())
        elif tally[0] > ballot:
            return
        tally[1].add(voter)
        if len(tally[1]) >= self._majority:
            self._decided[slot] = ballot

    def on_leader_prefix(self, ballot: Ballot, chosen: Slot, votes: dict[Slot, Vote]) -> None:
        """Take the word of the leader of `ballot` that everything up to `chosen` is chosen.

        Our vote at its very ballot is then the chosen value, for a leader extends its prefix only by slots it
        proposed in itself (see `Proposer`). A vote of an older ballot proves nothing and waits for catch-up.
        """
        self.hear_of(ballot.replica, chosen)
        for slot in range(self.chosen + 1, min(chosen, self.chosen + limits.WINDOW_SLOTS) + 1):
            vote = votes.get(slot)
            if vote is not None and vote.ballot == ballot:
                self._decided[slot] = ballot

    def next_value(self, votes: dict[Slot, Vote]) -> Batch | None:
        """Extend the prefix by one slot and return its value, if the next slot is chosen and the value is here."""
        slot = self.chosen + 1
        ballot, vote = self._decided.get(slot), votes.get(slot)
        if ballot is None or vote is None or vote.ballot < ballot:
            return None
        self._extend()
        return vote.batch

    def learn(self, slot: Slot) -> None:
        """Extend the prefix by `slot`, whose chosen value came from a peer."""
        assert slot == self.chosen + 1
        self._extend()

    def voters(self, slot: Slot, ballot: Ballot) -> Iterable[ReplicaId]:
        """Return who is known to have voted in an open slot at `ballot`."""
        tally = self._tallies.get(slot)
        return tally[1] if tally is not None and tally[0] == ballot else ()

    def _extend(self) -> None:
        self.chosen += 1
        self._decided.pop(self.chosen, None)
        self._tallies.pop(self.chosen, None)
        self._gap_ticks = 0

    # --- catching up -------------------------------------------------------------------------------------------------

    def hear_of(self, peer: ReplicaId, chosen: Slot) -> None:
        """Note how far a peer's prefix reaches."""
        if chosen > self._peer_chosen.get(peer, 0):
            self._peer_chosen[peer] = chosen

    @property
    def chosen_known(self) -> Slot:
        """The furthest slot that anyone is known to know as chosen."""
        return max(self._peer_chosen.values(), default=0) if self._peer_chosen else self.chosen

    def tick(self) -> None:
        """Let a tick pass over the gap and over the outstanding request."""
        self._gap_ticks = self._gap_ticks + 1 if self.chosen_known > self.chosen else 0
        if self._asked_ticks is not None:
            self._asked_ticks += 1

    def answered(self) -> None:
        """Note that the outstanding request was answered."""
        self._asked_ticks = None

    def peer_to_ask(self, *, at_once: bool) -> ReplicaId | None:
        """Return a peer to send Learn to now, if a gap has stood long enough (or `at_once`) and no request is fresh.

        Any peer that is ahead will do; a random one spreads the load and routes around a dead one.
        """
        far_behind = self.chosen_known > self.chosen + limits.WINDOW_SLOTS
        if not at_once and not far_behind and self._gap_ticks < PATIENCE_TICKS:
            return None
        if self._asked_ticks is not None and self._asked_ticks < limits.RESEND_TICKS:
            return None
        ahead = sorted(peer for peer, chosen in self._peer_chosen.items() if chosen > self.chosen)
        if not ahead:
            return None
        self._asked_ticks = 0
        return self._rng.choice(ahead)

"""The learner: what is chosen.

A slot is chosen once a quorum of its voters has voted in it at one ballot; acceptors tell every learner, so nobody
waits for the leader's word. The value is our own vote, provided that it was cast at that ballot or a later one: a later
ballot can only have proposed the same value ("Paxos Made Simple" P2b). Where our vote is missing or older, the value is
fetched from a peer whose prefix is longer.

Rules: `chosen` is the end of the contiguous prefix and never falls; values are delivered in slot order, once. Votes are
counted only when the prefix has come to their slot, since only then it is known who votes there.
"""

from __future__ import annotations

from collections.abc import Collection

from quorate import limits
from quorate.consensus.quorum import is_quorum
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote


class Learner:
    """The chosen prefix, and the tallies above it."""

    def __init__(self, chosen: Slot) -> None:
        self.chosen = chosen
        self._tallies: dict[Slot, tuple[Ballot, set[ReplicaId]]] = {}
        """Who is known to have voted in a slot, at the highest ballot heard of there."""
        self._decided: dict[Slot, Ballot] = {}
        """Slots above the prefix that a leader has said to be chosen, by its ballot."""

    def on_vote(self, voter: ReplicaId, ballot: Ballot, slot: Slot) -> None:
        """Take down one acceptor's word that it voted in `slot` at `ballot` ("Paxos Made Simple" §2.3)."""
        if slot <= self.chosen or slot > self.chosen + 2 * limits.WINDOW_SLOTS:
            return
        tally = self._tallies.get(slot)
        if tally is None or tally[0] < ballot:
            self._tallies[slot] = tally = (ballot, set())
        elif tally[0] > ballot:
            return
        tally[1].add(voter)

    def on_leader_prefix(self, ballot: Ballot, chosen: Slot, votes: dict[Slot, Vote]) -> None:
        """Take the word of the leader of `ballot` that everything up to `chosen` is chosen.

        Our vote at its very ballot is then the chosen value, for a leader extends its prefix only by slots it
        proposed in itself (see `Proposer`). A vote of an older ballot proves nothing and waits for catch-up.
        """
        for slot in range(self.chosen + 1, min(chosen, self.chosen + limits.WINDOW_SLOTS) + 1):
            vote = votes.get(slot)
            if vote is not None and vote.ballot == ballot:
                self._decided[slot] = ballot

    def next_value(self, votes: dict[Slot, Vote], voters: tuple[ReplicaId, ...]) -> Batch | None:
        """Extend the prefix by one slot and return its value, if `voters` have chosen it and the value is here."""
        slot = self.chosen + 1
        vote = votes.get(slot)
        if vote is None or not self._is_chosen(slot, vote.ballot, voters):
            return None
        self.extend(slot)
        return vote.batch

    def _is_chosen(self, slot: Slot, voted: Ballot, voters: tuple[ReplicaId, ...]) -> bool:
        """Say whether `slot` is known to be chosen at a ballot no higher than that of our own vote."""
        decided = self._decided.get(slot)
        if decided is not None and decided <= voted:
            return True
        tally = self._tallies.get(slot)
        return tally is not None and tally[0] <= voted and is_quorum(tally[1], voters)

    def extend(self, slot: Slot) -> None:
        """Extend the prefix to `slot`."""
        assert slot > self.chosen
        self.chosen = slot
        for known in (self._tallies, self._decided):
            for passed in [each for each in known if each <= slot]:
                del known[passed]

    def voters(self, slot: Slot, ballot: Ballot) -> Collection[ReplicaId]:
        """Return who is known to have voted in an open slot at `ballot`."""
        tally = self._tallies.get(slot)
        return tally[1] if tally is not None and tally[0] == ballot else ()

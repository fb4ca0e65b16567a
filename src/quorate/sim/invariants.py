"""The judge: what must hold at every moment of a run, whatever the faults.

It sees each Persist as it becomes durable, each message as it leaves, each delivery, and each answer to a client, and
keeps what was ever chosen across all crashes. It trusts no replica's word: a value counts as chosen when a quorum of
disks bears it. Reads and writes need no search for a linearization: the slots are one, so it is enough that no answer
shows less than an answer given before it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quorate.consensus.core import Persist
from quorate.consensus.paxos.messages import Accept, Accepted, Learned, Prepare, Promise
from quorate.errors import Broken
from quorate.limits import WINDOW_SLOTS
from quorate.sim.disk import Image
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote

COMMAND_BYTES = 5
"""A simulated command is one MessagePack uint32: its number."""

_UINT32 = b"\xce"


class Violation(Broken):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def require(condition: bool, invariant: str, *detail: object) -> None:
    """Raise `Violation` unless `condition` holds. Only then is `detail` put into words: this runs at every message."""
    if not condition:
        raise Violation(invariant, " ".join(map(str, detail)))


def batch_of(number: int) -> Batch:
    """Return the batch of one simulated command."""
    return Batch(1, _UINT32 + number.to_bytes(4, "big"))


def commands_in(batch: Batch) -> list[int]:
    """Return the numbers of the commands in a batch that cores have put together."""
    payload = batch.payload
    starts = range(0, len(payload), COMMAND_BYTES)
    whole = len(payload) == batch.size * COMMAND_BYTES and all(payload[i] == _UINT32[0] for i in starts)
    require(whole, "batches are whole", "size", batch.size, "payload", payload)
    return [int.from_bytes(payload[i + 1 : i + COMMAND_BYTES], "big") for i in starts]


class Invariants:
    """Everything a run must never do. The world reports what happens; whatever breaks a rule raises `Violation`."""

    def __init__(self, images: Mapping[ReplicaId, Image]) -> None:
        self._images = images
        self._quorum = len(images) // 2 + 1
        self.chosen: dict[Slot, Batch] = {}
        """The one value of each slot that was ever delivered."""
        self._chosen_by: dict[Slot, Ballot] = {}
        """A ballot by which the value was chosen at the latest."""
        self.first_slot: dict[int, Slot] = {}
        """Where each command was first delivered."""
        self._delivered: dict[ReplicaId, Slot] = {}
        """How far each process has delivered."""
        self._submitted: set[int] = set()
        self._answered: set[int] = set()
        self.observed: Slot = 0
        """The furthest slot that an answered call has shown to a client."""
        self._first_asked: dict[Ballot, Slot] = {}
        """From which slot on the Prepare of each ballot asks for votes."""
        self._accepts: dict[tuple[Ballot, Slot], Batch] = {}
        self._leaders: dict[Ballot, tuple[ReplicaId, int]] = {}
        self._on_message: dict[type, Callable[[ReplicaId, Any], None]] = {
            Prepare: self._on_prepare,
            Promise: self._on_promise,
            Accepted: self._on_accepted,
            Accept: self._on_accept,
            Learned: self._on_learned,
        }

    @property
    def elections(self) -> int:
        """How many ballots had a leader."""
        return len(self._leaders)

    # --- the disk ----------------------------------------------------------------------------------------------------

    def on_persist(self, replica: ReplicaId, image: Image, persist: Persist) -> None:
        """Judge a Persist that is about to become durable on `image`."""
        require(persist.promised >= image.promised, "promises are kept", "replica", replica, image.promised, persist)
        require(persist.chosen >= image.chosen, "the chosen prefix never shrinks", "replica", replica, persist)
        for slot, vote in persist.votes:
            self._judge_vote(replica, image, persist, slot, vote)
        votes = dict(persist.votes)
        for slot in range(image.chosen + 1, persist.chosen + 1):
            vote_kept = votes.get(slot) or image.votes.get(slot)
            same = vote_kept is not None and vote_kept.batch == self.chosen.get(slot)
            require(same, "the chosen prefix is on disk", "replica", replica, "slot", slot, vote_kept)

    def _judge_vote(self, replica: ReplicaId, image: Image, persist: Persist, slot: Slot, vote: Vote) -> None:
        near = slot <= persist.chosen + WINDOW_SLOTS
        require(near, "votes above the chosen prefix are bounded", "replica", replica, "slot", slot, "in", persist)
        if self.chosen.get(slot) == vote.batch:
            return  # what is chosen may be written at any time, also under an old ballot
        require(slot > image.chosen, "chosen records never change", "replica", replica, "slot", slot, vote)
        old = image.votes.get(slot)
        kept = image.promised <= vote.ballot <= persist.promised
        require(kept, "votes keep promises", "replica", replica, "slot", slot, vote, "after promise", image.promised)
        newer = old is None or vote.ballot > old.ballot or vote == old
        require(newer, "votes only move to higher ballots", "replica", replica, "slot", slot, vote, "over", old)

    # --- messages ----------------------------------------------------------------------------------------------------

    def on_send(self, replica: ReplicaId, message: Any) -> None:
        """Judge a message at the moment it leaves `replica`."""
        judge = self._on_message.get(type(message))
        if judge is not None:
            judge(replica, message)

    def _on_prepare(self, replica: ReplicaId, message: Prepare) -> None:
        require(message.ballot.replica == replica, "ballots belong to one replica", "replica", replica, message)
        first = self._first_asked.setdefault(message.ballot, message.first)
        require(first == message.first, "ballots are prepared once", "replica", replica, message, "before from", first)

    def _on_promise(self, replica: ReplicaId, message: Promise) -> None:
        image = self._images[replica]
        require(image.promised >= message.ballot, "what vouches is durable", "replica", replica, message)
        told = dict(message.votes)
        require(len(told) <= WINDOW_SLOTS, "votes above the chosen prefix are bounded", "replica", replica, message)
        require(
            message.chosen <= self._delivered[replica], "the chosen prefix is delivered", "replica", replica, message
        )
        first = max(self._first_asked[message.ballot], message.chosen + 1, image.chosen + 1)
        for slot in range(first, max(image.votes, default=0) + 1):
            vote = image.votes.get(slot)
            told_it = vote is None or vote.ballot >= message.ballot or told.get(slot) == vote
            require(told_it, "a promise tells every vote", "replica", replica, "slot", slot, vote, "not in", message)

    def _on_accepted(self, replica: ReplicaId, message: Accepted) -> None:
        image = self._images[replica]
        vote = image.votes.get(message.slot)
        voted = vote is not None and min(vote.ballot, image.promised) >= message.ballot
        # What this replica delivered is durable at a quorum: it may confirm that value under any ballot (P2b).
        durable = voted or message.slot <= self._delivered[replica]
        require(durable, "what vouches is durable", "replica", replica, message, "on disk", vote)

    def _on_accept(self, replica: ReplicaId, message: Accept) -> None:
        require(message.ballot.replica == replica, "ballots belong to one replica", "replica", replica, message)
        first = self._accepts.setdefault((message.ballot, message.slot), message.batch)
        require(first == message.batch, "one value per ballot and slot", "replica", replica, message, "before", first)
        chosen = self.chosen.get(message.slot)
        if chosen is not None and message.ballot > self._chosen_by[message.slot]:
            # P2b of "Paxos Made Simple" §2.2.
            require(message.batch == chosen, "later ballots keep the chosen value", "replica", replica, message)

    def _on_learned(self, replica: ReplicaId, message: Learned) -> None:
        for slot, vote in enumerate(message.votes, message.first):
            require(
                self.chosen.get(slot) == vote.batch, "only chosen values are taught", "replica", replica, slot, vote
            )

    # --- leaders and deliveries --------------------------------------------------------------------------------------

    def on_leader(self, replica: ReplicaId, life: int, ballot: Ballot) -> None:
        """Judge that `replica`, in its `life`, says it leads `ballot`."""
        first = self._leaders.setdefault(ballot, (replica, life))
        require(
            first == (replica, life), "one leader per ballot", ballot, "replica", replica, "life", life, "before", first
        )

    def on_boot(self, replica: ReplicaId) -> None:
        """Take down that a process starts, and with it what it need not be told again."""
        self._delivered[replica] = self._images[replica].chosen

    def on_deliver(self, replica: ReplicaId, slot: Slot, batch: Batch) -> None:
        """Judge a delivery."""
        delivered = self._delivered[replica]
        self._delivered[replica] = slot
        require(slot == delivered + 1, "deliveries have no gaps", "replica", replica, "slot", slot, "after", delivered)
        known = self.chosen.get(slot)
        if known is None:
            self._choose(replica, slot, batch)
        else:
            require(known == batch, "one value per slot", "replica", replica, "slot", slot, batch, "before", known)

    def _choose(self, replica: ReplicaId, slot: Slot, batch: Batch) -> None:
        votes = [image.votes[slot] for image in self._images.values() if slot in image.votes]
        ballots = [vote.ballot for vote in votes if vote.batch == batch]
        durable = len(ballots) >= self._quorum
        require(
            durable, "deliveries are durable at a quorum", "replica", replica, "slot", slot, batch, "on disks", votes
        )
        for command in commands_in(batch):
            require(
                command in self._submitted, "nothing is invented", "replica", replica, "slot", slot, "command", command
            )
            self.first_slot.setdefault(command, slot)
        self.chosen[slot] = batch
        self._chosen_by[slot] = max(ballots)

    # --- clients -----------------------------------------------------------------------------------------------------

    def on_submitted(self, command: int) -> None:
        """Take down that a client has called."""
        self._submitted.add(command)

    def on_answered(self, slot: Slot, command: int | None) -> None:
        """Take down that a client was shown the state as of `slot`: of its `command`, or of a read if that is None."""
        self.observed = max(self.observed, slot)
        if command is not None:
            self._answered.add(command)

    def on_barrier(self, replica: ReplicaId, observed: Slot, slot: Slot) -> None:
        """Judge a read barrier that was asked for when clients had been shown states up to `observed`."""
        require(
            slot >= observed, "reads are linearizable", "replica", replica, "may read at", slot, "clients saw", observed
        )

    # --- the end -----------------------------------------------------------------------------------------------------

    def on_end(self) -> None:
        """Judge the disks of a cluster that has come to rest."""
        require(bool(self.first_slot), "something is chosen", "no command was")
        for replica, image in self._images.items():
            log = [image.votes[slot].batch for slot in self.chosen if slot in image.votes]
            require(log == list(self.chosen.values()), "logs end equal", "replica", replica, "has", len(log), "of them")
            held = {command for batch in log for command in commands_in(batch)}
            lost = self._answered - held
            require(not lost, "nothing answered is lost", "replica", replica, "lacks", sorted(lost)[:5])

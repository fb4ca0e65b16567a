"""A store that forgets: for tests and clusters that are thrown away whole.

Its directory must be claimed in memory mode, so that a process that starts anew in it is refused rather than vote a
second time: see `identity`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from quorate.consensus.core import Persist, Recovered
from quorate.errors import Misuse, StorageBroken
from quorate.storage import Identity
from quorate.storage.identity import Claim, Mode, claim
from quorate.storage.room import Room
from quorate.types import NO_BALLOT, NO_BASE, Base, Membership, ReplicaId, Slot, Vote


class MemoryStore:
    """The `LogStore` contract on a dict. It grows with the log, as the log does on disk.

    Holds `owner`, its directory, until `close`.
    """

    blocks = False
    damaged: tuple[Slot, ...] = ()

    def __init__(self, owner: Claim | None = None) -> None:
        self._owner = owner
        self.identity = owner.identity if owner else Identity("", ReplicaId(0), 0)
        self.store_id = owner.store_id if owner else os.urandom(16)
        self.life = owner.life if owner else 1
        self.nonce = owner.nonce if owner else os.urandom(16)
        self.commits = 0
        self._promised = NO_BALLOT
        self._votes: dict[Slot, Vote] = {}
        self._chosen: Slot = 0
        self._chosen_ballot = NO_BALLOT
        self._base = NO_BASE
        self._membership: Membership | None = None

    def recover(self) -> Recovered:
        """Return what was committed to this object."""
        above = {slot: vote for slot, vote in sorted(self._votes.items()) if slot > self._chosen}
        return Recovered(self._promised, above, self._chosen, self._chosen_ballot, self._base, self._membership)

    def commit(self, persists: Sequence[Persist]) -> None:
        """Remember all of them."""
        for persist in persists:
            assert persist.chosen >= self._chosen, "the chosen prefix never shrinks"
            assert persist.promised >= self._promised, "a promise is never taken back"
            self._promised = persist.promised
            if persist.last is not None:
                self._votes = {slot: vote for slot, vote in self._votes.items() if slot <= persist.last}
            self._votes.update(persist.votes)
            if persist.base is not None:
                self._trim(persist.base)
            self._reach(persist.chosen)
            self._membership = persist.membership or self._membership
        self.commits += 1

    def _trim(self, base: Base) -> None:
        assert base.slot >= self._base.slot, "the base never goes back"
        self._base = base
        self._votes = {slot: vote for slot, vote in self._votes.items() if slot > base.slot}

    def _reach(self, chosen: Slot) -> None:
        assert chosen >= self._base.slot, "a snapshot stands for chosen slots only"
        if chosen > self._chosen:
            self._chosen_ballot = self._base.ballot if chosen == self._base.slot else self._vote(chosen).ballot
        self._chosen = chosen

    def repair(self, slot: Slot, vote: Vote) -> None:
        """Refuse: nothing is ever damaged."""
        raise Misuse(f"slot {slot} is not damaged")

    def counts(self, first: Slot, last: Slot) -> Iterator[int]:
        """Yield the number of commands per slot."""
        for slot in range(first, last + 1):
            yield self._vote(slot).batch.size

    def read(self, first: Slot, last: Slot, bytes_max: int) -> list[Vote]:
        """Return contiguous votes from `first` on."""
        votes: list[Vote] = []
        size = 0
        for slot in range(first, last + 1):
            if slot > self._chosen and slot not in self._votes:
                break
            vote = self._vote(slot)
            size += len(vote.batch.payload)
            if votes and size > bytes_max:
                break
            votes.append(vote)
        return votes

    def room(self) -> Room:
        """Return OK: there is no disk."""
        return Room.OK

    def close(self) -> None:
        """Give up the directory, if there is one."""
        if self._owner:
            self._owner.close()

    def _vote(self, slot: Slot) -> Vote:
        if slot <= self._base.slot:
            raise StorageBroken(f"slot {slot} was trimmed: the log begins behind slot {self._base.slot}")
        if slot not in self._votes:
            raise StorageBroken(f"chosen slot {slot} is missing from the log")
        return self._votes[slot]


def open_store(directory: Path, identity: Identity) -> MemoryStore:
    """Claim the directory for a store that forgets. Raises IdentityRefused where one has been before: see `claim`."""
    return MemoryStore(claim(directory, identity, Mode.MEMORY))

"""A store that forgets: for tests and clusters that are thrown away whole.

Its directory must be claimed with `durable=False`, so that a process that starts anew in it is refused rather than
vote a second time: see `identity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from quorate.consensus.core import Persist, Recovered
from quorate.errors import StorageBroken
from quorate.storage import Identity
from quorate.storage.identity import Claim, claim
from quorate.types import NO_BALLOT, Slot, Vote


class MemoryStore:
    """The `LogStore` contract on a dict. It grows with the log, as the log does on disk.

    Holds `owner`, its directory, until `close`.
    """

    blocks = False

    def __init__(self, owner: Claim | None = None) -> None:
        self._owner = owner
        self._promised = NO_BALLOT
        self._votes: dict[Slot, Vote] = {}
        self._chosen: Slot = 0

    def recover(self) -> Recovered:
        """Return what was committed to this object."""
        above = {slot: vote for slot, vote in self._votes.items() if slot > self._chosen}
        return Recovered(self._promised, above, self._chosen)

    def commit(self, persists: Sequence[Persist]) -> None:
        """Remember all of them."""
        for persist in persists:
            assert persist.chosen >= self._chosen, "the chosen prefix never shrinks"
            assert persist.promised >= self._promised, "a promise is never taken back"
            self._promised = persist.promised
            self._votes.update(persist.votes)
            self._chosen = persist.chosen

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

    def close(self) -> None:
        """Give up the directory, if there is one."""
        if self._owner:
            self._owner.close()

    def _vote(self, slot: Slot) -> Vote:
        if slot not in self._votes:
            raise StorageBroken(f"chosen slot {slot} is missing from the log")
        return self._votes[slot]


def open_store(directory: Path, identity: Identity) -> MemoryStore:
    """Claim the directory for a store that forgets. Raises IdentityRefused where one has been before: see `claim`."""
    return MemoryStore(claim(directory, identity, durable=False))

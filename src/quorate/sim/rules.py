"""What a protocol adds to the judge: its own rules, and the records of what was ever durable that they look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quorate.consensus.core import Persist
from quorate.consensus.messages import Learned
from quorate.sim.violation import require
from quorate.types import NO_BALLOT, Ballot, Batch, Membership, ReplicaId, Slot, Vote

if TYPE_CHECKING:
    from quorate.sim.invariants import Invariants


@dataclass
class Record:
    """What was durable at one replica, whatever became of its disk."""

    promised: Ballot = NO_BALLOT
    votes: dict[Slot, Vote] = field(default_factory=dict)
    """The last in each slot."""
    chosen: Slot = 0
    installed: Slot = 0
    """A snapshot from elsewhere stands for everything up to here."""

    def holds(self, slot: Slot, batch: Batch) -> bool:
        """Say whether the value of a chosen slot is kept here."""
        vote = self.votes.get(slot)
        return slot <= self.installed or (vote is not None and vote.batch == batch)

    def apply(self, persist: Persist) -> None:
        """Take over what one Persist says, except that nothing is ever trimmed."""
        self.promised, self.chosen = persist.promised, persist.chosen
        if persist.last is not None:
            self.votes = {slot: vote for slot, vote in self.votes.items() if slot <= persist.last}
        self.votes.update(persist.votes)


class Rules(ABC):
    """What one protocol promises beyond what all do. `_judges` says who judges which message."""

    def __init__(self, judge: Invariants) -> None:
        self._judge = judge
        self._judges: dict[type, Callable[[ReplicaId, Any], None]] = {Learned: self._on_learned}

    @abstractmethod
    def on_persist(self, replica: ReplicaId, record: Record, persist: Persist) -> None:
        """Judge a Persist that is about to become durable."""

    @abstractmethod
    def electorates(self, slot: Slot) -> list[Membership]:
        """Return the memberships of which a quorum may have chosen the value of `slot`, which was never delivered."""

    @abstractmethod
    def on_choose(self, slot: Slot, holding: list[Record]) -> Ballot:
        """Judge how a value was chosen that these hold, and return a ballot by which it was at the latest."""

    def on_send(self, replica: ReplicaId, message: Any) -> None:
        """Judge a message at the moment it leaves `replica`."""
        judge = self._judges.get(type(message))
        if judge is not None:
            judge(replica, message)

    def _on_learned(self, replica: ReplicaId, message: Learned) -> None:
        for slot, vote in enumerate(message.votes, message.first):
            taught = self._judge.chosen.get(slot) == vote.batch
            require(taught, "only chosen values are taught", "replica", replica, slot, vote)


RulesFactory = Callable[["Invariants"], Rules]

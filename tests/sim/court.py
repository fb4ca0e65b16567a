"""A judge, and what a test lets happen before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from quorate.consensus.core import Persist
from quorate.sim.app import batch_of as batch
from quorate.sim.app import command_of
from quorate.sim.disk import Image
from quorate.sim.invariants import Invariants
from quorate.sim.rules import RulesFactory
from quorate.sim.rules_paxos import PaxosRules
from quorate.sim.violation import Violation
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote, founding

R1, R2, R3, R4 = (ReplicaId(number) for number in (1, 2, 3, 4))
B1, B2, B3 = Ballot(1, R1), Ballot(2, R2), Ballot(3, R3)


def batch_of(number: int) -> Batch:
    """Return the batch of one numbered command."""
    return batch(command_of(number, 0, 0))


X, Y = batch_of(7), batch_of(8)
FOUNDING = founding({R1: "host1:7000", R2: "host2:7000", R3: "host3:7000"})


def members(*voters: int, version: int = 1, last_id: int = 3, learners: tuple[int, ...] = ()) -> Membership:
    """Return a membership of these."""
    ids: Mapping[ReplicaId, str] = {ReplicaId(each): f"host{each}:7000" for each in (*voters, *learners)}
    voting, learning = (tuple(ReplicaId(each) for each in some) for some in (voters, learners))
    return Membership(version, voting, learning, tuple(sorted(ids.items())), ReplicaId(last_id))


class Court:
    """A judge of three replicas, with commands 7 and 8 submitted."""

    def __init__(self, rules: RulesFactory = PaxosRules) -> None:
        self.judge = Invariants(FOUNDING, rules)
        for replica in (R1, R2, R3, R4):
            self.judge.on_boot(replica, Image())
        for command in (7, 8):
            self.judge.on_submitted(command)

    def persist(
        self,
        replica: ReplicaId,
        promised: Ballot,
        votes: list[tuple[Slot, Vote]] | None = None,
        chosen: Slot = 0,
        membership: Membership | None = None,
        base: Base | None = None,
        last: Slot | None = None,
    ) -> None:
        """Let a Persist become durable."""
        self.judge.on_persist(replica, Persist(1, promised, votes or [], chosen, membership, base, last))

    def choose(self, slot: Slot = 1, batch: Batch = X, ballot: Ballot = B1) -> None:
        """Let R1 and R2 vote, and R1 deliver."""
        for replica in (R1, R2):
            self.persist(replica, ballot, [(slot, Vote(ballot, batch))])
        self.judge.on_deliver(R1, slot, batch)


def breaks(invariant: str, act: Callable[[], object]) -> None:
    """Assert that an act breaks an invariant."""
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.invariant == invariant

"""Whole worlds: the same seed gives the same bytes, and the judge catches every broken core."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence

import pytest

from quorate.consensus.core import (
    Deliver,
    Effect,
    Event,
    Persist,
    Proposed,
    ReadReady,
    ReadRequested,
    Recovered,
    Send,
    Tick,
)
from quorate.consensus.paxos.messages import Learned, Promise
from quorate.consensus.paxos.node import PaxosCore
from quorate.sim.invariants import batch_of
from quorate.sim.machine import CoreFactory
from quorate.sim.run import run_seed
from quorate.types import NO_BALLOT, NOOP, Ballot, Batch, ReplicaId, Slot, Vote

# --- determinism -----------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run() -> None:
    assert run_seed(3) == run_seed(3)
    assert run_seed(3).digest != run_seed(4).digest


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_the_hash_seed_of_the_interpreter_changes_nothing(hash_seed: str) -> None:
    program = "from quorate.sim.run import run_seed; print(run_seed(3).digest)"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == run_seed(3).digest


def test_a_failing_seed_fails_the_same_way_again() -> None:
    first, second = run_seed(1, VouchesEarly), run_seed(1, VouchesEarly)
    assert first.failure
    assert first == second


# --- broken cores ----------------------------------------------------------------------------------------------------


class Bent(PaxosCore):
    """The real core with one of its effects bent."""

    def step(self, event: Event) -> list[Effect]:
        return [bent for effect in super().step(event) for bent in self.bend(effect)]

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect]


class VouchesEarly(Bent):
    """Sends before its disk has the state that the message speaks for."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect._replace(after=0) if isinstance(effect, Send) else effect]


class WritesNoVotes(Bent):
    """Accepts without writing down what."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect._replace(votes=[]) if isinstance(effect, Persist) else effect]


class ForgetsItsPromise(PaxosCore):
    """Starts as if it had promised nothing."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered._replace(promised=NO_BALLOT))


class ForgetsItsVotes(PaxosCore):
    """Starts as if it had never voted above its chosen prefix."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered._replace(votes={}))


class HidesItsVotes(Bent):
    """Promises without telling what it voted for."""

    def bend(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Send) and isinstance(effect.message, Promise):
            promise = effect.message
            return [effect._replace(message=Promise(promise.ballot, promise.chosen, ()))]
        return [effect]


class VotesForAnyone(PaxosCore):
    """Accepts whatever ballot it is asked for, promise or not."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        keep_promise = self._acceptor.promise

        def promise(ballot: Ballot) -> bool:
            keep_promise(ballot)
            return True

        def accept(ballot: Ballot, slot: Slot, batch: Batch) -> None:
            self._acceptor.record_chosen(slot, Vote(ballot, batch))

        self._acceptor.promise = promise  # type: ignore[method-assign]
        self._acceptor.accept = accept  # type: ignore[method-assign]


class ProposesAfresh(PaxosCore):
    """Fills open slots with no-ops instead of the votes it was told of."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        adopt = self._proposer.lead
        self._proposer.lead = lambda chosen: [(slot, NOOP) for slot, _ in adopt(chosen)]  # type: ignore[method-assign]


class DeliversEarly(PaxosCore):
    """Takes one vote for a majority."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        self._learner._majority = 1


class DeliversSomethingElse(Bent):
    """Replica 2 delivers a no-op where others deliver a command."""

    def bend(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Deliver) and self._me == 2:
            return [effect._replace(batch=NOOP)]
        return [effect]


class SkipsADelivery(Bent):
    """Replica 2 never delivers slot 5."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [] if isinstance(effect, Deliver) and effect.slot == 5 and self._me == 2 else [effect]


class RecordsTooMuch(Bent):
    """Writes down a longer chosen prefix than it has."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect._replace(chosen=effect.chosen + 1) if isinstance(effect, Persist) else effect]


class LosesItsPlace(Bent):
    """Now and then writes down an empty chosen prefix."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect._replace(chosen=0) if isinstance(effect, Persist) and effect.seq % 5 == 0 else effect]


class TeachesNonsense(PaxosCore):
    """Answers catch-up with no-ops."""

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> Learned:
        return super().chosen_message(first, [vote._replace(batch=NOOP) for vote in votes])


class ReadsItsOwnState(PaxosCore):
    """Answers read barriers at once, from its own prefix."""

    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, ReadRequested):
            return [ReadReady(event.token, self.status().chosen)]
        return super().step(event)


class ReadsUnconfirmed(PaxosCore):
    """Takes the leader's word for a read without asking whether it still leads."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        self._reads.ask = lambda _: True  # type: ignore[method-assign, assignment]


class AnswersBarriersTwice(Bent):
    """Says ReadReady once too often."""

    def bend(self, effect: Effect) -> list[Effect]:
        return [effect, effect] if isinstance(effect, ReadReady) else [effect]


class Invents(PaxosCore):
    """Proposes a command that no client ever sent."""

    def step(self, event: Event) -> list[Effect]:
        return super().step(Proposed(batch_of(2**32 - 1)) if isinstance(event, Proposed) else event)


class MiscountsCommands(PaxosCore):
    """Proposes a batch whose size is not that of its payload."""

    def step(self, event: Event) -> list[Effect]:
        return super().step(Proposed(event.batch._replace(size=2)) if isinstance(event, Proposed) else event)


class VotesWithoutBound(PaxosCore):
    """Proposes and votes however far a slot lies beyond its prefix, and never catches up."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        self._acceptor.within_window = lambda *_: True  # type: ignore[method-assign]
        self._learner.peer_to_ask = lambda **_: None  # type: ignore[method-assign]

    def _fill_window(self) -> None:
        while (batch := self._proposer.next_batch(1 << 40)) is not None:
            self._propose(self._proposer.next_slot, batch)


class NeverLeads(PaxosCore):
    """Has no sense of time, and so never stands for election."""

    def step(self, event: Event) -> list[Effect]:
        return [] if isinstance(event, Tick) else super().step(event)


class NeverCatchesUp(PaxosCore):
    """Never asks anyone for what it missed."""

    def __init__(self, me: ReplicaId, members: tuple[ReplicaId, ...], rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, members, rng, recovered)
        self._learner.peer_to_ask = lambda **_: None  # type: ignore[method-assign]


class Raises(PaxosCore):
    """Fails an assertion after a while."""

    def step(self, event: Event) -> list[Effect]:
        assert self.status().chosen < 20
        return super().step(event)


CAUGHT_BY: list[tuple[CoreFactory, set[str]]] = [
    (VouchesEarly, {"what vouches is durable"}),
    (WritesNoVotes, {"what vouches is durable"}),
    (ForgetsItsPromise, {"promises are kept"}),
    (ForgetsItsVotes, {"a promise tells every vote", "deliveries are durable at a quorum"}),
    (HidesItsVotes, {"a promise tells every vote"}),
    (VotesForAnyone, {"votes keep promises"}),
    (ProposesAfresh, {"later ballots keep the chosen value", "one value per slot"}),
    (DeliversEarly, {"deliveries are durable at a quorum"}),
    (DeliversSomethingElse, {"one value per slot", "deliveries are durable at a quorum"}),
    (SkipsADelivery, {"deliveries have no gaps"}),
    (RecordsTooMuch, {"the chosen prefix is on disk"}),
    (LosesItsPlace, {"the chosen prefix never shrinks"}),
    (TeachesNonsense, {"only chosen values are taught"}),
    (ReadsItsOwnState, {"reads are linearizable"}),
    (ReadsUnconfirmed, {"reads are linearizable"}),
    (AnswersBarriersTwice, {"barriers are answered once"}),
    (Invents, {"nothing is invented"}),
    (MiscountsCommands, {"batches are whole"}),
    (VotesWithoutBound, {"votes above the chosen prefix are bounded"}),
    (NeverLeads, {"the healed make progress"}),
    (NeverCatchesUp, {"the healed make progress"}),
    (Raises, {"no exceptions"}),
]
SEEDS_TO_CATCH = 60


@pytest.mark.parametrize(("core", "invariants"), CAUGHT_BY, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_core_is_caught(core: CoreFactory, invariants: set[str]) -> None:
    failures = (run_seed(seed, core).failure for seed in range(1, SEEDS_TO_CATCH + 1))
    assert any(failure.split(":")[0] in invariants for failure in failures)


# --- the real core ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 31))
def test_the_real_core_keeps_every_invariant(seed: int) -> None:
    report = run_seed(seed)
    assert report.failure == ""
    assert min(report.commands, report.slots, report.reads, report.elections, report.messages) > 0

"""Broken Multi-Paxos."""

from __future__ import annotations

import random

from quorate.consensus.core import Effect, Recovered, Send
from quorate.consensus.paxos.messages import Promise
from quorate.consensus.paxos.node import PaxosCore
from quorate.sim.planted.cores import Bent
from quorate.types import NO_BALLOT, NOOP, Ballot, Batch, Membership, ReplicaId, Slot, Vote


class ForgetsItsPromise(PaxosCore):
    """Starts as if it had promised nothing."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered._replace(promised=NO_BALLOT))


class ForgetsItsVotes(PaxosCore):
    """Starts as if it had never voted above its chosen prefix."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered._replace(votes={}))


class HidesItsVotes(Bent):
    """Promises without telling what it voted for."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Tell of no votes."""
        if isinstance(effect, Send) and isinstance(effect.message, Promise):
            promise = effect.message
            return [effect._replace(message=Promise(promise.ballot, promise.chosen, ()))]
        return [effect]


class VotesForAnyone(PaxosCore):
    """Accepts whatever ballot it is asked for, promise or not."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
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

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        adopt = self._proposer.lead
        self._proposer.lead = lambda chosen: [(slot, NOOP) for slot, _ in adopt(chosen)]  # type: ignore[method-assign]


class DeliversEarly(PaxosCore):
    """Takes one vote for a majority."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        next_value = self._learner.next_value
        self._learner.next_value = lambda votes, voters: next_value(votes, (me,))  # type: ignore[method-assign]


class VotesWithoutBound(PaxosCore):
    """Proposes and votes however far a slot lies beyond its prefix, and never catches up."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        self._acceptor.within_window = lambda *_: True  # type: ignore[method-assign]
        self._catch_up.peer_to_ask = lambda *_, **__: None  # type: ignore[method-assign]

    def _fill_window(self) -> None:
        while (batch := self._office.next_batch(1 << 40, 1 << 40)) is not None:
            self._propose(batch)

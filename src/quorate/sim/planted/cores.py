"""Broken cores of either protocol: the real ones with one thing bent."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

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
from quorate.consensus.member import Member
from quorate.consensus.messages import Forward, Learned
from quorate.consensus.paxos.node import PaxosCore
from quorate.consensus.quorum import is_quorum
from quorate.consensus.raft.node import RaftCore
from quorate.consensus.reads import Barrier
from quorate.sim.app import batch_of, command_of
from quorate.types import NOOP, Membership, ReplicaId, Slot, Vote


class Bent(Member):
    """The real core with one of its effects bent."""

    def step(self, event: Event) -> list[Effect]:
        """Take one event and return its effects, bent."""
        return [bent for effect in super().step(event) for bent in self.bend(effect)]

    def bend(self, effect: Effect) -> list[Effect]:
        """Return what takes the place of an effect."""
        return [effect]


class VouchesEarly(Bent):
    """Sends before its disk has the state that the message speaks for."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Let nothing wait."""
        return [effect._replace(after=0) if isinstance(effect, Send) else effect]


class WritesNoVotes(Bent):
    """Votes without writing down for what."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Leave the votes out."""
        return [effect._replace(votes=[]) if isinstance(effect, Persist) else effect]


class TrustsItsLease(Member):
    """Takes the leader's word for a read if a quorum acknowledged within an election timeout, as counted by itself."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        self._reads.ask = self._has_lease  # type: ignore[method-assign]

    def _has_lease(self, barrier: Barrier, voters: tuple[ReplicaId, ...]) -> bool:
        return is_quorum(self._office.heard() | {self._me}, voters)


class ChangesTwice(Member):
    """Proposes a change of membership while another one is open."""

    def _changes(self) -> bool:
        return False

    def _maybe_change(self) -> None:
        wanted = self._office.wanted
        if wanted is not None and self._leads():
            self._office.wanted = None
            self._office.changing = self._propose(wanted.batch())


class ForwardsTwice(Member):
    """Hands what it holds to its successor a second time when it leads no longer."""

    def _leave_office(self, successor: ReplicaId | None) -> None:
        held = list(self._office._pending)
        super()._leave_office(successor)
        for batch in held:
            if successor is not None and successor in self._peers:
                self._out.send((successor,), Forward(batch))


class NeverLeads(Member):
    """Has no sense of time, and so never stands for election."""

    def step(self, event: Event) -> list[Effect]:
        """Ignore ticks."""
        return [] if isinstance(event, Tick) else super().step(event)


class NeverCatchesUp(Member):
    """Never asks anyone for what it missed."""

    def __init__(self, me: ReplicaId, founding: Membership, rng: random.Random, recovered: Recovered) -> None:
        super().__init__(me, founding, rng, recovered)
        self._catch_up.peer_to_ask = lambda *_, **__: None  # type: ignore[method-assign]


class Raises(Member):
    """Fails an assertion after a while."""

    def step(self, event: Event) -> list[Effect]:
        """Work for twenty slots."""
        assert self._chosen < 20
        return super().step(event)


class DeliversSomethingElse(Bent):
    """Replica 2 delivers a no-op where others deliver a command."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Replace the value."""
        return [effect._replace(batch=NOOP) if isinstance(effect, Deliver) and self._me == 2 else effect]


class SkipsADelivery(Bent):
    """Replica 2 never delivers slot 5."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Drop one delivery."""
        return [] if isinstance(effect, Deliver) and effect.slot == 5 and self._me == 2 else [effect]


class RecordsTooMuch(Bent):
    """Writes down a longer chosen prefix than it has."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Add one."""
        return [effect._replace(chosen=effect.chosen + 1) if isinstance(effect, Persist) else effect]


class LosesItsPlace(Bent):
    """Now and then writes down an empty chosen prefix."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Write zero at every fifth."""
        return [effect._replace(chosen=0) if isinstance(effect, Persist) and effect.seq % 5 == 0 else effect]


class TeachesNonsense(Member):
    """Answers catch-up with no-ops."""

    def chosen_message(self, first: Slot, votes: Sequence[Vote]) -> Learned:
        """Wrap something else."""
        return super().chosen_message(first, [vote._replace(batch=NOOP) for vote in votes])


class ReadsItsOwnState(Member):
    """Answers read barriers at once, from its own prefix."""

    def step(self, event: Event) -> list[Effect]:
        """Ask nobody."""
        return [ReadReady(event.token, self._chosen)] if isinstance(event, ReadRequested) else super().step(event)


class AnswersBarriersTwice(Bent):
    """Says ReadReady once too often."""

    def bend(self, effect: Effect) -> list[Effect]:
        """Say it twice."""
        return [effect, effect] if isinstance(effect, ReadReady) else [effect]


class Invents(Member):
    """Proposes a command that no client ever sent."""

    def step(self, event: Event) -> list[Effect]:
        """Replace what is proposed."""
        invented = Proposed(batch_of(command_of(2**32, 0, 0)))
        return super().step(invented if isinstance(event, Proposed) else event)


class MiscountsCommands(Member):
    """Proposes a batch whose size is not that of its payload."""

    def step(self, event: Event) -> list[Effect]:
        """Count two."""
        return super().step(Proposed(event.batch._replace(size=2)) if isinstance(event, Proposed) else event)


def _planted_in(core: type[Any], bug: type[Any]) -> type[Any]:
    return type(f"{core.__name__}{bug.__name__}", (bug, core), {"__doc__": bug.__doc__})


def in_paxos(bug: type[Any]) -> type[Any]:
    """Return Multi-Paxos with a bug of either protocol."""
    return _planted_in(PaxosCore, bug)


def in_raft(bug: type[Any]) -> type[Any]:
    """Return Raft with a bug of either protocol."""
    return _planted_in(RaftCore, bug)

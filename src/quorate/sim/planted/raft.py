"""Broken Raft."""

from __future__ import annotations

from quorate.consensus.core import Effect, Event
from quorate.consensus.raft.messages import Appended
from quorate.consensus.raft.node import NOBODY, RaftCore
from quorate.types import NOOP, Batch, Slot


class SkipsItsNoop(RaftCore):
    """Leads without an entry of its own term, but replicates those it has found."""

    def _propose(self, batch: Batch) -> Slot:
        if batch != NOOP:
            return super()._propose(batch)
        self._replicate(self._peers)
        self._out.vouch((self._me,), Appended(self._term, self._log.last, self._chosen))
        return self._log.last


class CountsOldTerms(SkipsItsNoop):
    """Takes an entry of an earlier term for chosen once a majority has it (Ongaro and Ousterhout 2014, figure 8)."""

    def _maybe_commit(self) -> None:
        slot = self._replication.agreed(self._membership.voters)
        if slot > self._chosen:
            self._commit(slot)


class ChangesBeforeItsNoop(SkipsItsNoop):
    """Changes members before an entry of its own term is chosen (the bug in the first version of §4.1)."""

    def _may_change(self) -> bool:
        return self._leads()


class VotesTwice(RaftCore):
    """Votes for whoever asks, however often in one term."""

    def step(self, event: Event) -> list[Effect]:
        """Forget for whom it voted."""
        effects = super().step(event)
        if self._voted.replica not in (NOBODY, self._me):
            self._voted = self._voted._replace(replica=NOBODY)
        return effects

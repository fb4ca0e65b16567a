"""What a group of Persists comes to when it is committed as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quorate.consensus.core import Persist
from quorate.limits import COUNTER_MAX
from quorate.types import Ballot, Base, Membership, Slot, Vote


class Change(NamedTuple):
    """The last word on everything, after Persists were applied in order."""

    promised: Ballot
    chosen: Slot
    votes: dict[Slot, Vote]
    last: Slot
    """Votes above this slot that the store held before are gone, unless they are among `votes`."""
    base: Base
    membership: Membership | None
    """None if it stays."""


def merged(persists: Sequence[Persist], base: Base) -> Change:
    """Return what the Persists, of which there is at least one, do together to a store whose log begins at `base`."""
    votes: dict[Slot, Vote] = {}
    last: Slot = COUNTER_MAX
    membership = None
    for persist in persists:
        if persist.last is not None:
            last = min(last, persist.last)
            votes = {slot: vote for slot, vote in votes.items() if slot <= persist.last}
        votes.update(persist.votes)
        base = persist.base or base
        membership = persist.membership or membership
    return Change(persists[-1].promised, persists[-1].chosen, votes, last, base, membership)

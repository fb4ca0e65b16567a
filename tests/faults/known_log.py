"""A log whose content is known: a script of commits drawn from a seed, and what a store must hold after each of them.

Run as `python -m tests.faults.known_log DIRECTORY SEED COMMITS FD`, it carries the script out on an LMDB store and
sends one byte to the socket FD for each commit that has returned. The acknowledgement is a `sendto`, which is none of
the calls that strace counts.
"""

from __future__ import annotations

import itertools
import random
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from quorate.consensus.core import Persist
from quorate.limits import WINDOW_SLOTS
from quorate.storage import Identity, LogStore
from quorate.storage.lmdb import LmdbStore
from quorate.types import NO_BALLOT, NO_BASE, Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote, founding

IDENTITY = Identity("known", ReplicaId(1), 1)
PAYLOAD_BYTES = (16, 300, 9000)
"""A record among many on a page, one that is a page's largest, and one on pages of its own."""
READ_BYTES = 1024 * 1024


@dataclass
class Known:
    """What a store must hold: everything it was given, less what was taken back."""

    promised: Ballot = NO_BALLOT
    chosen: Slot = 0
    base: Base = NO_BASE
    membership: Membership | None = None
    votes: dict[Slot, Vote] = field(default_factory=dict)
    """Above the base."""

    @staticmethod
    def told_by(store: LogStore, repairs: Mapping[Slot, Vote]) -> Known:
        """Return what `store`, freshly opened, holds once what it finds damaged is repaired. Raises what it raises."""
        recovered = store.recover()
        for slot in store.damaged:
            store.repair(slot, repairs[slot])
        votes = dict(recovered.votes)
        first = recovered.base.slot + 1
        while first <= recovered.chosen:
            for vote in store.read(first, recovered.chosen, READ_BYTES):
                votes[first] = vote
                first += 1
        return Known(recovered.promised, recovered.chosen, recovered.base, recovered.membership, votes)


def known_after(seed: int, commits: int) -> Known:
    """Return what a store holds after so many commits of the script."""
    states = itertools.chain([Known()], (known for _, known in script(seed)))
    return next(itertools.islice(states, commits, None))


def script(seed: int) -> Iterator[tuple[list[Persist], Known]]:
    """Yield groups to commit, and what is known after each.

    There are votes, votes again and votes taken back, promises, memberships, a growing prefix and a base that follows.
    """
    draw = random.Random(f"known log {seed}")
    known = Known()
    while True:
        group = [_persist(draw, known) for _ in range(draw.choice((1, 1, 1, 3)))]
        yield group, replace(known, votes=dict(known.votes))


def _persist(draw: random.Random, known: Known) -> Persist:
    """Draw one Persist, and have `known` follow it."""
    if draw.random() < 0.1 or known.promised == NO_BALLOT:
        known.promised = Ballot(known.promised.round + 1, ReplicaId(draw.randint(1, 3)))
    last = _take_back(draw, known) if draw.random() < 0.05 else None
    votes = _vote(draw, known)
    known.chosen = draw.randint(known.chosen, max(known.votes, default=known.chosen))
    membership = _change(draw, known) if draw.random() < 0.1 else None
    base = _trim(draw, known) if draw.random() < 0.1 else None
    return Persist(0, known.promised, votes, known.chosen, membership, base, last)


def _take_back(draw: random.Random, known: Known) -> Slot:
    last = draw.randint(known.chosen, known.chosen + WINDOW_SLOTS)
    known.votes = {slot: vote for slot, vote in known.votes.items() if slot <= last}
    return last


def _vote(draw: random.Random, known: Known) -> list[tuple[Slot, Vote]]:
    """Vote on from any slot above the prefix, without a gap."""
    highest = max(known.votes, default=known.chosen)
    first = draw.randint(known.chosen + 1, highest + 1)
    end = min(highest + draw.randint(1, 4), known.chosen + WINDOW_SLOTS)
    votes = [(slot, Vote(known.promised, _batch(draw))) for slot in range(first, end + 1)]
    known.votes |= dict(votes)
    return votes


def _change(draw: random.Random, known: Known) -> Membership:
    version = known.membership.version + 1 if known.membership else 1
    members = [ReplicaId(number) for number in range(1, draw.randint(2, 6))]
    known.membership = founding({member: f"10.0.0.{member}:{version}" for member in members})
    return known.membership


def _trim(draw: random.Random, known: Known) -> Base:
    """Have the log begin later: within the prefix, or, where a snapshot came from elsewhere, far behind all of it."""
    arrived = draw.random() < 0.2
    slot = known.chosen + 3 * WINDOW_SLOTS if arrived else draw.randint(known.base.slot, known.chosen)
    known.base = Base(slot, 5 * slot, known.promised)
    known.chosen = max(known.chosen, slot)
    known.votes = {slot: vote for slot, vote in known.votes.items() if slot > known.base.slot}
    return known.base


def _batch(draw: random.Random) -> Batch:
    return Batch(draw.randint(0, 9), draw.randbytes(draw.choice(PAYLOAD_BYTES)))


def carry_out(directory: Path, seed: int, commits: int, acknowledge: socket.socket | None = None) -> None:
    """Make a store in `directory` and do the first `commits` commits of the script."""
    store = LmdbStore(directory, IDENTITY)
    store.recover()
    for (group, _), _ in zip(script(seed), range(commits), strict=False):
        store.commit(group)
        if acknowledge:
            acknowledge.send(b".")
    store.close()


if __name__ == "__main__":
    carry_out(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), socket.socket(fileno=int(sys.argv[4])))

"""Who is asked for which chunk of a snapshot that is being fetched.

Every chunk is asked of one peer at a time, and of every peer only so many at a time, so that a fast peer brings more of
them than a slow one. Chunks are asked for by their hash: whoever holds the same snapshot has them all and is asked in
order; the others hold snapshots of other indices, may have many all the same, and are asked at random until too many
were missing in a row. What is not answered in time is asked of whoever is free next.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from quorate import limits
from quorate.types import ReplicaId

PICKS = 8
"""Tries to find, at random, a chunk a peer was not found to lack."""


class ChunkRequests:
    """The chunks with hashes `wanted`, to be got from peers. Times are of any one clock, in seconds."""

    def __init__(self, wanted: Iterable[bytes], rng: random.Random) -> None:
        self._wanted = [*wanted][::-1]
        self._rng = rng
        self._asked: dict[bytes, tuple[ReplicaId, float]] = {}
        self._open: Counter[ReplicaId] = Counter()
        self._lacking: defaultdict[ReplicaId, set[bytes]] = defaultdict(set)
        self._misses: Counter[ReplicaId] = Counter()
        self._shunned: set[ReplicaId] = set()

    def next(self, peer: ReplicaId, now: float, *, whole: bool) -> bytes | None:
        """Return the chunk to ask of `peer` now, if any; `whole` says that it holds this very snapshot."""
        if not self._useful(peer) or self._open[peer] >= limits.SNAPSHOT_REQUESTS_MAX:
            return None
        lacking = self._lacking[peer]
        for _ in range(PICKS):
            if not self._wanted:
                break
            place = len(self._wanted) - 1 if whole and not lacking else self._rng.randrange(len(self._wanted))
            hash_ = self._wanted[place]
            if hash_ not in lacking:
                self._wanted[place] = self._wanted[-1]
                self._wanted.pop()
                self._asked[hash_] = (peer, now)
                self._open[peer] += 1
                return hash_
        return None

    def arrived(self, peer: ReplicaId, hash_: bytes) -> None:
        """Take note that a chunk is there, whoever was asked for it."""
        self._misses[peer] = 0
        if hash_ in self._asked:
            self._open[self._asked.pop(hash_)[0]] -= 1
        elif hash_ in self._wanted:
            self._wanted.remove(hash_)

    def missing(self, peer: ReplicaId, hash_: bytes) -> None:
        """Take note that `peer` does not have a chunk."""
        self._lacking[peer].add(hash_)
        self._misses[peer] += 1
        if hash_ in self._asked and self._asked[hash_][0] == peer:
            self._return(hash_)

    def shun(self, peer: ReplicaId) -> None:
        """Ask nothing more of `peer`: what it sends is not what it was asked for."""
        self._shunned.add(peer)
        for hash_ in [hash_ for hash_, (asked, _) in self._asked.items() if asked == peer]:
            self._return(hash_)

    def expire(self, now: float) -> None:
        """Let what was not answered in time be asked again."""
        for hash_, (_, since) in list(self._asked.items()):
            if now - since > limits.SNAPSHOT_REQUEST_SECONDS_MAX:
                self._return(hash_)

    def hopeless(self, peers: Collection[ReplicaId]) -> bool:
        """Say whether none of these peers has any of what is left."""
        left = set(self._wanted)
        return not self._asked and all(not self._useful(peer) or left <= self._lacking[peer] for peer in peers)

    def _useful(self, peer: ReplicaId) -> bool:
        return peer not in self._shunned and self._misses[peer] < limits.SNAPSHOT_MISSES_MAX

    def _return(self, hash_: bytes) -> None:
        peer, _ = self._asked.pop(hash_)
        self._open[peer] -= 1
        self._wanted.append(hash_)

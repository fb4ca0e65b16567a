"""The session table: what was executed, so that nothing is executed twice (P4).

It is a function of the log and of the outcomes alone, so every replica holds the same table at the same index.
Windows are counted in index positions, never in time. A command is judged when its turn comes, not when it is
submitted, for only then is it certain what came before it.

What is forgotten is refused, not executed: a command stamped before the oldest remembered position may have been
executed already, and a key whose outcome is gone is remembered as a bare tombstone for some time longer (Ongaro,
"Consensus", §6.3: an expired session).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from quorate import limits
from quorate.protocols.problems import problem
from quorate.types import Command, Index, Outcome

OUTCOME_OVERHEAD_BYTES = 256
"""What a session costs beside its outcome's bytes; part of the agreed eviction rule, so it must not differ by replica.
"""


class Session(msgspec.Struct, frozen=True, gc=False):
    """A request id that was executed, at which index, and what came of it."""

    index: Index
    fingerprint: bytes
    outcome: Outcome


class Verdict(NamedTuple):
    """What to do with a command whose turn has come: execute it if `outcome` is None, else answer with that."""

    outcome: Outcome | None
    replayed: bool = False


EXECUTE = Verdict(None)


KEY_REUSED = problem(
    422,
    "key_reused",
    "The Idempotency-Key was used for another request",
    "send a new key with a new request, or the same request with its key",
)
WINDOW_EXPIRED = problem(
    409,
    "dedup_window_expired",
    "The first answer to this request is no longer stored",
    "it may have been executed long ago and was not executed again; look at its effect before sending a new key",
)


class SessionTable:
    """Sessions by request id, oldest first, bounded by positions and by bytes."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._order: deque[bytes] = deque()
        self._bytes = 0
        self._tombstones: set[bytes] = set()
        self._buried: deque[tuple[Index, bytes]] = deque()
        self._floor: Index = 0
        """Every session up to this index has been evicted."""

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, request_id: bytes) -> Session | None:
        """Return the session of a request id, if its outcome is still stored."""
        return self._sessions.get(request_id)

    def judge(self, command: Command) -> Verdict:
        """Decide about a command when its turn comes."""
        session = self._sessions.get(command.request_id)
        if session is not None:
            if session.fingerprint != command.fingerprint:
                return Verdict(KEY_REUSED)
            return Verdict(session.outcome, replayed=True)
        if command.request_id in self._tombstones or command.stamp < self._floor:
            return Verdict(WINDOW_EXPIRED)
        return EXECUTE

    def store(self, index: Index, command: Command, outcome: Outcome) -> None:
        """Remember an execution; every EVICTION_INTERVAL, forget what is out of the window or too much."""
        self._sessions[command.request_id] = Session(index, command.fingerprint, outcome)
        self._order.append(command.request_id)
        self._bytes += _weight(outcome)
        if index % limits.EVICTION_INTERVAL == 0:
            self._evict_beyond(index)

    def _evict_beyond(self, index: Index) -> None:
        oldest = self._sessions[self._order[0]].index
        while oldest <= index - limits.SESSION_WINDOW or self._bytes > limits.SESSION_BYTES_MAX:
            self._evict()
            oldest = self._sessions[self._order[0]].index
        while self._buried and self._buried[0][0] <= index - limits.TOMBSTONE_WINDOW:
            self._tombstones.discard(self._buried.popleft()[1])

    def _evict(self) -> None:
        request_id = self._order.popleft()
        session = self._sessions.pop(request_id)
        self._bytes -= _weight(session.outcome)
        self._floor = session.index
        if session.fingerprint:
            self._tombstones.add(request_id)
            self._buried.append((session.index, request_id))


def _weight(outcome: Outcome) -> int:
    return len(outcome.head) + len(outcome.body) + OUTCOME_OVERHEAD_BYTES

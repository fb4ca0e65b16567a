"""The session table: what was executed, so that nothing is executed twice (P4).

It is a function of the log and of the outcomes alone, so every replica holds the same table at the same index. Windows
are counted in index positions, never in time. A command is judged when its turn comes, not when it is submitted, for
only then is it certain what came before it.

What may have been forgotten is refused, not executed (Ongaro, "Consensus", §6.3: an expired session). An outcome goes
when it leaves the window or when there are too many bytes of them; its request id stays, as a bare tombstone. A command
that was submitted more than a window ago is refused too: the tombstone of its first execution may be gone. A client's
key may come back much later in a new submission, so the tombstones of keys stay for longer.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from quorate import limits
from quorate.errors import StorageBroken
from quorate.protocols.problems import problem
from quorate.types import Command, Index, Outcome

OUTCOME_OVERHEAD_BYTES = 256
"""What a session costs beside its outcome's bytes; part of the agreed eviction rule, so it must not differ by replica.
"""


class Session(msgspec.Struct, frozen=True, array_like=True, gc=False):
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


Burial = tuple[Index, bytes]
"""Up to which index a request id is remembered."""


class _SessionSlice(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True):
    """Sessions by request id, oldest first."""

    rows: list[tuple[bytes, Session]]


class _BurialSlice(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """Tombstones of ids without a key, in the order in which they are forgotten."""

    rows: list[Burial]


class _KeyedBurialSlice(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """The same of keys."""

    rows: list[Burial]


_slice_encoder = msgspec.msgpack.Encoder()
_slice_decoder = msgspec.msgpack.Decoder(_SessionSlice | _BurialSlice | _KeyedBurialSlice)
_LENGTH = struct.Struct(">I")


class SessionTable:
    """Sessions by request id, oldest first, bounded by positions and by bytes."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._order: deque[bytes] = deque()
        self._bytes = 0
        self._tombstones: dict[bytes, Index] = {}
        """Request ids that were executed and whose outcome is gone, with the index up to which they are remembered."""
        self._burials: deque[Burial] = deque()
        self._keyed_burials: deque[Burial] = deque()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, request_id: bytes) -> Session | None:
        """Return the session of a request id, if its outcome is still stored."""
        return self._sessions.get(request_id)

    def judge(self, index: Index, command: Command) -> Verdict:
        """Decide about the command at `index`, given everything before it.

        That it may be executed holds already before the answers to others are in: nothing but an execution of its own
        request id can change it.
        """
        session = self._sessions.get(command.request_id)
        if session is not None:
            if session.fingerprint != command.fingerprint:
                return Verdict(KEY_REUSED)
            return Verdict(session.outcome, replayed=True)
        if command.request_id in self._tombstones or command.stamp < index - limits.SESSION_WINDOW:
            return Verdict(WINDOW_EXPIRED)
        return EXECUTE

    def store(self, index: Index, command: Command, outcome: Outcome) -> None:
        """Remember an execution, and forget what its position or its size pushes out."""
        self._sessions[command.request_id] = Session(index, command.fingerprint, outcome)
        self._order.append(command.request_id)
        self._bytes += _weight(outcome)
        while self._bytes > limits.SESSION_BYTES_MAX or self._oldest() <= index - limits.SESSION_WINDOW:
            self._evict()
        self._exhume(self._burials, index)
        self._exhume(self._keyed_burials, index)

    def dump(self) -> Iterator[bytes]:
        """Copy the table now, and yield the copy in slices, to be encoded wherever the iterator is taken.

        Equal tables give equal slices. A slice ends at a multiple of SESSION_SLICE positions, so that tables at
        different indices have most of them in common.
        """
        return _slices(self._sessions.copy(), self._burials.copy(), self._keyed_burials.copy())

    @classmethod
    def load(cls, data: Iterable[bytes]) -> SessionTable:
        """Return the table whose slices are in `data`, cut anywhere. Raises `StorageBroken` on nonsense."""
        table = cls()
        try:
            for one in _framed(data):
                table._add(_slice_decoder.decode(one))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StorageBroken(f"session table of a snapshot does not decode: {error}") from error
        return table

    def _add(self, part: _SessionSlice | _BurialSlice | _KeyedBurialSlice) -> None:
        if isinstance(part, _SessionSlice):
            self._sessions.update(part.rows)
            self._order.extend(request_id for request_id, _ in part.rows)
            self._bytes += sum(_weight(session.outcome) for _, session in part.rows)
        else:
            self._tombstones.update((request_id, until) for until, request_id in part.rows)
            (self._keyed_burials if isinstance(part, _KeyedBurialSlice) else self._burials).extend(part.rows)

    def _oldest(self) -> Index:
        return self._sessions[self._order[0]].index

    def _evict(self) -> None:
        """Drop the oldest outcome; its id stays while a command that bears it could still pass for a new one."""
        request_id = self._order.popleft()
        session = self._sessions.pop(request_id)
        self._bytes -= _weight(session.outcome)
        keyed = bool(session.fingerprint)
        until = session.index + (limits.TOMBSTONE_WINDOW if keyed else limits.SESSION_WINDOW)
        self._tombstones[request_id] = until
        (self._keyed_burials if keyed else self._burials).append((until, request_id))

    def _exhume(self, burials: deque[tuple[Index, bytes]], index: Index) -> None:
        while burials and burials[0][0] <= index:
            del self._tombstones[burials.popleft()[1]]


def _weight(outcome: Outcome) -> int:
    return len(outcome.head) + len(outcome.body) + OUTCOME_OVERHEAD_BYTES


def _slices(sessions: dict[bytes, Session], burials: deque[Burial], keyed: deque[Burial]) -> Iterator[bytes]:
    """Yield the table in slices, each with its length before it."""
    for _, rows in itertools.groupby(sessions.items(), lambda row: row[1].index // limits.SESSION_SLICE):
        yield _frame(_SessionSlice(list(rows)))
    for kind, buried in ((_BurialSlice, burials), (_KeyedBurialSlice, keyed)):
        for _, graves in itertools.groupby(buried, lambda row: row[0] // limits.SESSION_SLICE):
            yield _frame(kind(list(graves)))


def _frame(part: _SessionSlice | _BurialSlice | _KeyedBurialSlice) -> bytes:
    data = _slice_encoder.encode(part)
    return _LENGTH.pack(len(data)) + data


def _framed(data: Iterable[bytes]) -> Iterator[memoryview]:
    """Cut a stream into what `_frame` made."""
    buffer = bytearray()
    for piece in data:
        buffer += piece
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                break
            yield memoryview(bytes(buffer[_LENGTH.size : end]))
            del buffer[:end]
    if buffer:
        raise StorageBroken("session table of a snapshot is cut short")

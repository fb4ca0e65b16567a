"""The nouns every floor shares.

A client's request becomes a `Command` once, at the replica that took it, and stays opaque bytes on every floor below
`replica`. Commands travel in a `Batch`; a batch is one consensus value. What the service answers is an `Outcome`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, NewType

import msgspec

ReplicaId = NewType("ReplicaId", int)
"""A member of the cluster, counted from 1."""

Slot = int
"""A place in the sequence of consensus values, counted from 1; 0 means none."""

Index = int
"""A place of one command in the total order, counted from 1 without gaps; 0 means none."""


class Batch(NamedTuple):
    """The commands of one consensus value: `payload` holds `size` msgpack objects back to back.

    Batches join by concatenation, so a leader merges what followers forward without decoding it. A no-op has size 0.
    """

    size: int
    payload: bytes


NOOP = Batch(0, b"")


class Ballot(NamedTuple):
    """A leadership attempt, totally ordered, made unique by the replica ("Paxos Made Simple" §2.2)."""

    round: int
    replica: ReplicaId


NO_BALLOT = Ballot(0, ReplicaId(0))


class Vote(NamedTuple):
    """What an acceptor accepted in one slot: the highest ballot it voted in, and that ballot's value."""

    ballot: Ballot
    batch: Batch


class Call(msgspec.Struct, frozen=True, gc=False):
    """A client's request in canonical form, as the service shall get it, less what is injected at delivery.

    `head` is the request line and the end-to-end field lines (with Host, Via and, where there is a body,
    Content-Length), each ended by CRLF, without the blank line.
    """

    method: bytes
    head: bytes
    body: bytes


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One client operation as it is ordered: the call and all that must be decided once rather than by each replica."""

    request_id: bytes
    """16 bytes: random, or derived from the client's Idempotency-Key."""
    stamp: Index
    """Index applied at the submitter when it submitted: a command delivered a session window later is refused."""
    time_ms: int
    """Wall clock of the submitter, milliseconds since the epoch; the agreed time is the running maximum."""
    seed: int
    """Agreed randomness, 64 bits."""
    fingerprint: bytes
    """16 bytes over method, target and body where the client sent an Idempotency-Key, else empty."""
    method: bytes
    head: bytes
    body: bytes


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The service's answer to one call.

    `head` holds the end-to-end field lines, each ended by CRLF, without status line, framing fields or blank line; only
    the answer to a HEAD, or a 304, keeps its Content-Length there, since it describes a body that is not sent.
    """

    status: int
    head: bytes
    body: bytes


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a replica hands back for a call: the outcome and where in the total order it belongs."""

    outcome: Outcome
    index: Index
    request_id: bytes = b""
    replayed: bool = False
    """The outcome was stored by an earlier execution of the same request id."""


class ReadMode(enum.Enum):
    """How a call that stays off the log is served."""

    LINEARIZABLE = "read"
    """After a read barrier: no older than any write answered before it arrived (P3)."""
    STALE = "stale"
    """From this replica as it is."""
    PASS = "pass"  # noqa: S105 - a route mode, not a credential
    """Handed to the local service without a place in the order; the service may even be catching up."""

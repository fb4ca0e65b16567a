"""The nouns every floor shares.

A client's request becomes a `Command` once, at the replica that took it, and stays opaque bytes on every floor below
`replica`. Commands travel in a `Batch`; a batch is one consensus value. What the service answers is an `Outcome`. Who
takes part in the consensus is a `Membership`, which is ordered like any other value.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple, NewType

import msgspec

ReplicaId = NewType("ReplicaId", int)
"""A member of the cluster, counted from 1 in the order of coming."""

Slot = int
"""A place in the sequence of consensus values, counted from 1; 0 means none."""

Index = int
"""A place of one command in the total order, counted from 1 without gaps; 0 means none."""


class Batch(NamedTuple):
    """The commands of one consensus value: `payload` holds `size` msgpack objects back to back.

    Batches join by concatenation, so a leader merges what followers forward without decoding it. A batch of size 0
    changes no service: it is a no-op if it is empty, else its payload is a `Membership`.
    """

    size: int
    payload: bytes


NOOP = Batch(0, b"")


class Membership(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who takes part in the consensus from the slot after the one it was chosen in.

    A learner hears and stores everything and counts in no quorum; the leader makes it a voter once it has caught up.
    """

    version: int
    """Changes since the cluster was founded."""
    voters: tuple[ReplicaId, ...]
    """Ascending."""
    learners: tuple[ReplicaId, ...]
    """Ascending; at most one at a time."""
    addresses: tuple[tuple[ReplicaId, str], ...]
    """Where each voter and learner listened for its peers when it came, ascending by replica; it may move later."""
    last_id: ReplicaId
    """The highest id ever given. An id is never given a second time: what it once promised can't be known."""

    @property
    def members(self) -> tuple[ReplicaId, ...]:
        """Voters and learners, ascending."""
        return tuple(sorted(self.voters + self.learners))

    def batch(self) -> Batch:
        """Return the consensus value that brings this membership into force."""
        return Batch(0, _membership_encoder.encode(self))

    @staticmethod
    def of(batch: Batch) -> Membership | None:
        """Return the membership that `batch` holds; None if it holds commands or nothing.

        Raises msgspec.MsgspecError on nonsense, which a leader never proposes.
        """
        return None if batch.size or not batch.payload else _membership_decoder.decode(batch.payload)


_membership_encoder = msgspec.msgpack.Encoder()
_membership_decoder = msgspec.msgpack.Decoder(Membership)


def founding(addresses: Mapping[ReplicaId, str]) -> Membership:
    """Return the membership a cluster is founded with: all of `addresses` vote. Empty for a replica that is to join."""
    members = tuple(sorted(addresses))
    return Membership(0, members, (), tuple(sorted(addresses.items())), max(members, default=ReplicaId(0)))


class Ballot(NamedTuple):
    """A leadership attempt, totally ordered, made unique by the replica ("Paxos Made Simple" §2.2)."""

    round: int
    replica: ReplicaId


NO_BALLOT = Ballot(0, ReplicaId(0))


class Vote(NamedTuple):
    """What an acceptor accepted in one slot: the highest ballot it voted in, and that ballot's value."""

    ballot: Ballot
    batch: Batch


class Base(NamedTuple):
    """Where a log begins: everything up to `slot` is replaced by a snapshot, or by nothing if `slot` is 0."""

    slot: Slot
    index: Index  # type: ignore[assignment]  # a tuple has a method of that name, which nobody calls on this one
    """Of the last command up to `slot`."""
    ballot: Ballot
    """Of the vote in `slot`: Raft's lastIncludedTerm (Ongaro, "Consensus", §5.1)."""


NO_BASE = Base(0, 0, NO_BALLOT)


class Call(msgspec.Struct, frozen=True, gc=False):
    """A client's request in canonical form, as the service shall get it, less what is injected at delivery.

    `head` is the request line and the end-to-end field lines (with Host, X-Forwarded-For, Via and, where there is a
    body, Content-Length), each ended by CRLF, without the blank line.
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

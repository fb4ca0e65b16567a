"""Log records as bytes.

A log record is one vote in an envelope that names its store and its slot, so that a record which was damaged, copied in
from another replica or filed under another slot is refused rather than believed: the store beneath does not detect any
of these (FAULTS.md §0.1). The meta record and the membership have envelopes of their own.

Rules: what is refused is refused with `StorageBroken`, and no other exception leaves this module, whatever the bytes.
Formats carry a version, and another version is refused. The checksum is that of `wire`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from quorate.errors import StorageBroken
from quorate.limits import LOG_DIGEST_SUMS
from quorate.types import Ballot, Base, Batch, Membership, ReplicaId, Slot, Vote
from quorate.wire import UNDECODABLE

_RECORD_VERSION = 1
_META_VERSION = 0x82  # disjoint from record versions: none can pass for another
_MEMBERSHIP_VERSION = 0xC1
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">IBQQQII")  # crc of the rest, version, identity tag, slot, ballot, commands; then the payload
_META = struct.Struct(f">IBQ QIQ QI QQQI QII {LOG_DIGEST_SUMS}Q")  # crc of the rest, version, tag, StoreMeta in order
_MEMBERSHIP = struct.Struct(">IBQ")  # crc of the rest, version, identity tag; then the membership as MessagePack
_DIGESTED = struct.Struct(">QI")
_REJOIN = "this replica must rejoin as a new member"


def encode_record(identity_tag: int, slot: Slot, vote: Vote) -> bytes:
    """Return a vote in its envelope. `identity_tag` is 64 bits that tell this replica's store from any other."""
    (round_, replica), (size, payload) = vote
    rest = _RECORD.pack(0, _RECORD_VERSION, identity_tag, slot, round_, replica, size)[_CRC.size :]
    return b"".join((_CRC.pack(crc32(payload, crc32(rest))), rest, payload))


def decode_record(identity_tag: int, slot: Slot, data: bytes | memoryview) -> Vote:
    """Return the vote of `slot`. Raises `StorageBroken` naming the slot if `data` is anything but what was encoded."""
    round_, replica, size = check_record(identity_tag, slot, data)
    return Vote(Ballot(round_, ReplicaId(replica)), Batch(size, bytes(data[_RECORD.size :])))


def check_record(identity_tag: int, slot: Slot, data: bytes | memoryview) -> tuple[int, int, int]:
    """Verify a record without copying its payload; return its ballot's round and replica, and its command count.

    Raises `StorageBroken` naming the slot.
    """
    if len(data) < _RECORD.size:
        raise _damaged(slot, f"is cut to {len(data)} bytes")
    checksum, version, tag, own_slot, round_, replica, size = _RECORD.unpack_from(data)
    if crc32(memoryview(data)[_CRC.size :]) != checksum:
        raise _damaged(slot, "has a wrong checksum")
    if version != _RECORD_VERSION:
        raise _damaged(slot, f"has format {version}, this release reads {_RECORD_VERSION}")
    if tag != identity_tag:
        raise _damaged(slot, "was written by another replica or cluster")
    if own_slot != slot:
        raise _damaged(slot, f"is the record of slot {own_slot}")
    return round_, replica, size


def record_count(data: bytes | memoryview) -> int:
    """Return the number of commands in a record, read off the envelope alone; the record was verified before."""
    count: int = _RECORD.unpack_from(data)[-1]
    return count


def record_checksum(data: bytes | memoryview) -> int:
    """Return the checksum a record bears, which stands for the whole record in the digests of `StoreMeta`."""
    checksum: int = _CRC.unpack_from(data)[0]
    return checksum


def record_ballot(data: bytes | memoryview) -> Ballot:
    """Return the ballot of a record, read off the envelope alone; the record was verified before."""
    _, _, _, _, round_, replica, _ = _RECORD.unpack_from(data)
    return Ballot(round_, ReplicaId(replica))


def _damaged(slot: Slot, how: str) -> StorageBroken:
    return StorageBroken(f"log record of slot {slot} {how}", _REJOIN)


class StoreMeta(NamedTuple):
    """What a store holds besides votes and the membership, written with every commit.

    A record alone can't tell that it is an older one of its slot, or that its neighbour is gone; the digests can.
    """

    promised: Ballot
    chosen: Slot
    chosen_ballot: Ballot
    """Of the vote in slot `chosen`, which may be damaged or trimmed."""
    base: Base
    commits: int
    """Commits so far: tells a store that was rolled back."""
    open_digest: int
    """CRC-32 over slots and checksums of the records above `chosen`."""
    membership_checksum: int
    """Of the record of the membership; 0 if there is none."""
    chosen_digest: tuple[int, ...]
    """`storage.digest` over all records up to `chosen`, those below the base not yet removed included."""


def encode_meta(identity_tag: int, meta: StoreMeta) -> bytes:
    """Return the meta record in its envelope."""
    promised, chosen, chosen_ballot, (base, index, base_ballot), *counts, digest = meta
    numbers = (*promised, chosen, *chosen_ballot, base, index, *base_ballot, *counts, *digest)
    rest = _META.pack(0, _META_VERSION, identity_tag, *numbers)[_CRC.size :]
    return _CRC.pack(crc32(rest)) + rest


def decode_meta(identity_tag: int, data: bytes | memoryview) -> StoreMeta:
    """Return the meta record. Raises `StorageBroken` if `data` is anything but what was encoded."""
    if len(data) != _META.size or crc32(memoryview(data)[_CRC.size :]) != _CRC.unpack_from(data)[0]:
        raise StorageBroken("meta record of the log is damaged", _REJOIN)
    _, version, tag, *numbers = _META.unpack_from(data)
    if version != _META_VERSION or tag != identity_tag:
        raise StorageBroken("meta record of the log is of another replica, cluster or release", "check the directory")
    base = Base(numbers[5], numbers[6], _ballot(numbers[7:]))
    commits, open_digest, membership, *chosen_digest = numbers[9:]
    ballots = _ballot(numbers), _ballot(numbers[3:])
    return StoreMeta(ballots[0], numbers[2], ballots[1], base, commits, open_digest, membership, tuple(chosen_digest))


def _ballot(numbers: Sequence[int]) -> Ballot:
    return Ballot(numbers[0], ReplicaId(numbers[1]))


def encode_membership(identity_tag: int, membership: Membership) -> bytes:
    """Return the record of a membership in its envelope."""
    payload = membership.batch().payload
    rest = _MEMBERSHIP.pack(0, _MEMBERSHIP_VERSION, identity_tag)[_CRC.size :]
    return b"".join((_CRC.pack(crc32(payload, crc32(rest))), rest, payload))


def decode_membership(identity_tag: int, data: bytes | memoryview) -> Membership:
    """Return the membership. Raises `StorageBroken` if `data` is anything but what was encoded."""
    damaged = StorageBroken("membership record of the log is damaged", _REJOIN)
    if len(data) <= _MEMBERSHIP.size or crc32(memoryview(data)[_CRC.size :]) != _CRC.unpack_from(data)[0]:
        raise damaged
    _, version, tag = _MEMBERSHIP.unpack_from(data)
    if version != _MEMBERSHIP_VERSION or tag != identity_tag:
        raise StorageBroken("membership record of the log is of another replica or release", "check the directory")
    try:
        membership = Membership.of(Batch(0, bytes(data[_MEMBERSHIP.size :])))
    except UNDECODABLE as error:
        raise damaged from error
    assert membership is not None, "it has a payload"
    return membership


def extend_digest(digest: int, slot: Slot, checksum: int) -> int:
    """Return the digest of the open votes with one more record in it; the empty digest is 0."""
    return crc32(_DIGESTED.pack(slot, checksum), digest)

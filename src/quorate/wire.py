"""Peer messages and log records as bytes.

Peers exchange frames: u32 length, u32 CRC, payload, all numbers big-endian. The first frame each way is a `Hello`;
every later one is a message of the core in use, in MessagePack, checked against the core's message types while it is
decoded. A log record is one vote in an envelope that names its store and its slot, so that a record which was damaged,
copied in from another replica or filed under another slot is refused rather than believed: the store beneath does not
detect any of these (FAULTS.md §0.1).

Rules:

- What a peer sent is refused with `Misbehaviour`, what a disk returned with `StorageBroken`; no other exception leaves
  this module, whatever the bytes.
- Nothing is allocated on the word of a length field: a frame is held as far as it arrived, never past its bound.
- Formats carry a version, and another version is refused.

The checksum is CRC-32 as in `zlib`, from the standard library. CRC-32C finds marginally more errors, but would be a
dependency on the one path that must not break; every single flipped bit and every burst of up to 32 is found by both.
Neither guards against forgery: that is the task of the transport.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from quorate.errors import Broken, Misbehaviour, StorageBroken
from quorate.limits import COUNTER_MAX, FRAME_BYTES_MAX
from quorate.types import Ballot, Batch, Command, ReplicaId, Slot, Vote

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises on hostile bytes; the latter two come of a broken string and of deep nesting."""

# --- messages --------------------------------------------------------------------------------------------------------


class MessageCodec:
    """The messages of one core, given as a tagged union of msgspec structs."""

    def __init__(self, message_types: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(message_types)

    def encode(self, message: Any) -> bytes:
        """Return the message as MessagePack."""
        return self._encoder.encode(message)

    def decode(self, data: bytes) -> Any:
        """Return the one message in `data`. Raises `Misbehaviour` if there is not exactly one, well formed."""
        try:
            message = self._decoder.decode(data)
        except _UNDECODABLE as error:
            raise Misbehaviour(f"undecodable message of {len(data)} bytes: {error}") from error
        if not _plausible(message):
            raise Misbehaviour(
                f"message {type(message).__name__} holds a number outside 0..2**62 or a batch of a wrong size"
            )
        return message


def _plausible(value: Any) -> bool:
    """Say whether all numbers in a message are counters, and no batch claims more commands than it has bytes.

    Counters of the cores never reach 2**62: a larger one would let one bad message exhaust all ballots for good.
    """
    if isinstance(value, int):
        return 0 <= value <= COUNTER_MAX
    if isinstance(value, Batch):
        return (value.size == 0) == (not value.payload) and 0 <= value.size <= len(value.payload)
    if isinstance(value, tuple):
        return all(map(_plausible, value))
    if isinstance(value, msgspec.Struct):
        return all(map(_plausible, msgspec.structs.astuple(value)))
    return True


# --- commands and batches --------------------------------------------------------------------------------------------

_command_encoder = msgspec.msgpack.Encoder()
_commands_decoder = msgspec.msgpack.Decoder(list[Command])
_ARRAY_32 = struct.Struct(">BI")


def encode_command(command: Command) -> bytes:
    """Return one command as one MessagePack object."""
    return _command_encoder.encode(command)


def encode_batch(commands: Sequence[bytes]) -> Batch:
    """Join commands, each encoded by `encode_command`, to a batch."""
    return Batch(len(commands), b"".join(commands))


def decode_batch(batch: Batch) -> list[Command]:
    """Return the commands of a batch.

    Raises `Broken` on nonsense: a batch was made by a replica and chosen by a quorum, so that there is nobody left to
    refuse it to.
    """
    try:
        # Back to back objects become one array by a header put before them (MessagePack: array 32).
        return _commands_decoder.decode(_ARRAY_32.pack(0xDD, batch.size) + batch.payload)
    except _UNDECODABLE as error:
        raise Broken(f"batch of {batch.size} commands does not decode: {error}") from error


# --- frames ----------------------------------------------------------------------------------------------------------

_FRAME = struct.Struct(">II")


def encode_frame(payload: bytes) -> bytes:
    """Return `payload` with its length and checksum before it."""
    assert len(payload) <= FRAME_BYTES_MAX, "the cores bound their messages"
    return _FRAME.pack(len(payload), crc32(payload)) + payload


class FrameReader:
    """Cuts one connection's byte stream into payloads.

    `payload_bytes_max` may be raised between calls: a stranger's first frame gets a smaller bound than a peer's.
    """

    def __init__(self, payload_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and return the payloads that are now complete.

        Raises `Misbehaviour` on a length past the bound or a wrong checksum; the stream is then of no further use.
        """
        buffer = self._buffer
        buffer += data
        payloads = []
        start = 0
        while len(buffer) - start >= _FRAME.size:
            size, checksum = _FRAME.unpack_from(buffer, start)
            if size > self.payload_bytes_max:
                raise Misbehaviour(f"frame of {size} bytes, more than {self.payload_bytes_max}")
            end = start + _FRAME.size + size
            if end > len(buffer):
                break
            with memoryview(buffer) as view:
                payload = bytes(view[start + _FRAME.size : end])
            if crc32(payload) != checksum:
                raise Misbehaviour(f"frame of {size} bytes has a wrong checksum")
            payloads.append(payload)
            start = end
        del buffer[:start]  # moves the start of the buffer, not its contents
        return payloads


# --- greeting --------------------------------------------------------------------------------------------------------

WIRE_MAGIC = b"quorate"
WIRE_VERSION = 1


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame each way: who speaks, to whom, in which cluster.

    Fields may be added at the end; a new version is for what older replicas must not talk to.
    """

    magic: bytes
    version: int
    cluster: str
    epoch: int
    sender: int
    receiver: int
    """0 in the answer to a stranger."""

    def encode(self) -> bytes:
        """Return the greeting as MessagePack."""
        return _hello_encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> Hello:
        """Return the greeting in `data`. Raises `Misbehaviour` if it is none, or of another version."""
        try:
            hello = _hello_decoder.decode(data)
        except _UNDECODABLE as error:
            raise Misbehaviour(f"undecodable greeting: {error}") from error
        if hello.magic != WIRE_MAGIC:
            raise Misbehaviour("greeting is not Quorate's")
        if hello.version != WIRE_VERSION:
            raise Misbehaviour(f"peer speaks wire version {hello.version}, this replica {WIRE_VERSION}")
        return hello


_hello_encoder = msgspec.msgpack.Encoder()
_hello_decoder = msgspec.msgpack.Decoder(Hello)

# --- log records -----------------------------------------------------------------------------------------------------

_RECORD_VERSION = 1
_META_VERSION = 0x81  # disjoint from record versions: neither can pass for the other
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">IBQQQII")  # crc of the rest, version, identity tag, slot, ballot, commands; then the payload
_META = struct.Struct(">IBQQIQQII")  # crc of the rest, version, identity tag, then StoreMeta in order
_DIGESTED = struct.Struct(">QI")


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


def _damaged(slot: Slot, how: str) -> StorageBroken:
    return StorageBroken(f"log record of slot {slot} {how}", "this replica must rejoin as a new member")


class StoreMeta(NamedTuple):
    """What a store holds besides votes, written with every commit.

    A record alone can't tell that it is an older one of its slot, or that its neighbour is gone; the digests can.
    """

    promised: Ballot
    chosen: Slot
    commits: int
    """Commits so far: tells a store that was rolled back."""
    chosen_digest: int
    """CRC-32 over the checksums of all records up to `chosen`, in order: a hash chain, kept from commit to commit."""
    open_digest: int
    """CRC-32 over slots and checksums of the records above `chosen`."""


def encode_meta(identity_tag: int, meta: StoreMeta) -> bytes:
    """Return the meta record in its envelope."""
    (round_, replica), *rest_of_meta = meta
    rest = _META.pack(0, _META_VERSION, identity_tag, round_, replica, *rest_of_meta)[_CRC.size :]
    return _CRC.pack(crc32(rest)) + rest


def decode_meta(identity_tag: int, data: bytes | memoryview) -> StoreMeta:
    """Return the meta record. Raises `StorageBroken` if `data` is anything but what was encoded."""
    if len(data) != _META.size or crc32(memoryview(data)[_CRC.size :]) != _CRC.unpack_from(data)[0]:
        raise StorageBroken("meta record of the log is damaged", "this replica must rejoin as a new member")
    _, version, tag, round_, replica, *rest_of_meta = _META.unpack_from(data)
    if version != _META_VERSION or tag != identity_tag:
        raise StorageBroken("meta record of the log is of another replica, cluster or release", "check the directory")
    return StoreMeta(Ballot(round_, ReplicaId(replica)), *rest_of_meta)


def extend_digest(digest: int, slot: Slot, checksum: int) -> int:
    """Return a digest of `StoreMeta` with one more record in it; the empty digest is 0."""
    return crc32(_DIGESTED.pack(slot, checksum), digest)

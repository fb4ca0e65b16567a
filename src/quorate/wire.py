"""Peer messages as bytes.

Peers exchange frames: u32 length and u32 CRC of what follows, u8 channel, payload, all numbers big-endian. The first
frame each way is a `Hello`. A message of the core in use is MessagePack, checked against the core's message types while
it is decoded.

Rules:

- What a peer sent is refused with `Misbehaviour`; no other exception leaves this module, whatever the bytes.
- Nothing is allocated on the word of a length field: a frame is held as far as it arrived, never past its bound.
- Formats carry a version, and another version is refused.

The checksum is CRC-32 as in `zlib`, from the standard library. CRC-32C finds marginally more errors, but would be a
dependency on the one path that must not break; every single flipped bit and every burst of up to 32 is found by both.
Neither guards against forgery: that is the task of the transport.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Annotated, Any
from zlib import crc32

import msgspec

from quorate.errors import Broken, Misbehaviour
from quorate.limits import (
    ADDRESS_CHARACTERS_MAX,
    COUNTER_MAX,
    FRAME_BYTES_MAX,
    REFUSAL_CHARACTERS_MAX,
    REPLICAS_MAX,
)
from quorate.types import Batch, Command, Membership

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
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
        except UNDECODABLE as error:
            raise Misbehaviour(f"undecodable message of {len(data)} bytes: {error}") from error
        if not _plausible(message):
            raise Misbehaviour(
                f"message {type(message).__name__} holds a number outside 0..2**62, or a batch that can't be one"
            )
        return message


def _plausible(value: Any) -> bool:
    """Say whether all numbers in a message are counters, and no batch claims more commands than it has bytes.

    Counters of the cores never reach 2**62: a larger one would let one bad message exhaust all ballots for good.
    """
    if isinstance(value, int):
        return 0 <= value <= COUNTER_MAX
    if isinstance(value, Batch):
        return 0 <= value.size <= len(value.payload) if value.size else _changes_nothing_or_members(value)
    if isinstance(value, tuple):
        return all(map(_plausible, value))
    if isinstance(value, msgspec.Struct):
        return all(map(_plausible, msgspec.structs.astuple(value)))
    return True


def _changes_nothing_or_members(batch: Batch) -> bool:
    """Say whether a batch without commands is a no-op or a membership that makes sense."""
    try:
        membership = Membership.of(batch)
    except UNDECODABLE:
        return False
    if membership is None:
        return True
    members = membership.members
    return (
        bool(membership.voters)
        and len(set(members)) == len(members) <= REPLICAS_MAX
        and membership.voters == tuple(sorted(membership.voters))
        and tuple(replica for replica, _ in membership.addresses) == members
        and 0 < members[0] <= members[-1] <= membership.last_id <= COUNTER_MAX
        and 0 <= membership.version <= COUNTER_MAX
    )


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
    """Return the commands of a batch; none for a no-op or a change of membership.

    Raises `Broken` on nonsense: a batch was made by a replica and chosen by a quorum, so that there is nobody left to
    refuse it to.
    """
    if not batch.size:
        return []
    try:
        # Back to back objects become one array by a header put before them (MessagePack: array 32).
        return _commands_decoder.decode(_ARRAY_32.pack(0xDD, batch.size) + batch.payload)
    except UNDECODABLE as error:
        raise Broken(f"batch of {batch.size} commands does not decode: {error}") from error


# --- frames ----------------------------------------------------------------------------------------------------------

_FRAME = struct.Struct(">II")
_FRAME_AND_CHANNEL = struct.Struct(">IIB")


class Channel(enum.IntEnum):
    """Which room of the receiving replica a frame is for."""

    ORDER = 0
    """Messages of the consensus core."""
    STATE = 1
    """Snapshots, and what is told of them: large, and in no hurry."""
    MESH = 2
    """The transport's own: greetings, and how far a store has come."""


_CHANNEL_CHECKSUMS = {channel: crc32(bytes((channel,))) for channel in Channel}


def encode_frame(payload: bytes, channel: Channel = Channel.ORDER) -> bytes:
    """Return `payload` with its length, checksum and channel before it."""
    assert len(payload) <= FRAME_BYTES_MAX, "whoever sends bounds its messages"
    checksum = crc32(payload, _CHANNEL_CHECKSUMS[channel])
    return _FRAME_AND_CHANNEL.pack(1 + len(payload), checksum, channel) + payload


class FrameReader:
    """Cuts one connection's byte stream into channels and payloads.

    `payload_bytes_max` may be raised between calls: a stranger's first frame gets a smaller bound than a peer's.
    """

    def __init__(self, payload_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.payload_bytes_max = payload_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what arrived and return channel and payload of each frame that is now complete.

        Raises `Misbehaviour` on a length out of bounds or a wrong checksum; the stream is then of no further use.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _FRAME.size:
            size, checksum = _FRAME.unpack_from(buffer, start)
            if not 1 <= size <= 1 + self.payload_bytes_max:
                raise Misbehaviour(f"frame of {size} bytes, not 1 to {1 + self.payload_bytes_max}")
            body = start + _FRAME.size
            end = body + size
            if end > len(buffer):
                break
            with memoryview(buffer) as view:
                intact = crc32(view[body:end]) == checksum
                payload = bytes(view[body + 1 : end])
            if not intact:
                raise Misbehaviour(f"frame of {size} bytes has a wrong checksum")
            frames.append((buffer[body], payload))
            start = end
        del buffer[:start]  # moves the start of the buffer, not its contents
        return frames


# --- greeting --------------------------------------------------------------------------------------------------------

WIRE_MAGIC = b"quorate"
WIRE_VERSION = 2

STORE_ID_BYTES = 16
NONCE_BYTES = 16

_Counter = Annotated[int, msgspec.Meta(ge=0, le=COUNTER_MAX)]


class Refusal(enum.IntEnum):
    """Why a greeting is not answered by one: what the refused replica is to make of it."""

    NONE = 0
    STRANGER = 1
    """Of another cluster or epoch, or not known, or not known yet: it may come again."""
    REMOVED = 2
    """It was a member and is one no longer."""
    OTHER_STORE = 3
    """Its disk was emptied or replaced."""
    ROLLED_BACK = 4
    """Its store is an older copy of the one that was known."""
    TWIN = 5
    """Another process has counted the same life of the same store: one of them runs on a copy."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame each way: who speaks, to whom, in which cluster, out of which store.

    Fields may be added at the end; a new version is for what older replicas must not talk to. What came after version
    1 has defaults, so that an older replica is refused by its version.
    """

    magic: bytes
    version: int
    cluster: str
    epoch: _Counter
    sender: _Counter
    receiver: _Counter
    address: Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)] = ""
    """Where the sender listens for its peers, as they reach it; empty if it does not know."""
    store: Annotated[bytes, msgspec.Meta(max_length=STORE_ID_BYTES)] = b""
    """Random, made with the data directory."""
    life: _Counter = 0
    """Starts of a replica on this store, this one included."""
    nonce: Annotated[bytes, msgspec.Meta(max_length=NONCE_BYTES)] = b""
    """Random, made at this start."""
    commits: _Counter = 0
    """Durable commits of the store so far."""
    refusal: _Counter = Refusal.NONE
    """In an answer: that it is none, and why; `store` to `commits` are left out then."""
    why: Annotated[str, msgspec.Meta(max_length=REFUSAL_CHARACTERS_MAX)] = ""

    def encode(self) -> bytes:
        """Return the greeting as MessagePack."""
        return _hello_encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> Hello:
        """Return the greeting in `data`. Raises `Misbehaviour` if it is none, or of another version."""
        try:
            hello = _hello_decoder.decode(data)
        except UNDECODABLE as error:
            raise Misbehaviour(f"undecodable greeting: {error}") from error
        if hello.magic != WIRE_MAGIC:
            raise Misbehaviour("greeting is not Quorate's")
        if hello.version != WIRE_VERSION:
            raise Misbehaviour(f"peer speaks wire version {hello.version}, this replica {WIRE_VERSION}")
        return hello


_hello_encoder = msgspec.msgpack.Encoder()
_hello_decoder = msgspec.msgpack.Decoder(Hello)
_commits_decoder = msgspec.msgpack.Decoder(_Counter)


def encode_commits(commits: int) -> bytes:
    """Return what a replica tells its peers between greetings: the durable commits of its store so far."""
    return _hello_encoder.encode(commits)


def decode_commits(data: bytes) -> int:
    """Return a number of commits. Raises `Misbehaviour` if `data` is none."""
    try:
        commits: int = _commits_decoder.decode(data)
    except UNDECODABLE as error:
        raise Misbehaviour(f"undecodable number of commits: {error}") from error
    return commits

"""Bytes on the wire: golden strings, round trips, and nothing but the declared errors on nonsense."""

from __future__ import annotations

import itertools
import struct
import zlib
from types import UnionType
from typing import Any, NewType, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import registry, wire
from quorate.consensus.messages import Forward, Learned, ReadAnswer
from quorate.consensus.paxos.messages import Accept, Accepted, Heartbeat, PaxosMessage, Promise
from quorate.errors import Broken, Misbehaviour
from quorate.limits import COUNTER_MAX, FRAME_BYTES_MAX, REPLICAS_MAX, WINDOW_SLOTS
from quorate.types import NOOP, Ballot, Batch, Command, Membership, ReplicaId, Vote, founding
from quorate.wire import Channel

TAG = 0x1122334455667788
ADDRESSES = ((ReplicaId(1), "a:1"), (ReplicaId(2), "b:1"), (ReplicaId(5), "c:1"))
BALLOT = Ballot(3, ReplicaId(2))
VOTE = Vote(BALLOT, Batch(1, b"\xa1x"))
CODEC = wire.MessageCodec(PaxosMessage)

counters = st.integers(0, COUNTER_MAX)
ballots = st.builds(Ballot, counters, st.integers(0, 2**32 - 1))
MEMBERSHIP = Membership(3, (ReplicaId(1), ReplicaId(2)), (ReplicaId(5),), ADDRESSES, ReplicaId(6))
batches = st.sampled_from([NOOP, MEMBERSHIP.batch()]) | st.binary(min_size=1, max_size=200).flatmap(
    lambda payload: st.builds(Batch, st.integers(1, len(payload)), st.just(payload))
)
votes = st.builds(Vote, ballots, batches)
messages = st.one_of(
    st.builds(Accept, ballots, counters, batches, counters),
    st.builds(Accepted, ballots, counters),
    st.builds(Heartbeat, ballots, counters, counters),
    st.builds(Promise, ballots, counters, st.lists(st.tuples(counters, votes), max_size=WINDOW_SLOTS).map(tuple)),
    st.builds(Learned, counters, st.lists(votes).map(tuple), counters),
)
commands = st.builds(
    Command,
    st.binary(),
    counters,
    counters,
    st.integers(0, 2**64 - 1),
    st.binary(),
    st.binary(),
    st.binary(),
    st.binary(),
)


class TestMessages:
    def test_golden_accept(self) -> None:
        message = Accept(BALLOT, 7, Batch(1, b"\xa1x"), 6)
        golden = bytes.fromhex("95 14 92 03 02 07 92 01 c4 02 a1 78 06")
        assert CODEC.encode(message) == golden
        assert CODEC.decode(golden) == message

    @given(messages)
    def test_round_trip(self, message: msgspec.Struct) -> None:
        assert CODEC.decode(CODEC.encode(message)) == message

    @pytest.mark.parametrize(
        ("core", "kind"),
        [(core, kind) for core in registry.MESSAGES for kind in get_args(registry.resolve(registry.MESSAGES, core))],
        ids=lambda value: getattr(value, "__name__", value),
    )
    def test_every_message_of_every_core_comes_through(self, core: str, kind: type[msgspec.Struct]) -> None:
        codec = wire.MessageCodec(registry.resolve(registry.MESSAGES, core))
        message = kind(*(_example(field.type) for field in msgspec.structs.fields(kind)))
        assert codec.decode(codec.encode(message)) == message
        assert type(codec.decode(codec.encode(message))) is kind

    @pytest.mark.parametrize(
        "nonsense",
        {
            "nothing": b"",
            "unknown tag": b"\x92\x63\x01",
            "tag of a wrong type": b"\x92\xa1a\x01",
            "no array": b"\x05",
            "too few fields": b"\x92\x14\x92\x03\x02",
            "text for a number": b"\x93\x06\x01\xa11",
            "float for a number": b"\x93\x06\x01\xca\x00\x00\x00\x00",
            "truth for a number": b"\x93\x06\x01\xc3",
            "extension for a number": b"\x93\x06\x01\xd6\xff\x00\x00\x00\x00",
            "negative": b"\x93\x06\x01\xff",
            "past 2**62": b"\x93\x06\x01\xcf\x40\x00\x00\x00\x00\x00\x00\x01",
            "64 bits": b"\x93\x06\x01\xcf" + b"\xff" * 8,
            "past 2**62 in a ballot": b"\x93\x15\x92\xcf\x7f" + b"\xff" * 7 + b"\x01\x05",
            "trailing byte": b"\x93\x06\x01\x02\x00",
            "text for bytes": b"\x92\x01\x92\x01\xa1x",
            "commands without bytes": b"\x92\x01\x92\x05\xc4\x00",
            "bytes without commands": b"\x92\x01\x92\x00\xc4\x01x",
            "more commands than bytes": b"\x92\x01\x92\x05\xc4\x01x",
            "bytes cut off": b"\x92\x01\x92\x01\xc6\xff\xff\xff\xff",
            "four billion votes": b"\x94\x13\x92\x01\x01\x01\xdd\xff\xff\xff\xff",
            "deep nesting past the last field": b"\x94\x06\x01\x02" + b"\x91" * 100_000,
        }.items(),
        ids=lambda case: case[0],
    )
    def test_nonsense_is_misbehaviour(self, nonsense: tuple[str, bytes]) -> None:
        with pytest.raises(Misbehaviour):
            CODEC.decode(nonsense[1])

    @pytest.mark.parametrize(
        "changes",
        [
            {"voters": ()},
            {"voters": (ReplicaId(2), ReplicaId(1))},
            {"voters": (ReplicaId(1), ReplicaId(1))},
            {"learners": (ReplicaId(2),)},
            {"addresses": ADDRESSES[:2]},
            {"last_id": ReplicaId(4)},
            {"last_id": ReplicaId(COUNTER_MAX + 1)},
            {"version": -1},
        ],
        ids=str,
    )
    def test_a_membership_that_makes_no_sense_is_misbehaviour(self, changes: dict[str, object]) -> None:
        senseless = Forward(msgspec.structs.replace(MEMBERSHIP, **changes).batch())
        with pytest.raises(Misbehaviour):
            CODEC.decode(CODEC.encode(senseless))

    def test_a_membership_of_too_many_is_misbehaviour(self) -> None:
        crowd = founding({ReplicaId(number): "a:1" for number in range(1, REPLICAS_MAX + 2)})
        with pytest.raises(Misbehaviour):
            CODEC.decode(CODEC.encode(Forward(crowd.batch())))

    @given(st.binary(max_size=64))
    def test_any_bytes_decode_or_are_misbehaviour(self, data: bytes) -> None:
        _decodes_or_misbehaves(data)

    @given(messages, st.data())
    def test_any_damage_decodes_or_is_misbehaviour(self, message: msgspec.Struct, data: st.DataObject) -> None:
        encoded = bytearray(CODEC.encode(message))
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
        _decodes_or_misbehaves(bytes(encoded))

    def test_the_largest_counter_passes(self) -> None:
        message = ReadAnswer(COUNTER_MAX, COUNTER_MAX)
        assert CODEC.decode(CODEC.encode(message)) == message


def _example(kind: Any) -> Any:
    """Return a value of the type of a message's field."""
    while hasattr(kind, "__metadata__") or isinstance(kind, NewType):
        kind = kind.__supertype__ if isinstance(kind, NewType) else get_args(kind)[0]
    if get_origin(kind) is tuple:
        item, *rest = get_args(kind)
        return (_example(item),) if rest == [...] else (_example(item), *map(_example, rest))
    if get_origin(kind) is not None or isinstance(kind, UnionType):
        return _example(get_args(kind)[0])
    return {int: 5, bool: True, str: "a:1", Ballot: BALLOT, Batch: VOTE.batch, Vote: VOTE}[kind]


def _decodes_or_misbehaves(data: bytes) -> None:
    try:
        message = CODEC.decode(data)
    except Misbehaviour:
        return
    assert CODEC.decode(CODEC.encode(message)) == message


class TestBatches:
    COMMAND = Command(b"i" * 16, 5, 1_700_000_000_000, 2**64 - 1, b"", b"POST", b"POST /a HTTP/1.1\r\n", b"body")

    def test_golden_command(self) -> None:
        short = Command(b"i", 1, 2, 2**64 - 1, b"", b"GET", b"h", b"")
        golden = bytes.fromhex("98 c40169 01 02 cfffffffffffffffff c400 c403474554 c40168 c400")
        assert wire.encode_command(short) == golden

    @given(st.lists(commands))
    def test_round_trip(self, batch: list[Command]) -> None:
        encoded = wire.encode_batch([wire.encode_command(command) for command in batch])
        assert encoded.size == len(batch)
        assert wire.decode_batch(encoded) == batch

    def test_batches_join_by_concatenation(self) -> None:
        one = wire.encode_batch([wire.encode_command(self.COMMAND)])
        two = wire.encode_batch([wire.encode_command(self.COMMAND)] * 2)
        joined = Batch(one.size + two.size, one.payload + two.payload)
        assert wire.decode_batch(joined) == [self.COMMAND] * 3

    def test_a_noop_holds_nothing(self) -> None:
        assert wire.decode_batch(NOOP) == []

    def test_a_membership_holds_no_commands(self) -> None:
        assert wire.decode_batch(MEMBERSHIP.batch()) == []

    @pytest.mark.parametrize("size", [2, 2**32 - 1])
    def test_a_wrong_size_is_broken(self, size: int) -> None:
        with pytest.raises(Broken):
            wire.decode_batch(Batch(size, wire.encode_command(self.COMMAND)))

    @given(st.integers(0, 3), st.binary(max_size=64))
    def test_nonsense_is_broken(self, size: int, payload: bytes) -> None:
        try:
            commands = wire.decode_batch(Batch(size, payload))
        except Broken:
            return
        assert len(commands) == size


class TestFrames:
    def test_golden(self) -> None:
        assert wire.encode_frame(b"12345678") == bytes.fromhex("00000009 19cb1168 00") + b"12345678"
        assert wire.encode_frame(b"", Channel.STATE) == bytes.fromhex("00000001 a505df1b 01")

    @given(
        st.lists(st.tuples(st.binary(max_size=40), st.sampled_from(Channel))),
        st.lists(st.integers(1, 25), min_size=1),
    )
    def test_any_chunking_yields_the_same_frames(self, sent: list[tuple[bytes, Channel]], sizes: list[int]) -> None:
        stream = b"".join(itertools.starmap(wire.encode_frame, sent))
        reader = wire.FrameReader()
        got: list[tuple[int, bytes]] = []
        turn = 0
        while stream:
            size = sizes[turn % len(sizes)]
            got += reader.feed(stream[:size])
            stream = stream[size:]
            turn += 1
        assert got == [(channel, payload) for payload, channel in sent]

    def test_a_length_out_of_bounds_is_refused_before_its_bytes_arrive(self) -> None:
        with pytest.raises(Misbehaviour, match="4294967295 bytes"):
            wire.FrameReader().feed(b"\xff\xff\xff\xff\x00\x00\x00\x00")
        with pytest.raises(Misbehaviour):
            wire.FrameReader().feed(struct.pack(">II", FRAME_BYTES_MAX + 2, 0))
        with pytest.raises(Misbehaviour):
            wire.FrameReader(8).feed(wire.encode_frame(b"123456789"))
        assert wire.FrameReader(9).feed(wire.encode_frame(b"123456789")) == [(Channel.ORDER, b"123456789")]

    def test_a_frame_without_a_channel_is_refused(self) -> None:
        with pytest.raises(Misbehaviour, match="0 bytes"):
            wire.FrameReader().feed(bytes(8))

    def test_a_channel_nobody_knows_is_for_the_receiver_to_refuse(self) -> None:
        frame = struct.pack(">II", 1, zlib.crc32(b"\x63")) + b"\x63"
        assert wire.FrameReader().feed(frame) == [(99, b"")]

    def test_every_flipped_bit_of_checksum_channel_and_payload_is_found(self) -> None:
        frame = wire.encode_frame(b"123456789")
        for bit in range(8 * 4, 8 * len(frame)):
            with pytest.raises(Misbehaviour, match="checksum"):
                wire.FrameReader().feed(_flipped(frame, bit))

    def test_a_large_frame_in_small_pieces_takes_linear_time(self) -> None:
        payload = bytes(8 * 1024 * 1024)
        frame = wire.encode_frame(payload)
        reader = wire.FrameReader()
        pieces = [frame[start : start + 4096] for start in range(0, len(frame), 4096)]
        got = [out for piece in pieces for out in reader.feed(piece)]
        assert got == [(Channel.ORDER, payload)]


class TestHello:
    NAMES = (wire.WIRE_MAGIC, wire.WIRE_VERSION, "bank", 1, 2, 3)
    HELLO = wire.Hello(*NAMES, "r2:7101", bytes(range(16)), 4, b"12345678", 5)

    def test_golden(self) -> None:
        golden = b"\x9d\xc4\x07quorate\x02\xa4bank\x01\x02\x03\xa7r2:7101"
        golden += b"\xc4\x10" + bytes(range(16)) + b"\x04\xc4\x0812345678\x05\x00\xa0"
        assert self.HELLO.encode() == golden
        assert wire.Hello.decode(golden) == self.HELLO

    def test_golden_refusal(self) -> None:
        refusal = wire.Hello(*self.NAMES, refusal=wire.Refusal.REMOVED, why="gone")
        golden = b"\x9d\xc4\x07quorate\x02\xa4bank\x01\x02\x03\xa0\xc4\x00\x00\xc4\x00\x00\x02\xa4gone"
        assert refusal.encode() == golden
        assert wire.Hello.decode(golden) == refusal

    def test_another_version_is_refused_by_name(self) -> None:
        first = b"\x96\xc4\x07quorate\x01\xa4bank\x01\x02\x03"
        with pytest.raises(Misbehaviour, match="version 1, this replica 2"):
            wire.Hello.decode(first)
        with pytest.raises(Misbehaviour, match="version 3, this replica 2"):
            wire.Hello.decode(msgspec.structs.replace(self.HELLO, version=3).encode())

    def test_fields_of_later_releases_are_passed_over(self) -> None:
        longer = bytearray(self.HELLO.encode() + b"\x07")
        longer[0] += 1
        assert wire.Hello.decode(bytes(longer)) == self.HELLO

    @pytest.mark.parametrize(
        "changes",
        [
            {"sender": -1},
            {"sender": COUNTER_MAX + 1},
            {"life": -1},
            {"commits": COUNTER_MAX + 1},
            {"refusal": -1},
            {"store": bytes(17)},
            {"nonce": bytes(17)},
            {"address": "r" * 301},
            {"why": "r" * 301},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_field_out_of_its_bounds_is_misbehaviour(self, changes: dict[str, object]) -> None:
        with pytest.raises(Misbehaviour):
            wire.Hello.decode(msgspec.structs.replace(self.HELLO, **changes).encode())

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"",
            b"GET / HTTP/1.1\r\n",
            b"\x96\xc4\x07etcd...\x01\xa4bank\x01\x02\x03",
            b"\x96\xc4\x07quorate\x01\xa1\xff\x01\x02\x03",
        ],
    )
    def test_nonsense_is_misbehaviour(self, nonsense: bytes) -> None:
        with pytest.raises(Misbehaviour):
            wire.Hello.decode(nonsense)

    @given(st.binary(max_size=64))
    def test_any_bytes_are_no_greeting(self, data: bytes) -> None:
        with pytest.raises(Misbehaviour):
            wire.Hello.decode(data)

    @given(st.data())
    def test_any_damage_is_a_greeting_or_misbehaviour(self, data: st.DataObject) -> None:
        encoded = bytearray(self.HELLO.encode())
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
        try:
            hello = wire.Hello.decode(bytes(encoded))
        except Misbehaviour:
            return
        assert wire.Hello.decode(hello.encode()) == hello


class TestCommits:
    @given(counters)
    def test_round_trip(self, commits: int) -> None:
        assert wire.decode_commits(wire.encode_commits(commits)) == commits

    @pytest.mark.parametrize("nonsense", [b"", b"\xff", b"\xa1x", b"\xc3", b"\x01\x01", b"\xcf" + b"\xff" * 8])
    def test_nonsense_is_misbehaviour(self, nonsense: bytes) -> None:
        with pytest.raises(Misbehaviour):
            wire.decode_commits(nonsense)


def _flipped(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)

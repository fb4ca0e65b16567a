"""Bytes on the wire and on disk: golden strings, round trips, and nothing but the declared errors on nonsense."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import wire
from quorate.consensus.paxos.messages import (
    Accept,
    Accepted,
    Heartbeat,
    Learned,
    PaxosMessage,
    Promise,
    ReadAnswer,
)
from quorate.errors import Broken, Misbehaviour, StorageBroken
from quorate.limits import COUNTER_MAX, FRAME_BYTES_MAX
from quorate.types import NOOP, Ballot, Batch, Command, ReplicaId, Vote

TAG = 0x1122334455667788
BALLOT = Ballot(3, ReplicaId(2))
VOTE = Vote(BALLOT, Batch(1, b"\xa1x"))
CODEC = wire.MessageCodec(PaxosMessage)

counters = st.integers(0, COUNTER_MAX)
ballots = st.builds(Ballot, counters, st.integers(0, 2**32 - 1))
batches = st.just(NOOP) | st.binary(min_size=1, max_size=200).flatmap(
    lambda payload: st.builds(Batch, st.integers(1, len(payload)), st.just(payload))
)
votes = st.builds(Vote, ballots, batches)
messages = st.one_of(
    st.builds(Accept, ballots, counters, batches, counters),
    st.builds(Accepted, ballots, counters),
    st.builds(Heartbeat, ballots, counters, counters),
    st.builds(Promise, ballots, counters, st.lists(st.tuples(counters, votes)).map(tuple)),
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
        golden = bytes.fromhex("95 05 92 03 02 07 92 01 c4 02 a1 78 06")
        assert CODEC.encode(message) == golden
        assert CODEC.decode(golden) == message

    @given(messages)
    def test_round_trip(self, message: msgspec.Struct) -> None:
        assert CODEC.decode(CODEC.encode(message)) == message

    @pytest.mark.parametrize(
        "nonsense",
        {
            "nothing": b"",
            "unknown tag": b"\x92\x63\x01",
            "tag of a wrong type": b"\x92\xa1a\x01",
            "no array": b"\x05",
            "too few fields": b"\x92\x05\x92\x03\x02",
            "text for a number": b"\x93\x0e\x01\xa11",
            "float for a number": b"\x93\x0e\x01\xca\x00\x00\x00\x00",
            "truth for a number": b"\x93\x0e\x01\xc3",
            "extension for a number": b"\x93\x0e\x01\xd6\xff\x00\x00\x00\x00",
            "negative": b"\x93\x0e\x01\xff",
            "past 2**62": b"\x93\x0e\x01\xcf\x40\x00\x00\x00\x00\x00\x00\x01",
            "64 bits": b"\x93\x0e\x01\xcf" + b"\xff" * 8,
            "past 2**62 in a ballot": b"\x93\x06\x92\xcf\x7f" + b"\xff" * 7 + b"\x01\x05",
            "trailing byte": b"\x93\x0e\x01\x02\x00",
            "text for bytes": b"\x92\x0a\x92\x01\xa1x",
            "commands without bytes": b"\x92\x0a\x92\x05\xc4\x00",
            "bytes without commands": b"\x92\x0a\x92\x00\xc4\x01x",
            "more commands than bytes": b"\x92\x0a\x92\x05\xc4\x01x",
            "bytes cut off": b"\x92\x0a\x92\x01\xc6\xff\xff\xff\xff",
            "four billion votes": b"\x94\x04\x92\x01\x01\x01\xdd\xff\xff\xff\xff",
            "deep nesting past the last field": b"\x94\x0e\x01\x02" + b"\x91" * 100_000,
        }.items(),
        ids=lambda case: case[0],
    )
    def test_nonsense_is_misbehaviour(self, nonsense: tuple[str, bytes]) -> None:
        with pytest.raises(Misbehaviour):
            CODEC.decode(nonsense[1])

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

    @pytest.mark.parametrize("size", [0, 2, 2**32 - 1])
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
        assert wire.encode_frame(b"123456789") == bytes.fromhex("00000009 cbf43926") + b"123456789"

    @given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 25), min_size=1))
    def test_any_chunking_yields_the_same_frames(self, payloads: list[bytes], sizes: list[int]) -> None:
        stream = b"".join(map(wire.encode_frame, payloads))
        reader = wire.FrameReader()
        got: list[bytes] = []
        turn = 0
        while stream:
            size = sizes[turn % len(sizes)]
            got += reader.feed(stream[:size])
            stream = stream[size:]
            turn += 1
        assert got == payloads

    def test_a_length_past_the_bound_is_refused_before_its_bytes_arrive(self) -> None:
        with pytest.raises(Misbehaviour, match="4294967295 bytes"):
            wire.FrameReader().feed(b"\xff\xff\xff\xff\x00\x00\x00\x00")
        with pytest.raises(Misbehaviour):
            wire.FrameReader().feed(struct.pack(">II", FRAME_BYTES_MAX + 1, 0))
        with pytest.raises(Misbehaviour):
            wire.FrameReader(8).feed(wire.encode_frame(b"123456789"))

    def test_every_flipped_bit_of_checksum_and_payload_is_found(self) -> None:
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
        assert got == [payload]


class TestHello:
    HELLO = wire.Hello(wire.WIRE_MAGIC, wire.WIRE_VERSION, "bank", 1, 2, 3)

    def test_golden(self) -> None:
        golden = b"\x96\xc4\x07quorate\x01\xa4bank\x01\x02\x03"
        assert self.HELLO.encode() == golden
        assert wire.Hello.decode(golden) == self.HELLO

    def test_another_version_is_refused_by_name(self) -> None:
        other = msgspec.structs.replace(self.HELLO, version=2)
        with pytest.raises(Misbehaviour, match="version 2, this replica 1"):
            wire.Hello.decode(other.encode())

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


class TestRecords:
    def test_golden(self) -> None:
        rest = bytes.fromhex("01 1122334455667788 0000000000000007 0000000000000003 00000002 00000001") + b"\xa1x"
        golden = zlib.crc32(rest).to_bytes(4, "big") + rest
        assert wire.encode_record(TAG, 7, VOTE) == golden

    @given(counters, votes)
    def test_round_trip(self, slot: int, vote: Vote) -> None:
        data = wire.encode_record(TAG, slot, vote)
        assert wire.decode_record(TAG, slot, data) == vote
        assert wire.decode_record(TAG, slot, memoryview(data)) == vote
        assert wire.record_count(data) == vote.batch.size

    def test_every_flipped_bit_is_found_and_the_slot_named(self) -> None:
        data = wire.encode_record(TAG, 7, VOTE)
        for bit in range(len(data) * 8):
            with pytest.raises(StorageBroken, match="slot 7 "):
                wire.decode_record(TAG, 7, _flipped(data, bit))

    def test_every_cut_is_found(self) -> None:
        data = wire.encode_record(TAG, 7, VOTE)
        for size in range(len(data)):
            with pytest.raises(StorageBroken, match="slot 7 "):
                wire.decode_record(TAG, 7, data[:size])
        with pytest.raises(StorageBroken, match="slot 7 "):
            wire.decode_record(TAG, 7, data + b"\x00")

    def test_a_record_of_another_replica_is_refused(self) -> None:
        with pytest.raises(StorageBroken, match="slot 7 was written by another replica"):
            wire.decode_record(TAG + 1, 7, wire.encode_record(TAG, 7, VOTE))

    def test_a_record_of_another_slot_is_refused(self) -> None:
        with pytest.raises(StorageBroken, match="slot 8 is the record of slot 7"):
            wire.decode_record(TAG, 8, wire.encode_record(TAG, 7, VOTE))

    def test_a_record_of_another_format_is_refused(self) -> None:
        rest = b"\x02" + wire.encode_record(TAG, 7, VOTE)[5:]
        with pytest.raises(StorageBroken, match="slot 7 has format 2"):
            wire.decode_record(TAG, 7, zlib.crc32(rest).to_bytes(4, "big") + rest)


class TestMeta:
    META = wire.StoreMeta(BALLOT, 7, 12, 0xAABBCCDD, 0x01020304)

    def test_golden(self) -> None:
        rest = bytes.fromhex(
            "81 1122334455667788 0000000000000003 00000002 0000000000000007 000000000000000c aabbccdd 01020304"
        )
        golden = zlib.crc32(rest).to_bytes(4, "big") + rest
        assert wire.encode_meta(TAG, self.META) == golden
        assert wire.decode_meta(TAG, golden) == self.META

    def test_every_flipped_bit_is_found(self) -> None:
        data = wire.encode_meta(TAG, self.META)
        for bit in range(len(data) * 8):
            with pytest.raises(StorageBroken, match="meta record"):
                wire.decode_meta(TAG, _flipped(data, bit))

    def test_foreign_or_cut_is_refused(self) -> None:
        data = wire.encode_meta(TAG, self.META)
        for tag, damaged in ((TAG + 1, data), (TAG, data[:-1]), (TAG, b""), (TAG, wire.encode_record(TAG, 7, VOTE))):
            with pytest.raises(StorageBroken, match="meta record"):
                wire.decode_meta(tag, damaged)


def _flipped(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)

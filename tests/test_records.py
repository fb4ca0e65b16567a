"""Bytes on disk: golden strings, round trips, and nothing but the declared error on nonsense."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate import records
from quorate.errors import StorageBroken
from quorate.limits import COUNTER_MAX, LOG_DIGEST_SUMS
from quorate.types import NOOP, Ballot, Base, Batch, Membership, ReplicaId, Vote

TAG = 0x1122334455667788
BALLOT = Ballot(3, ReplicaId(2))
VOTE = Vote(BALLOT, Batch(1, b"\xa1x"))

counters = st.integers(0, COUNTER_MAX)
ballots = st.builds(Ballot, counters, st.integers(0, 2**32 - 1))
batches = st.just(NOOP) | st.binary(min_size=1, max_size=200).flatmap(
    lambda payload: st.builds(Batch, st.integers(1, len(payload)), st.just(payload))
)
votes = st.builds(Vote, ballots, batches)


class TestRecords:
    def test_golden(self) -> None:
        rest = bytes.fromhex("01 1122334455667788 0000000000000007 0000000000000003 00000002 00000001") + b"\xa1x"
        golden = zlib.crc32(rest).to_bytes(4, "big") + rest
        assert records.encode_record(TAG, 7, VOTE) == golden

    @given(counters, votes)
    def test_round_trip(self, slot: int, vote: Vote) -> None:
        data = records.encode_record(TAG, slot, vote)
        assert records.decode_record(TAG, slot, data) == vote
        assert records.decode_record(TAG, slot, memoryview(data)) == vote
        assert records.record_count(data) == vote.batch.size
        assert records.record_ballot(data) == vote.ballot

    def test_every_flipped_bit_is_found_and_the_slot_named(self) -> None:
        data = records.encode_record(TAG, 7, VOTE)
        for bit in range(len(data) * 8):
            with pytest.raises(StorageBroken, match="slot 7 "):
                records.decode_record(TAG, 7, _flipped(data, bit))

    def test_every_cut_is_found(self) -> None:
        data = records.encode_record(TAG, 7, VOTE)
        for size in range(len(data)):
            with pytest.raises(StorageBroken, match="slot 7 "):
                records.decode_record(TAG, 7, data[:size])
        with pytest.raises(StorageBroken, match="slot 7 "):
            records.decode_record(TAG, 7, data + b"\x00")

    def test_a_record_of_another_replica_is_refused(self) -> None:
        with pytest.raises(StorageBroken, match="slot 7 was written by another replica"):
            records.decode_record(TAG + 1, 7, records.encode_record(TAG, 7, VOTE))

    def test_a_record_of_another_slot_is_refused(self) -> None:
        with pytest.raises(StorageBroken, match="slot 8 is the record of slot 7"):
            records.decode_record(TAG, 8, records.encode_record(TAG, 7, VOTE))

    def test_a_record_of_another_format_is_refused(self) -> None:
        rest = b"\x02" + records.encode_record(TAG, 7, VOTE)[5:]
        with pytest.raises(StorageBroken, match="slot 7 has format 2"):
            records.decode_record(TAG, 7, zlib.crc32(rest).to_bytes(4, "big") + rest)


class TestMeta:
    SUMS = tuple(range(2**63, 2**63 + LOG_DIGEST_SUMS))
    META = records.StoreMeta(
        BALLOT, 7, Ballot(2, ReplicaId(1)), Base(5, 9, Ballot(1, ReplicaId(3))), 12, 0xAABBCCDD, 0x01020304, SUMS
    )

    def test_golden(self) -> None:
        rest = bytes.fromhex(
            "82 1122334455667788 0000000000000003 00000002 0000000000000007 0000000000000002 00000001"
            "0000000000000005 0000000000000009 0000000000000001 00000003 000000000000000c aabbccdd 01020304"
        ) + b"".join(total.to_bytes(8, "big") for total in self.SUMS)
        golden = zlib.crc32(rest).to_bytes(4, "big") + rest
        assert records.encode_meta(TAG, self.META) == golden
        assert records.decode_meta(TAG, golden) == self.META

    def test_every_flipped_bit_is_found(self) -> None:
        data = records.encode_meta(TAG, self.META)
        for bit in range(len(data) * 8):
            with pytest.raises(StorageBroken, match="meta record"):
                records.decode_meta(TAG, _flipped(data, bit))

    def test_foreign_or_cut_is_refused(self) -> None:
        data = records.encode_meta(TAG, self.META)
        for tag, damaged in ((TAG + 1, data), (TAG, data[:-1]), (TAG, b""), (TAG, records.encode_record(TAG, 7, VOTE))):
            with pytest.raises(StorageBroken, match="meta record"):
                records.decode_meta(tag, damaged)


class TestMembershipRecord:
    MEMBERSHIP = Membership(
        3, (ReplicaId(1),), (ReplicaId(4),), ((ReplicaId(1), "a:1"), (ReplicaId(4), "d:4")), ReplicaId(4)
    )

    def test_golden(self) -> None:
        rest = bytes.fromhex("c1 1122334455667788 95 03 91 01 91 04 92 92 01 a3 613a31 92 04 a3 643a34 04")
        golden = zlib.crc32(rest).to_bytes(4, "big") + rest
        assert records.encode_membership(TAG, self.MEMBERSHIP) == golden
        assert records.decode_membership(TAG, golden) == self.MEMBERSHIP
        assert records.decode_membership(TAG, memoryview(golden)) == self.MEMBERSHIP

    def test_every_flipped_bit_and_every_cut_is_found(self) -> None:
        data = records.encode_membership(TAG, self.MEMBERSHIP)
        spoilt = [_flipped(data, bit) for bit in range(len(data) * 8)]
        for damaged in (*spoilt, *(data[:size] for size in range(len(data))), data + b"\x00"):
            with pytest.raises(StorageBroken, match="membership record of the log is damaged"):
                records.decode_membership(TAG, damaged)

    def test_another_record_is_none(self) -> None:
        others = [records.encode_record(TAG, 7, VOTE), records.encode_meta(TAG, TestMeta.META)]
        for tag, data in (
            (TAG + 1, records.encode_membership(TAG, self.MEMBERSHIP)),
            *((TAG, other) for other in others),
        ):
            with pytest.raises(StorageBroken, match="membership record of the log is of another"):
                records.decode_membership(tag, data)

    def test_nonsense_with_a_right_checksum_is_refused(self) -> None:
        rest = records.encode_membership(TAG, self.MEMBERSHIP)[4:13] + b"\x91\x05"
        with pytest.raises(StorageBroken, match="membership record of the log is damaged"):
            records.decode_membership(TAG, zlib.crc32(rest).to_bytes(4, "big") + rest)


def _flipped(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)

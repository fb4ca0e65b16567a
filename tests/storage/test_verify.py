"""The scan in a child process: what it finds, what of it can be repaired, and how its own death is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, rewriting

from quorate.consensus.core import Persist
from quorate.errors import StorageBroken
from quorate.limits import LOG_DAMAGED_SLOTS_MAX
from quorate.records import StoreMeta, decode_meta, encode_membership, encode_meta, encode_record, record_checksum
from quorate.storage.digest import added, removed
from quorate.storage.environment import MEMBERSHIP_KEY, META_KEY, slot_key
from quorate.storage.identity import identity_tag
from quorate.storage.lmdb import LmdbStore
from quorate.storage.verify import Found, verify, verify_in_child
from quorate.types import Ballot, Base, Batch, ReplicaId, Slot, Vote, founding

TAG = identity_tag(IDENTITY)
BASE, CHOSEN, LAST = 150, 590, 600
MEMBERS = founding({ReplicaId(1): "a:1", ReplicaId(2): "b:2"})
PAGE = os.sysconf("SC_PAGE_SIZE")


def vote(slot: Slot, generation: int = 1) -> Vote:
    return Vote(Ballot(generation, ReplicaId(1)), Batch(1, b"%d;" % slot * 1000))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose log was trimmed, less some records that the trimming left."""
    store = LmdbStore(tmp_path, IDENTITY)
    store.commit([Persist(1, BALLOT, [(slot, vote(slot)) for slot in range(1, LAST + 1)], CHOSEN, MEMBERS)])
    store.commit([Persist(2, BALLOT, [], CHOSEN, base=Base(100, 100, BALLOT))])
    store.close()
    with rewriting(tmp_path) as txn:  # the base moved on, and no commit has trimmed since
        meta = decode_meta(TAG, bytes(txn.get(META_KEY) or b""))
        txn.put(META_KEY, encode_meta(TAG, meta._replace(base=Base(BASE, BASE, BALLOT))))
    return tmp_path


@pytest.fixture
def log(data: Path) -> Path:
    return data / "log"


def scan(log: Path) -> Found:
    return verify(log, TAG, lambda _slot: None)


def without(data: Path, *slots: Slot) -> StoreMeta:
    """Return the meta record of the log less the records that its slots had."""
    with rewriting(data) as txn:
        meta = decode_meta(TAG, bytes(txn.get(META_KEY) or b""))
    for slot in slots:
        meta = meta._replace(chosen_digest=removed(meta.chosen_digest, slot, checksum(slot)))
    return meta


def checksum(slot: Slot) -> int:
    return record_checksum(encode_record(TAG, slot, vote(slot)))


def test_a_whole_log_passes(log: Path) -> None:
    told: list[Slot] = []
    assert verify(log, TAG, told.append) == Found((), None)
    assert told == list(range(101, LAST + 1))
    assert verify_in_child(log, TAG) == ()


class TestRepairable:
    @pytest.mark.parametrize("slot", [BASE + 1, 300, CHOSEN])
    def test_a_damaged_record(self, data: Path, slot: Slot) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(slot), encode_record(TAG, slot, vote(slot))[:-1] + b"!")
        assert scan(data / "log") == Found((slot,), without(data, slot))

    @pytest.mark.parametrize("slot", [BASE + 1, 300, CHOSEN])
    def test_a_missing_record(self, data: Path, slot: Slot) -> None:
        with rewriting(data) as txn:
            txn.delete(slot_key(slot))
        assert scan(data / "log") == Found((slot,), without(data, slot))

    def test_a_record_of_another_slot_or_replica_or_none_at_all(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(300), encode_record(TAG, 301, vote(301)))
            txn.put(slot_key(400), encode_record(TAG + 1, 400, vote(400)))
            txn.put(slot_key(500), b"")
        assert scan(data / "log") == Found((300, 400, 500), without(data, 300, 400, 500))

    def test_one_that_was_to_be_trimmed(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(120), b"damaged")
        assert scan(data / "log") == Found((), without(data, 120))

    def test_one_that_is_missing_since_the_log_was_copied(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.delete(slot_key(300))
        for _ in range(2):
            assert verify_in_child(data / "log", TAG) == (300,)
            assert scan(data / "log") == Found((300,), None)

    def test_as_many_as_there_are_sums_for(self, data: Path) -> None:
        slots = range(200, 200 + 5 * LOG_DAMAGED_SLOTS_MAX, 5)
        with rewriting(data) as txn:
            for slot in slots:
                txn.delete(slot_key(slot))
        assert scan(data / "log") == Found(tuple(slots), without(data, *slots))


class TestRefused:
    def refusal(self, data: Path) -> str:
        with pytest.raises(StorageBroken) as refusal:
            scan(data / "log")
        return refusal.value.what

    def test_more_damage_than_can_be_accounted_for(self, data: Path) -> None:
        with rewriting(data) as txn:
            for slot in range(200, 200 + LOG_DAMAGED_SLOTS_MAX + 1):
                txn.delete(slot_key(slot))
        assert self.refusal(data) == "log has more than 16 damaged slots, the first: log record of slot 200 is missing"

    @pytest.mark.parametrize("damaged", [0, 1, LOG_DAMAGED_SLOTS_MAX])
    def test_an_outdated_record_however_much_damage_there_is(self, data: Path, damaged: int) -> None:
        """An older page in the place of a newer one: the disk lost a write, and said nothing."""
        with rewriting(data) as txn:
            txn.put(slot_key(500), encode_record(TAG, 500, vote(500, 0)))
            for slot in range(200, 200 + damaged):
                txn.delete(slot_key(slot))
        assert f"log records up to slot {CHOSEN} are not the ones last committed" in self.refusal(data)

    def test_swapped_records(self, data: Path) -> None:
        with rewriting(data) as txn:
            for slot, other in ((300, 301), (301, 300)):
                txn.put(slot_key(slot), encode_record(TAG, slot, vote(other)))
        assert "are not the ones last committed" in self.refusal(data)

    def test_a_trimmed_record_that_came_back(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(100), encode_record(TAG, 100, vote(100)))
        assert "are not the ones last committed" in self.refusal(data)

    def test_a_damaged_open_vote(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(CHOSEN + 3), encode_record(TAG, CHOSEN + 3, vote(CHOSEN + 3))[:-1])
        assert self.refusal(data) == f"log record of slot {CHOSEN + 3} has a wrong checksum"

    def test_a_lost_or_outdated_open_vote(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(slot_key(CHOSEN + 3), encode_record(TAG, CHOSEN + 3, vote(CHOSEN + 3, 0)))
        assert self.refusal(data) == f"log records above slot {CHOSEN} are not the ones last committed"
        with rewriting(data) as txn:
            txn.delete(slot_key(CHOSEN + 3))
        assert self.refusal(data) == f"log records above slot {CHOSEN} are not the ones last committed"

    def test_a_lost_damaged_or_outdated_membership(self, data: Path) -> None:
        older = founding({ReplicaId(1): "a:1"})
        what = "membership record of the log is "
        for record, how in (
            (encode_membership(TAG, older), "not the one last committed"),
            (encode_membership(TAG, MEMBERS)[:-1] + b"!", "damaged"),
            (encode_membership(TAG + 1, MEMBERS), "of another replica or release"),
        ):
            with rewriting(data) as txn:
                txn.put(MEMBERSHIP_KEY, record)
            assert self.refusal(data) == what + how
        with rewriting(data) as txn:
            txn.delete(MEMBERSHIP_KEY)
        assert self.refusal(data) == what + "not the one last committed"

    def test_a_lost_or_damaged_meta_record(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(META_KEY, bytes(txn.get(META_KEY) or b"")[:-1] + b"!")
        assert self.refusal(data) == "meta record of the log is damaged"
        with rewriting(data) as txn:
            txn.delete(META_KEY)
        assert self.refusal(data) == "meta record is missing"

    def test_a_key_that_is_none(self, data: Path) -> None:
        with rewriting(data) as txn:
            txn.put(b"\0" * 7 + b"\x01" + b"x", b"what is this")
        assert self.refusal(data).startswith("log is out of order: key 000000000000000178")

    def test_a_prefix_far_longer_than_the_log(self, data: Path) -> None:
        with rewriting(data) as txn:
            meta = decode_meta(TAG, bytes(txn.get(META_KEY) or b""))
            txn.put(META_KEY, encode_meta(TAG, meta._replace(chosen=2**60, open_digest=0)))
        assert self.refusal(data).startswith("log has more than 16 damaged slots")


def test_a_digest_that_is_right_by_other_means_passes(data: Path) -> None:
    """The scan goes by the meta record alone; that it is not just any record that passes, the tests above show."""
    with rewriting(data) as txn:
        record = encode_record(TAG, 300, vote(300, 2))
        txn.put(slot_key(300), record)
        meta = decode_meta(TAG, bytes(txn.get(META_KEY) or b""))
        digest = added(removed(meta.chosen_digest, 300, checksum(300)), 300, record_checksum(record))
        txn.put(META_KEY, encode_meta(TAG, meta._replace(chosen_digest=digest)))
    assert scan(data / "log") == Found((), None)


def test_the_command_line_answers_by_exit_code_and_one_line(log: Path) -> None:
    command = [sys.executable, "-m", "quorate.storage.verify", str(log), str(TAG + 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == StorageBroken.exit_code
    assert done.stdout == "meta record of the log is of another replica, cluster or release\n"
    assert done.stderr == ""


def test_a_page_past_the_end_kills_only_the_child_which_told_how_far_it_was(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, IDENTITY)
    store.commit([Persist(1, BALLOT, [(slot, vote(slot)) for slot in range(1, LAST + 1)], CHOSEN)])
    store.close()
    log = tmp_path / "log"
    with (log / "data.mdb").open("r+b") as file:
        record = file.read().index(b"%d;" % LAST * 100)
        file.truncate(record - record % PAGE)
    with pytest.raises(StorageBroken, match=r"unreadable or truncated past slot 512 \(signal 7\)"):
        verify_in_child(log, TAG)


def test_no_log_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageBroken):
        verify_in_child(tmp_path, TAG)

"""The durable store: LMDB under our own checksums.

One write transaction per `commit`, whatever it holds: that is the group commit. In mode `sync` LMDB runs with its
default sync flags; each of WRITEMAP, NOSYNC, MAPASYNC and NOMETASYNC may lose or corrupt what was acknowledged
(FAULTS.md §0.4). Mode `async` accepts that for a power cut, and for nothing else: a commit returns when the kernel has
it, a thread syncs every ASYNC_SYNC_SECONDS, and a machine that went down in between makes the log worthless, which
`identity` finds by the kernel's boot id.

LMDB detects no corruption, opens a truncated file as long as its meta pages are whole, and goes on after a failed fsync
(FAULTS.md §0.1 to §0.3). Hence the rules:

- Each record and the meta record bear a checksum, the replica's tag and their own place; each read verifies them.
- The meta record holds digests over all records, so that a lost or an outdated one is found; and the number of commits,
  of which a second file, `commits`, keeps a lower bound, so that a log that fell back by a transaction is found.
- A store that holds data is scanned in a child process before it is opened: see `verify`, which also tells what of the
  damage can be repaired. Damage that comes to light later ends the process; the next start scans again.
- A failed commit fences the store for good: the kernel may have dropped the very pages that failed, so that a second
  fsync would succeed and prove nothing. A full disk or map is no exception, although LMDB keeps what it had: the
  driver refuses writes long before (`room`), and a restart finds the map larger than the file.

Records up to the base are gone for readers at once, and from the file bit by bit: each commit removes a bounded number,
whose pages the next ones use again. The digest of the prefix is over the records that are in the file, whichever these
are: it lets go of one when that is removed, and takes one in when it was repaired. `digest` is made for that.

Never use a store after a fork. Read transactions end before the event loop runs on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from quorate.consensus.core import Persist, Recovered
from quorate.errors import IdentityRefused, Misuse, StorageBroken
from quorate.files import fsync_directory
from quorate.limits import ASYNC_SYNC_SECONDS, LOG_COUNTS_SLOTS, LOG_TRIM_RECORDS_MAX
from quorate.records import (
    StoreMeta,
    decode_membership,
    decode_meta,
    decode_record,
    encode_membership,
    encode_meta,
    encode_record,
    extend_digest,
    record_ballot,
    record_checksum,
    record_count,
)
from quorate.storage import Identity, digest
from quorate.storage.change import Change, merged
from quorate.storage.counter import CommitCounter
from quorate.storage.environment import DATA_NAME, MEMBERSHIP_KEY, META_KEY, REJOIN, open_environment, slot_key
from quorate.storage.identity import STORE_NAME, Mode, claim, identity_tag
from quorate.storage.room import Room, room_at
from quorate.storage.verify import verify_in_child
from quorate.types import NO_BALLOT, NO_BASE, Ballot, Membership, Slot, Vote

_NO_META = StoreMeta(NO_BALLOT, 0, NO_BALLOT, NO_BASE, 0, 0, 0, digest.EMPTY)


class _Open(NamedTuple):
    """What is remembered of a record above the chosen prefix: the digests are kept up from these."""

    checksum: int
    ballot: Ballot

    @staticmethod
    def of(record: bytes | memoryview) -> _Open:
        return _Open(record_checksum(record), record_ballot(record))


class LmdbStore:
    """The `LogStore` contract on disk. Holds the directory's claim until `close`.

    Raises `IdentityRefused` if the directory is not this replica's, in use or emptied, and `StorageBroken` if anything
    in it is damaged beyond repair.
    """

    blocks = True

    def __init__(self, directory: Path, identity: Identity, mode: Mode = Mode.SYNC) -> None:
        self._tag = identity_tag(identity)
        self._mode = mode
        self._path = directory / STORE_NAME
        self._fault: StorageBroken | None = None
        self._meta = _NO_META
        self._open_records: dict[Slot, _Open] = {}
        """Of every record above the chosen prefix; a window at most."""
        self.damaged: tuple[Slot, ...] = ()
        with ExitStack() as held:
            self._owner = claim(directory, identity, mode)
            held.callback(self._owner.close)
            self._open(held)
            if mode is Mode.ASYNC:
                self._begin_syncing(held)
            self._held = held.pop_all()
        self.identity = self._owner.identity
        self.store_id, self.life, self.nonce = self._owner.store_id, self._owner.life, self._owner.nonce

    @property
    def commits(self) -> int:
        """Return the number of commits so far."""
        return self._meta.commits

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self, held: ExitStack) -> None:
        with self._fencing():
            self._path.mkdir(exist_ok=True)
            data = self._path / DATA_NAME
            if data.exists() and data.stat().st_size:
                self.damaged = verify_in_child(self._path, self._tag)
            self._counter = CommitCounter(self._path / "commits", create=self._owner.fresh)
            held.callback(self._counter.close)
            self._env = open_environment(self._path, sync=self._mode is Mode.SYNC)
            held.callback(self._env.close)
            self._load()
        if self._meta.commits == 0:
            self._initialise()
        if self._meta.commits < self._counter.value:
            holds = f"holds {self._meta.commits} commits of at least {self._counter.value}"
            raise StorageBroken(f"{self._path}: rolled back, {holds}", REJOIN)
        self._owner.confirm()

    def _initialise(self) -> None:
        if not self._owner.fresh:
            raise IdentityRefused(f"{self._path}: identity marker present, store empty", REJOIN)
        with self._fencing():
            self._write(_NO_META._replace(commits=1), {})
            self._env.sync(True)
            fsync_directory(self._path)
            fsync_directory(self._path.parent)

    def _load(self) -> None:
        with self._env.begin(buffers=True) as txn:
            data = txn.get(META_KEY)
            if data is None:
                return
            self._meta = decode_meta(self._tag, data)
            cursor = txn.cursor()
            cursor.set_range(slot_key(self._meta.chosen + 1))
            for key, record in cursor:
                if key not in (META_KEY, MEMBERSHIP_KEY):
                    self._open_records[int.from_bytes(key, "big")] = _Open.of(record)

    def recover(self) -> Recovered:
        """Return what was vouched for; all of it was verified when the store was opened."""
        meta = self._meta
        with self._fencing(), self._env.begin(buffers=True) as txn:
            votes = {slot: self._vote(txn, slot) for slot in self._open_records}
            membership = self._membership(txn)
        if _open_digest(self._open_records) != meta.open_digest:
            raise StorageBroken(f"log records above slot {meta.chosen} are not the ones last committed", REJOIN)
        return Recovered(meta.promised, votes, meta.chosen, meta.chosen_ballot, meta.base, membership)

    def _membership(self, txn: lmdb.Transaction) -> Membership | None:
        data = txn.get(MEMBERSHIP_KEY)
        return None if data is None else decode_membership(self._tag, data)

    # --- writing -----------------------------------------------------------------------------------------------------

    def commit(self, persists: Sequence[Persist]) -> None:
        """Write all of them in one durable transaction. A slot that was already chosen keeps the vote it has."""
        change = merged(persists, self._meta.base)
        assert change.chosen >= self._meta.chosen, "the chosen prefix never shrinks"
        assert change.promised >= self._meta.promised, "a promise is never taken back"
        assert self._meta.base.slot <= change.base.slot <= change.chosen, (
            "the base never goes back, nor past the prefix"
        )

        known = max(self._meta.chosen, change.base.slot)
        votes = {slot: vote for slot, vote in change.votes.items() if slot > known}
        records = {slot: encode_record(self._tag, slot, vote) for slot, vote in votes.items()}
        held = {slot: record for slot, record in self._open_records.items() if known < slot <= change.last}
        held |= {slot: _Open.of(record) for slot, record in records.items()}
        gone = self._open_records.keys() - held.keys()
        membership = encode_membership(self._tag, change.membership) if change.membership else None
        meta = self._meta_after(change, held, membership)
        with self._fencing():
            self._write(meta, records, membership, gone, trim=LOG_TRIM_RECORDS_MAX + len(records))
        self._open_records = {slot: held[slot] for slot in sorted(held) if slot > change.chosen}
        self.damaged = tuple(slot for slot in self.damaged if slot > change.base.slot)

    def _meta_after(self, change: Change, held: Mapping[Slot, _Open], membership: bytes | None) -> StoreMeta:
        """Return the meta record as of a change that leaves `held` above what was chosen before, or is now trimmed."""
        before = self._meta
        newly_chosen = range(max(before.chosen, change.base.slot) + 1, change.chosen + 1)
        prefix = before.chosen_digest
        for slot in newly_chosen:
            prefix = digest.added(prefix, slot, held[slot].checksum)
        chosen_ballot = before.chosen_ballot
        if change.chosen > before.chosen:
            chosen_ballot = held[change.chosen].ballot if newly_chosen else change.base.ballot
        return StoreMeta(
            change.promised,
            change.chosen,
            chosen_ballot,
            change.base,
            before.commits + 1,
            _open_digest({slot: held[slot] for slot in sorted(held) if slot > change.chosen}),
            record_checksum(membership) if membership else before.membership_checksum,
            prefix,
        )

    def raise_epoch(self) -> None:
        """Begin a new epoch, in which peers of the old one are refused. For `rescue`, before anything else is done."""
        with self._fencing():
            self._owner.raise_epoch()
        self.identity = self._owner.identity

    def repair(self, slot: Slot, vote: Vote) -> None:
        """Put what a peer holds in a damaged slot, in a durable transaction."""
        if slot not in self.damaged:
            raise Misuse(f"slot {slot} is not damaged")
        record = encode_record(self._tag, slot, vote)
        prefix = digest.added(self._meta.chosen_digest, slot, record_checksum(record))
        meta = self._meta._replace(commits=self._meta.commits + 1, chosen_digest=prefix)
        with self._fencing():
            self._write(meta, {slot: record})
        self.damaged = tuple(other for other in self.damaged if other != slot)

    def _write(
        self,
        meta: StoreMeta,
        records: Mapping[Slot, bytes],
        membership: bytes | None = None,
        gone: Iterable[Slot] = (),
        trim: int = 0,
    ) -> None:
        """Remove, trim and put in one transaction; trimming takes its records out of the digest of `meta`."""
        items = [(slot_key(slot), record) for slot, record in records.items()]
        if membership:
            items.append((MEMBERSHIP_KEY, membership))
        with self._env.begin(write=True, buffers=True) as txn:
            for slot in gone:
                txn.delete(slot_key(slot))
            meta = meta._replace(chosen_digest=_trimmed(txn, meta, trim))
            # One call: each gives up the interpreter and has to get it back.
            txn.cursor().putmulti([*items, (META_KEY, encode_meta(self._tag, meta))])
        self._counter.write(meta.commits)
        self._meta = meta

    # --- reading -----------------------------------------------------------------------------------------------------

    def counts(self, first: Slot, last: Slot) -> Iterator[int]:
        """Yield the number of commands per slot, off the envelopes, which were verified when the store was opened."""
        for start in range(first, last + 1, LOG_COUNTS_SLOTS):
            slots = range(start, min(start + LOG_COUNTS_SLOTS, last + 1))
            for slot in (start, *(slot for slot in self.damaged if slot in slots)):
                self._check_readable(slot)
            with self._fencing(), self._env.begin(buffers=True) as txn:
                counts = [record_count(_present(txn, slot)) for slot in slots]
            yield from counts

    def read(self, first: Slot, last: Slot, bytes_max: int) -> list[Vote]:
        """Return contiguous votes from `first` on, each verified."""
        self._check_readable(first)
        last = min([last, *(slot - 1 for slot in self.damaged if slot > first)])
        chosen = self._meta.chosen  # before the transaction: it shows at least this much
        votes: list[Vote] = []
        size = 0
        with self._fencing(), self._env.begin(buffers=True) as txn:
            for slot in range(first, last + 1):
                if slot > chosen and txn.get(slot_key(slot)) is None:
                    break
                vote = self._vote(txn, slot)
                size += len(vote.batch.payload)
                if votes and size > bytes_max:
                    break
                votes.append(vote)
        return votes

    def _check_readable(self, slot: Slot) -> None:
        if slot <= self._meta.base.slot:
            raise StorageBroken(f"slot {slot} was trimmed: the log begins behind slot {self._meta.base.slot}")
        if slot in self.damaged:
            raise StorageBroken(f"log record of slot {slot} is damaged", "a peer that holds the slot can repair it")

    def _vote(self, txn: lmdb.Transaction, slot: Slot) -> Vote:
        return decode_record(self._tag, slot, _present(txn, slot))

    # --- the disk ----------------------------------------------------------------------------------------------------

    def room(self) -> Room:
        """Return how much room there is: that of the disk, and the pages of records that went."""
        with self._fencing():
            info, stat = self._env.info(), self._env.stat()
            used = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            return room_at(self._path, max(0, info["last_pgno"] + 1 - used) * stat["psize"])

    def close(self) -> None:
        """Close LMDB and give up the directory; in mode `async`, write to disk what is not yet there."""
        self._held.close()

    def _begin_syncing(self, held: ExitStack) -> None:
        ended = threading.Event()
        thread = threading.Thread(target=self._sync_on_time, args=(ended,), name="sync", daemon=True)
        thread.start()
        held.callback(self._settle)
        held.callback(thread.join)
        held.callback(ended.set)

    def _sync_on_time(self, ended: threading.Event) -> None:
        synced = 0
        while not ended.wait(ASYNC_SYNC_SECONDS):
            commits = self._meta.commits
            if commits == synced:
                continue
            try:
                self._sync()
            except StorageBroken:
                return  # the store is fenced: the next call tells
            synced = commits

    def _sync(self) -> None:
        with self._fencing():
            self._env.sync(True)

    def _settle(self) -> None:
        if self._fault is None:
            self._sync()
            self._owner.settle()

    @contextmanager
    def _fencing(self) -> Iterator[None]:
        """Let nothing through once anything failed."""
        if self._fault:
            raise StorageBroken(self._fault.what, self._fault.hint)
        try:
            yield
        except StorageBroken as fault:
            self._fault = fault
            raise
        except (lmdb.Error, OSError) as error:
            self._fault = StorageBroken(f"log: {error}", "check the disk; the process starts anew from what it holds")
            raise self._fault from error


def _trimmed(txn: lmdb.Transaction, meta: StoreMeta, records_max: int) -> digest.Digest:
    """Remove some of the records up to the base, and return the digest of the prefix without them."""
    result = meta.chosen_digest
    end = slot_key(meta.base.slot)
    cursor = txn.cursor()
    more = records_max > 0 and cursor.first()
    for _ in range(records_max):
        if not more or (key := bytes(cursor.key())) > end:
            break
        result = digest.removed(result, int.from_bytes(key, "big"), record_checksum(cursor.value()))
        more = cursor.delete()
    return result


def _present(txn: lmdb.Transaction, slot: Slot) -> bytes | memoryview:
    data = txn.get(slot_key(slot))
    if data is None:
        raise StorageBroken(f"log record of slot {slot} is missing", REJOIN)
    return data


def _open_digest(records: Mapping[Slot, _Open]) -> int:
    result = 0
    for slot, record in records.items():
        result = extend_digest(result, slot, record.checksum)
    return result


def open_store(directory: Path, identity: Identity) -> LmdbStore:
    """Open the store whose commits survive a power cut."""
    return LmdbStore(directory, identity, Mode.SYNC)


def open_async(directory: Path, identity: Identity) -> LmdbStore:
    """Open the store whose commits survive the process at once, and a power cut a moment later."""
    return LmdbStore(directory, identity, Mode.ASYNC)

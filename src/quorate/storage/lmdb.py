"""The durable store: LMDB under our own checksums.

One write transaction per `commit`, whatever it holds: that is the group commit. LMDB runs with its default sync flags
alone; each of WRITEMAP, NOSYNC, MAPASYNC and NOMETASYNC may lose or corrupt what was acknowledged (FAULTS.md §0.4).

LMDB detects no corruption, opens a truncated file as long as its meta pages are whole, and goes on after a failed fsync
(FAULTS.md §0.1 to §0.3). Hence the rules:

- Each record and the meta record bear a checksum, the replica's tag and their own place; each read verifies them.
- The meta record holds digests over all records, so that a lost or an outdated one is found; and the number of commits,
  of which a second file, `commits`, keeps a lower bound, so that a log that fell back by a transaction is found. That
  file needs no fsync: after a power cut it only bounds less.
- A store that holds data is scanned in a child process before it is opened: see `verify`.
- A failed commit fences the store for good: the kernel may have dropped the very pages that failed, so that a second
  fsync would succeed and prove nothing.

Layout, below the data directory: `log/data.mdb` maps the slot, as 8 bytes big-endian, to its record, and `meta` to the
meta record. Never use a store after a fork. Read transactions end before the event loop runs on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zlib import crc32

import lmdb

from quorate.consensus.core import Persist, Recovered
from quorate.errors import IdentityRefused, StorageBroken
from quorate.limits import LOG_COUNTS_SLOTS
from quorate.storage import Identity
from quorate.storage.identity import DATA_NAME, STORE_NAME, Claim, claim, fsync_directory, identity_tag
from quorate.storage.verify import META_KEY, REJOIN, open_environment, slot_key, verify_in_child
from quorate.types import NO_BALLOT, Slot, Vote
from quorate.wire import (
    StoreMeta,
    decode_meta,
    decode_record,
    encode_meta,
    encode_record,
    extend_digest,
    record_checksum,
    record_count,
)

_NO_META = StoreMeta(NO_BALLOT, chosen=0, commits=0, chosen_digest=0, open_digest=0)


class LmdbStore:
    """The `LogStore` contract on disk. Holds the directory's claim until `close`.

    Raises `IdentityRefused` if the directory is not this replica's, in use or emptied, and `StorageBroken` if anything
    in it is damaged.
    """

    blocks = True

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._tag = identity_tag(identity)
        self._fault: StorageBroken | None = None
        self._meta = _NO_META
        self._open_checksums: dict[Slot, int] = {}
        """Checksums of the records above the chosen prefix, from which the digests are kept up; a window at most."""
        with ExitStack() as held:
            owner = claim(directory, identity, durable=True)
            held.callback(owner.close)
            self._open(directory / STORE_NAME, owner, held)
            self._held = held.pop_all()

    def _open(self, path: Path, owner: Claim, held: ExitStack) -> None:
        path.mkdir(exist_ok=True)
        data = path / DATA_NAME
        if data.exists() and data.stat().st_size:
            verify_in_child(path, self._tag)
        with self._fencing():
            self._counter = _CommitCounter(path / "commits", create=owner.fresh)
            held.callback(self._counter.close)
            self._env = open_environment(path, readonly=False)
            held.callback(self._env.close)
        self._load()
        if self._meta.commits == 0:
            self._initialise(path, owner)
        if self._meta.commits < self._counter.value:
            what = f"{path}: rolled back, holds {self._meta.commits} commits of at least {self._counter.value}"
            raise StorageBroken(what, REJOIN)
        if owner.fresh:
            owner.confirm()

    def _initialise(self, path: Path, owner: Claim) -> None:
        if not owner.fresh:
            raise IdentityRefused(f"{path}: identity marker present, store empty", REJOIN)
        self._write({}, _NO_META._replace(commits=1))
        fsync_directory(path)
        fsync_directory(path.parent)

    def _load(self) -> None:
        with self._fencing(), self._env.begin(buffers=True) as txn:
            data = txn.get(META_KEY)
            if data is None:
                return
            self._meta = decode_meta(self._tag, data)
            cursor = txn.cursor()
            cursor.set_range(slot_key(self._meta.chosen + 1))
            for key, record in cursor:
                if key != META_KEY:
                    self._open_checksums[int.from_bytes(key, "big")] = record_checksum(record)

    def recover(self) -> Recovered:
        """Return the promise, the chosen prefix and the votes above it; all was verified when the store was opened."""
        with self._fencing(), self._env.begin(buffers=True) as txn:
            votes = {slot: self._vote(txn, slot) for slot in self._open_checksums}
        if _digest(0, self._open_checksums, sorted(votes)) != self._meta.open_digest:
            raise StorageBroken(f"log records above slot {self._meta.chosen} are not the ones last committed", REJOIN)
        return Recovered(self._meta.promised, votes, self._meta.chosen)

    def commit(self, persists: Sequence[Persist]) -> None:
        """Write all of them in one durable transaction. A slot that was already chosen keeps the vote it has."""
        promised, chosen = persists[-1].promised, persists[-1].chosen
        assert chosen >= self._meta.chosen, "the chosen prefix never shrinks"
        assert promised >= self._meta.promised, "a promise is never taken back"
        votes = {slot: vote for persist in persists for slot, vote in persist.votes if slot > self._meta.chosen}
        records = {slot: encode_record(self._tag, slot, vote) for slot, vote in votes.items()}

        checksums = self._open_checksums | {slot: record_checksum(record) for slot, record in records.items()}
        newly_chosen = range(self._meta.chosen + 1, chosen + 1)
        chosen_digest = _digest(self._meta.chosen_digest, checksums, newly_chosen)
        open_checksums = {slot: checksums[slot] for slot in sorted(checksums) if slot > chosen}
        open_digest = _digest(0, open_checksums, open_checksums)
        self._write(records, StoreMeta(promised, chosen, self._meta.commits + 1, chosen_digest, open_digest))
        self._open_checksums = open_checksums

    def counts(self, first: Slot, last: Slot) -> Iterator[int]:
        """Yield the number of commands per slot, off the envelopes, which were verified when the store was opened."""
        for start in range(first, last + 1, LOG_COUNTS_SLOTS):
            with self._fencing(), self._env.begin(buffers=True) as txn:
                slots = range(start, min(start + LOG_COUNTS_SLOTS, last + 1))
                counts = [record_count(_present(txn, slot)) for slot in slots]
            yield from counts

    def read(self, first: Slot, last: Slot, bytes_max: int) -> list[Vote]:
        """Return contiguous votes from `first` on, each verified."""
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

    def close(self) -> None:
        """Close LMDB and give up the directory."""
        self._held.close()

    def _write(self, records: Mapping[Slot, bytes], meta: StoreMeta) -> None:
        with self._fencing():
            items = [(slot_key(slot), record) for slot, record in records.items()]
            items.append((META_KEY, encode_meta(self._tag, meta)))
            with self._env.begin(write=True) as txn:
                txn.cursor().putmulti(items)  # one call: each gives up the interpreter and has to get it back
            self._counter.write(meta.commits)
        self._meta = meta

    def _vote(self, txn: lmdb.Transaction, slot: Slot) -> Vote:
        return decode_record(self._tag, slot, _present(txn, slot))

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


def _present(txn: lmdb.Transaction, slot: Slot) -> bytes | memoryview:
    data = txn.get(slot_key(slot))
    if data is None:
        raise StorageBroken(f"log record of slot {slot} is missing", REJOIN)
    return data


def _digest(digest: int, checksums: Mapping[Slot, int], slots: Iterable[Slot]) -> int:
    for slot in slots:
        digest = extend_digest(digest, slot, checksums[slot])
    return digest


class _CommitCounter:
    """A lower bound of the number of commits, overwritten in place after each."""

    _FORMAT = struct.Struct(">QI")

    def __init__(self, path: Path, *, create: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        data = os.pread(self._fd, self._FORMAT.size, 0)
        if create and not data:
            self.write(0)
            os.fsync(self._fd)
            return
        if len(data) < self._FORMAT.size or self._pack(self._FORMAT.unpack(data)[0]) != data:
            raise StorageBroken(f"{path}: damaged", REJOIN)
        self.value: int = self._FORMAT.unpack(data)[0]

    def write(self, value: int) -> None:
        """Raise the bound."""
        os.pwrite(self._fd, self._pack(value), 0)
        self.value = value

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _pack(self, value: int) -> bytes:
        return self._FORMAT.pack(value, crc32(value.to_bytes(8, "big")))


open_store = LmdbStore

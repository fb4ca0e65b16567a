"""Reads a whole LMDB log, and refuses it unless all is what was committed, but for some votes that peers hold too.

Run as `python -m quorate.storage.verify DIRECTORY TAG`, apart from the process that will use the log: a page that lies
past the end of a truncated file raises SIGBUS, and a damaged page may make LMDB do worse (FAULTS.md §0.1 and §0.2).
The child is a fresh interpreter rather than a fork, since LMDB must not be used across one. It answers by its exit
code and one last line; before that it tells now and then how far it is, for the case that it dies.

Verified are: each record's envelope; that each is found under its key as well as by walking the tree; that the chosen
prefix has no gap above the base; the membership; and the digests of the meta record over the prefix and over the votes
above it. What that comes to:

    all is sound                                   the log is used
    records of the prefix are damaged or missing,  their slots are named, to be repaired by what peers hold: it was
    and the digest vouches for all others          chosen, so it is the same everywhere
    every record is sound, but a digest disagrees  a record is outdated: the disk loses writes and says nothing. Refused
    a vote above the prefix, the membership, the   only this replica knew them, or can know: refused
    meta record or LMDB's tree is damaged

No torn tail has to be told from damage: LMDB writes a transaction's pages where nothing refers to them, and its meta
page last, so that a commit cut short by a crash leaves the state before it. Damage at the end of the log is damage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

from quorate.errors import StorageBroken
from quorate.limits import LOG_DAMAGED_SLOTS_MAX, LOG_VERIFY_PROGRESS_SLOTS
from quorate.records import StoreMeta, check_record, decode_membership, decode_meta, extend_digest, record_checksum
from quorate.storage import digest
from quorate.storage.environment import MEMBERSHIP_KEY, META_KEY, REJOIN, open_environment, slot_key
from quorate.storage.salvage import put_in_place, salvage
from quorate.types import Slot


class Found(NamedTuple):
    """What a scan found of a log that may be used."""

    missing: tuple[Slot, ...]
    """The slots of the chosen prefix, above the base, that have no sound record. Ascending."""
    mended: StoreMeta | None
    """The meta record of a copy without the damaged records, which must then take the place of the log; None if there
    are no damaged records in it."""


def verify_in_child(path: Path, identity_tag: int) -> tuple[Slot, ...]:
    """Verify the log at `path` in a process of its own, and return the slots of the chosen prefix that it misses.

    Damaged records are missing afterwards: the log is replaced by a copy without them, see `salvage`. Raises
    `StorageBroken` with what was found.
    """
    # -P: the directory we happen to be in is the service's, and may hold modules with the names of ours.
    command = [sys.executable, "-P", "-m", "quorate.storage.verify", str(path), str(identity_tag)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    said = child.stdout.splitlines() or ["0"]
    if child.returncode == 0:
        return tuple(json.loads(said[-1]))
    if child.returncode == StorageBroken.exit_code:
        raise StorageBroken(f"{path}: {said[-1]}", REJOIN)
    if child.returncode == os.EX_IOERR:
        raise StorageBroken(f"{path}: {said[-1]}", "check the disk, and whether it has room for a second log")
    how = f"signal {-child.returncode}" if child.returncode < 0 else child.stderr.strip().rpartition("\n")[2]
    raise StorageBroken(f"{path}: unreadable or truncated past slot {said[-1]} ({how})", REJOIN)


def verify(path: Path, identity_tag: int, progress: Callable[[Slot], None]) -> Found:
    """Read everything at `path`, telling each slot read. Raises `StorageBroken`, `lmdb.Error`, or dies."""
    with open_environment(path, readonly=True) as env, env.begin(buffers=True) as txn:
        data = txn.get(META_KEY)
        if data is None and txn.stat()["entries"] == 0:
            return Found((), None)  # the process that created it died before its first commit
        if data is None:
            raise StorageBroken("meta record is missing")
        meta = decode_meta(identity_tag, data)
        _verify_membership(txn, identity_tag, meta)
        scan = _Scan(identity_tag, meta)
        for slot, record in _records(txn):
            scan.take(slot, record)
            progress(slot)
        return scan.result()


def _verify_membership(txn: lmdb.Transaction, identity_tag: int, meta: StoreMeta) -> None:
    data = txn.get(MEMBERSHIP_KEY)
    if data is not None:
        decode_membership(identity_tag, data)
    if (0 if data is None else record_checksum(data)) != meta.membership_checksum:
        raise StorageBroken("membership record of the log is not the one last committed")


def _records(txn: lmdb.Transaction) -> Iterator[tuple[Slot, bytes | memoryview]]:
    """Yield the records of all slots, after a check that LMDB's tree is in order around each."""
    previous = b""
    for view, data in txn.cursor():
        key = bytes(view)
        if key in (META_KEY, MEMBERSHIP_KEY):
            continue
        slot = int.from_bytes(key, "big")
        if len(key) != len(slot_key(0)) or key <= previous:
            raise StorageBroken(f"log is out of order: key {key.hex()} follows {previous.hex()}")
        found = txn.get(key)
        if found is None or found != data:
            raise StorageBroken(f"log record of slot {slot} is not found by its key")
        yield slot, data
        previous = key


class _Scan:
    """Judges a log record by record, in the order of slots."""

    def __init__(self, identity_tag: int, meta: StoreMeta) -> None:
        self._tag = identity_tag
        self._meta = meta
        self._residue = meta.chosen_digest
        self._open_digest = 0
        self._next = meta.base.slot + 1
        """The next slot of the prefix, none of which may be missing; up to the base, records go bit by bit."""
        self._damage: dict[Slot, str] = {}

    def take(self, slot: Slot, data: bytes | memoryview) -> None:
        """Judge one record and what should have been before it."""
        self._miss_up_to(min(slot - 1, self._meta.chosen))
        self._next = max(self._next, slot + 1)
        try:
            check_record(self._tag, slot, data)
        except StorageBroken as error:
            if slot > self._meta.chosen:
                raise
            self._note(slot, error.what)
            return
        if slot <= self._meta.chosen:
            self._residue = digest.removed(self._residue, slot, record_checksum(data))
        else:
            self._open_digest = extend_digest(self._open_digest, slot, record_checksum(data))

    def result(self) -> Found:
        """Judge the log as a whole."""
        chosen = self._meta.chosen
        self._miss_up_to(chosen)
        if self._open_digest != self._meta.open_digest:
            raise StorageBroken(f"log records above slot {chosen} are not the ones last committed")
        lost = digest.lost_checksums(self._residue, tuple(self._damage))
        if lost is None:
            damage = "".join(f"; {what}" for what in self._damage.values())
            raise StorageBroken(f"log records up to slot {chosen} are not the ones last committed{damage}")
        sound = self._meta.chosen_digest
        for slot, checksum in lost.items():
            sound = digest.removed(sound, slot, checksum)
        missing = tuple(slot for slot in lost if slot > self._meta.base.slot)
        mended = None if sound == self._meta.chosen_digest else self._meta._replace(chosen_digest=sound)
        return Found(missing, mended)

    def _miss_up_to(self, last: Slot) -> None:
        for slot in range(self._next, last + 1):
            self._note(slot, f"log record of slot {slot} is missing")

    def _note(self, slot: Slot, what: str) -> None:
        self._damage[slot] = what
        if len(self._damage) > LOG_DAMAGED_SLOTS_MAX:
            first = next(iter(self._damage.values()))
            raise StorageBroken(f"log has more than {LOG_DAMAGED_SLOTS_MAX} damaged slots, the first: {first}")


def _main(directory: str, identity_tag: str) -> int:
    path, tag = Path(directory), int(identity_tag)
    try:
        found = verify(path, tag, _tell)
    except (StorageBroken, lmdb.Error) as error:
        return _answer(error.what if isinstance(error, StorageBroken) else str(error), StorageBroken.exit_code)
    try:
        if found.mended:
            copy = salvage(path, tag, found.mended)
            if verify(copy, tag, _tell) != Found(found.missing, None):
                raise StorageBroken("the copy is not what was copied")
            put_in_place(copy, path)
    except (StorageBroken, lmdb.Error, OSError) as error:
        slots = ", ".join(map(str, found.missing))
        return _answer(f"log is damaged at slot {slots}, and the rest can't be copied: {error}", os.EX_IOERR)
    return _answer(json.dumps(found.missing), 0)


def _answer(line: str, exit_code: int) -> int:
    sys.stdout.write(f"{line}\n")
    return exit_code


def _tell(slot: Slot) -> None:
    if slot % LOG_VERIFY_PROGRESS_SLOTS == 0:
        sys.stdout.write(f"{slot}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

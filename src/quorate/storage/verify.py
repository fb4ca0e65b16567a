"""Reads a whole LMDB log and refuses it unless every record is what was committed.

Run as `python -m quorate.storage.verify DIRECTORY TAG`, apart from the process that will use the log: a page that lies
past the end of a truncated file raises SIGBUS, and a damaged page may make LMDB do worse (FAULTS.md §0.1 and §0.2).
The child is a fresh interpreter rather than a fork, since LMDB must not be used across one. It answers by its exit
code and one line; before that it tells now and then how far it is, for the case that it dies.

Verified are: each record's envelope; that each is found under its key as well as by walking the tree; that the chosen
prefix has no gap; and the digests of the meta record over both the chosen prefix and the votes above it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb

from quorate.errors import StorageBroken
from quorate.limits import LOG_MAP_BYTES, LOG_READERS_MAX, LOG_VERIFY_PROGRESS_SLOTS
from quorate.types import Slot
from quorate.wire import StoreMeta, check_record, decode_meta, extend_digest, record_checksum

META_KEY = b"meta"
"""Sorts after all slots, whose first byte is below 0x40 (COUNTER_MAX)."""

REJOIN = "this replica must rejoin as a new member"


def open_environment(path: Path, *, readonly: bool) -> lmdb.Environment:
    """Open LMDB with its default, safe, sync flags. Without a lock when reading: the directory's claim excludes others.

    Raises `lmdb.Error`.
    """
    return lmdb.open(
        str(path), map_size=LOG_MAP_BYTES, max_readers=LOG_READERS_MAX, mode=0o600, readonly=readonly, lock=not readonly
    )


def slot_key(slot: Slot) -> bytes:
    """Return the key of a slot's record: its order is the slots' order."""
    return slot.to_bytes(8, "big")


def verify_in_child(path: Path, identity_tag: int) -> None:
    """Verify the log at `path` in a process of its own. Raises `StorageBroken` with what that found."""
    # -P: the directory we happen to be in is the service's, and may hold modules with the names of ours.
    command = [sys.executable, "-P", "-m", "quorate.storage.verify", str(path), str(identity_tag)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode == 0:
        return
    said = child.stdout.splitlines() or ["0"]
    if child.returncode == StorageBroken.exit_code:
        raise StorageBroken(f"{path}: {said[-1]}", REJOIN)
    how = f"signal {-child.returncode}" if child.returncode < 0 else child.stderr.strip().rpartition("\n")[2]
    raise StorageBroken(f"{path}: unreadable or truncated past slot {said[-1]} ({how})", REJOIN)


def verify(path: Path, identity_tag: int) -> Iterator[Slot]:
    """Read everything at `path`, yielding the slots verified. Raises `StorageBroken`, `lmdb.Error`, or dies."""
    with open_environment(path, readonly=True) as env, env.begin(buffers=True) as txn:
        data = txn.get(META_KEY)
        if data is None and txn.stat()["entries"] == 0:
            return  # the process that created it died before its first commit
        if data is None:
            raise StorageBroken("meta record is missing")
        yield from _verify_records(txn, identity_tag, decode_meta(identity_tag, data))


def _verify_records(txn: lmdb.Transaction, identity_tag: int, meta: StoreMeta) -> Iterator[Slot]:
    chosen_digest = open_digest = slot = 0
    for key, data in txn.cursor():
        if key == META_KEY:
            break
        previous, slot = slot, int.from_bytes(key, "big")
        if slot <= previous or (previous < meta.chosen and slot != previous + 1):
            raise StorageBroken(f"log record of slot {previous + 1} is missing: slot {slot} follows {previous}")
        check_record(identity_tag, slot, data)
        checksum = record_checksum(data)
        found = txn.get(bytes(key))
        if found is None or record_checksum(found) != checksum:
            raise StorageBroken(f"log record of slot {slot} is not found by its key")
        if slot <= meta.chosen:
            chosen_digest = extend_digest(chosen_digest, slot, checksum)
        else:
            open_digest = extend_digest(open_digest, slot, checksum)
        yield slot
    if slot < meta.chosen:
        raise StorageBroken(f"log record of slot {slot + 1} is missing: the chosen prefix ends at {meta.chosen}")
    if chosen_digest != meta.chosen_digest:
        raise StorageBroken(f"log records up to slot {meta.chosen} are not the ones last committed")
    if open_digest != meta.open_digest:
        raise StorageBroken(f"log records above slot {meta.chosen} are not the ones last committed")


def _main(path: str, identity_tag: str) -> int:
    try:
        for count, slot in enumerate(verify(Path(path), int(identity_tag))):
            if count % LOG_VERIFY_PROGRESS_SLOTS == 0:
                sys.stdout.write(f"{slot}\n")
                sys.stdout.flush()
    except StorageBroken as error:
        sys.stdout.write(f"{error.what}\n")
        return StorageBroken.exit_code
    except lmdb.Error as error:
        sys.stdout.write(f"{error}\n")
        return StorageBroken.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

"""Copies what is sound of a damaged log into a new file, which takes the place of the old.

LMDB must never write to a page that was found damaged: it trusts the sizes and offsets there, and moves memory by them.
A new tree also leaves behind the damage that reading can't show. Left out are the damaged records; the meta record gets
the digest of what is left, so that their slots are known to be missing until they are repaired.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import lmdb

from quorate.errors import StorageBroken
from quorate.files import fsync_directory
from quorate.limits import LOG_COPY_BYTES
from quorate.records import StoreMeta, check_record, encode_meta
from quorate.storage.environment import DATA_NAME, MEMBERSHIP_KEY, META_KEY, open_environment

COPY_NAME = "copy"
Record = tuple[bytes, bytes | memoryview]


def salvage(path: Path, identity_tag: int, mended: StoreMeta) -> Path:
    """Copy the log at `path`, with another meta record and without its damaged records, durably; return where to.

    Raises `lmdb.Error` and OSError.
    """
    copy = path / COPY_NAME
    shutil.rmtree(copy, ignore_errors=True)  # of a start that was cut short
    copy.mkdir()
    with (
        open_environment(path, readonly=True) as source,
        source.begin(buffers=True) as reading,
        open_environment(copy, sync=False) as target,
    ):
        for records in _portions(reading, identity_tag):
            with target.begin(write=True) as writing:
                writing.cursor().putmulti(records)
        with target.begin(write=True) as writing:
            writing.put(META_KEY, encode_meta(identity_tag, mended))
        target.sync(True)
    return copy


def put_in_place(copy: Path, path: Path) -> None:
    """Let the copy take the place of the log at `path`: after a power cut there is one or the other, whole."""
    (copy / DATA_NAME).rename(path / DATA_NAME)
    fsync_directory(path)
    shutil.rmtree(copy)


def _portions(txn: lmdb.Transaction, identity_tag: int) -> Iterator[list[Record]]:
    records: list[Record] = []
    size = 0
    for view, data in txn.cursor():
        key = bytes(view)
        if key == MEMBERSHIP_KEY or (key != META_KEY and _is_sound(identity_tag, key, data)):
            records.append((key, data))
            size += len(data)
        if size > LOG_COPY_BYTES:
            yield records
            records, size = [], 0
    yield records


def _is_sound(identity_tag: int, key: bytes, data: bytes | memoryview) -> bool:
    try:
        check_record(identity_tag, int.from_bytes(key, "big"), data)
    except StorageBroken:
        return False
    return True

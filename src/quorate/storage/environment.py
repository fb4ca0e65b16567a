"""How the log lies in LMDB: which file, which keys, which flags.

`log/data.mdb` below the data directory maps each slot, as 8 bytes big-endian, to its record, `meta` to the meta record
and `membership` to the record of the membership, if there is one.
"""

from __future__ import annotations

from pathlib import Path

import lmdb

from quorate.limits import LOG_MAP_BYTES, LOG_READERS_MAX
from quorate.types import Slot

DATA_NAME = "data.mdb"
"""LMDB's own name for its one file."""

META_KEY = b"meta"
MEMBERSHIP_KEY = b"membership"
"""Both sort after all slots, whose first byte is below 0x41 (COUNTER_MAX)."""

REJOIN = "this replica must rejoin as a new member"


def open_environment(path: Path, *, readonly: bool = False, sync: bool = True) -> lmdb.Environment:
    """Open LMDB with its default, safe, sync flags, or none at all.

    There is no lock when reading: the directory's claim excludes others. The map is larger than the file by half, so
    that a log that filled it can grow after a restart. Raises `lmdb.Error`.
    """
    data = path / DATA_NAME
    size = data.stat().st_size if data.exists() else 0
    return lmdb.open(
        str(path),
        map_size=max(LOG_MAP_BYTES, 2 * size),
        max_readers=LOG_READERS_MAX,
        mode=0o600,
        readonly=readonly,
        lock=not readonly,
        sync=sync,
        metasync=sync,
    )


def slot_key(slot: Slot) -> bytes:
    """Return the key of a slot's record: its order is the slots' order."""
    return slot.to_bytes(8, "big")

"""How much room the disk still has, so that writes are refused early rather than failed late (FAULTS.md §2 row 25).

LMDB never gives pages back to the file system but reuses those of records that went. They count as free as long as the
disk has some room of its own, without which nothing can be relied upon: so a log that filled the disk and was then
trimmed takes writes again.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path

from quorate import limits


class Room(enum.Enum):
    """What a disk has room for."""

    OK = "ok"
    LOW = "low"
    """Take no new commands: what is left is for what was promised already, and for trimming."""
    FULL = "full"
    """The next commit may fail, and end the process."""


def room_at(directory: Path, reusable_bytes: int = 0) -> Room:
    """Return how much room the file system of `directory` has. Raises OSError."""
    disk = os.statvfs(directory)
    return judged(disk.f_bavail * disk.f_frsize, reusable_bytes, disk.f_blocks * disk.f_frsize)


def judged(free_bytes: int, reusable_bytes: int, total_bytes: int) -> Room:
    """Judge by what is free, what the log can use again, and how large the file system is."""
    reserve = min(max(limits.DISK_LOW_BYTES, int(total_bytes * limits.DISK_LOW_SHARE)), limits.DISK_LOW_BYTES_MAX)
    reserve = min(reserve, int(total_bytes * limits.DISK_LOW_SHARE_MAX))
    if free_bytes < min(limits.DISK_FULL_BYTES, reserve // 2):
        return Room.FULL
    return Room.LOW if free_bytes + reusable_bytes < reserve else Room.OK

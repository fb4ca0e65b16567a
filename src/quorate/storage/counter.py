"""A lower bound of the number of commits, in a file beside the log that is overwritten in place after each.

It finds a log that fell back by a transaction. It needs no fsync: after a power cut it only bounds less.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

from quorate.errors import StorageBroken
from quorate.storage.environment import REJOIN

_FORMAT = struct.Struct(">QI")


class CommitCounter:
    """The bound at `path`. Raises `StorageBroken` if it is damaged, OSError if it is missing and not to be created."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            data = os.pread(self._fd, _FORMAT.size, 0)
            if create and not data:
                self.write(0)
                os.fsync(self._fd)
                return
            if len(data) < _FORMAT.size or _packed(_FORMAT.unpack(data)[0]) != data:
                raise StorageBroken(f"{path}: damaged", REJOIN)
        except BaseException:
            os.close(self._fd)
            raise
        self.value: int = _FORMAT.unpack(data)[0]

    def write(self, value: int) -> None:
        """Raise the bound."""
        os.pwrite(self._fd, _packed(value), 0)
        self.value = value

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _packed(value: int) -> bytes:
    return _FORMAT.pack(value, crc32(value.to_bytes(8, "big")))

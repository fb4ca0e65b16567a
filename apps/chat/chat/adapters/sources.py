"""Where the sources of user scripts lie, under the digest of what they hold: a directory, or an object store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol


class Sources(Protocol):
    """What services know of it."""

    async def put(self, source: bytes) -> str:
        """Keep a source, and return its digest; raises Unavailable."""
        ...

    async def get(self, digest: str) -> bytes:
        """Return the source of that digest; raises Unavailable, and KeyError if it isn't there."""
        ...


def digest_of(source: bytes) -> str:
    """Return the name under which a source is kept: SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(source).hexdigest()


class DirectorySources:
    """Files in a directory; see `Sources`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, source: bytes) -> str:
        """See `Sources`. A file is there whole or not at all."""
        digest = digest_of(source)
        await asyncio.to_thread(self._write, self._directory / digest, source)
        return digest

    async def get(self, digest: str) -> bytes:
        """See `Sources`."""
        try:
            return await asyncio.to_thread((self._directory / digest).read_bytes)
        except FileNotFoundError:
            raise KeyError(digest) from None

    def _write(self, target: Path, source: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
            file.write(source)
        os.replace(file.name, target)

"""Where the sources of scripts are found: in a store of their own, or in the table beside what is known of them.

Those used last are kept in memory: a source never changes under its digest.
"""

from __future__ import annotations

from collections import OrderedDict

from sqlalchemy import select

from chat import limits
from chat.adapters.database import Database
from chat.adapters.sources import Sources
from chat.scripts.tables import scripts


class SourceCache:
    """Sources by their digest; without a store they lie in the table."""

    def __init__(self, database: Database, store: Sources | None) -> None:
        self._database = database
        self._store = store
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        """Those used last at the end."""
        self._kept_bytes = 0

    async def put(self, source: str) -> str | None:
        """Have the store keep a source; returns what the table has to keep: None if the store has it.

        Raises Unavailable.
        """
        if self._store is None:
            return source
        self._keep(await self._store.put(source.encode()), source.encode())
        return None

    async def get(self, digest: str) -> str:
        """Return the source of that digest; raises Unavailable, and KeyError if it was deleted."""
        if digest not in self._kept:
            self._keep(digest, await self._fetched(digest))
        self._kept.move_to_end(digest)
        return self._kept[digest].decode()

    async def _fetched(self, digest: str) -> bytes:
        if self._store is not None:
            return await self._store.get(digest)
        row = await self._database.row(select(scripts.c.source).where(scripts.c.digest == digest).limit(1))
        if row is None or row["source"] is None:
            raise KeyError(digest)
        return str(row["source"]).encode()

    def _keep(self, digest: str, source: bytes) -> None:
        if digest in self._kept:  # fetched twice at the same time
            return
        self._kept[digest] = source
        self._kept_bytes += len(source)
        while self._kept_bytes > limits.SOURCES_BYTES_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest)

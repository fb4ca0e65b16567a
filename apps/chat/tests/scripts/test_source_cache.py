"""Sources of scripts at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.adapters.database import Database
from chat.adapters.sources import DirectorySources, digest_of
from chat.scripts.source_cache import SourceCache

SOURCE = "def handle(message): return message"


async def test_what_was_put_is_at_hand_even_if_the_store_goes_away(tmp_path: Path) -> None:
    cache = SourceCache(Database(f"sqlite:///{tmp_path / 'chat.db'}"), DirectorySources(tmp_path / "sources"))
    await cache.put(SOURCE)
    (tmp_path / "sources" / digest_of(SOURCE.encode())).unlink()
    assert await cache.get(digest_of(SOURCE.encode())) == SOURCE
    with pytest.raises(KeyError):
        await cache.get(digest_of(b"another"))

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.replica.parts import TinyService


@pytest.fixture
async def service() -> AsyncIterator[TinyService]:
    """A service that listens."""
    tiny = TinyService()
    await tiny.start()
    yield tiny
    await tiny.stop()

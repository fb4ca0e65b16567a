from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.replica.parts import TinyService


@pytest.fixture(autouse=True)
async def nothing_unhandled() -> AsyncIterator[None]:
    """Fail a test in which a callback raised: the loop would only log it."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    yield
    assert raised == []


@pytest.fixture
async def service() -> AsyncIterator[TinyService]:
    """A service that listens."""
    tiny = TinyService()
    await tiny.start()
    yield tiny
    await tiny.stop()

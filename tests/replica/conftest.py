from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from tests.replica.parts import TinyService

ASYNCIO: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tunnels are tested on both loops: those differ in what their transports allow once they are closing."""
    both = item.path.name in ("test_relay.py", "test_tunnels.py")
    return {**ASYNCIO, "uvloop": uvloop.new_event_loop} if both else ASYNCIO


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

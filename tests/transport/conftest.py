"""A host for every test that asks for one, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from tests.transport.host import Host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    await host.mesh.start()
    yield host
    await host.close()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops differ in when data arrives and in how a connection ends, above all under TLS."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

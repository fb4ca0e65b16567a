"""What many tests need: settings, databases of both kinds, and an application that is served on a real socket."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from chat import limits
from chat.settings import Settings
from chat.tokens import Tokens
from deploy.process import workspace
from deploy.servers import PostgreSQL

SERVICE_KEY = "the services' key, long enough for all"
TOKEN_SECRET = "a secret of 32 bytes, or even more"


def settings(**changes: Any) -> Settings:
    return Settings(token_secret=TOKEN_SECRET, service_key=SERVICE_KEY, **changes)


@asynccontextmanager
async def served(app: FastAPI, port: int = 0) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve the application on this port, or a free one, and give a client to it."""
    config = uvicorn.Config(
        app, port=port, log_config=None, lifespan="on", ws="websockets-sansio", ws_max_size=limits.FRAME_BYTES_MAX
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the application doesn't start"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await task


def signed_in(user: int) -> dict[str, str]:
    """Return the header of a user who has logged in."""
    token, _ = Tokens(TOKEN_SECRET, SERVICE_KEY).issue(user, f"user{user}")
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with workspace() as directory:
        server = PostgreSQL(directory / "server")
        asyncio.run(server.start())
        yield server
        asyncio.run(server.stop())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that is empty and nobody else's; PostgreSQL starts for the first who asks."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'chat.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"test_{uuid.uuid4().hex}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name}"))
    yield server.url(name)
    asyncio.run(_execute(server, f"DROP DATABASE {name}"))


async def _execute(server: PostgreSQL, statement: str) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute(statement)
    await connection.close()

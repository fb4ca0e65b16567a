"""The tables on a real PostgreSQL: transactions, a server that goes and comes back, and migrations at once."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.util import await_only

from chat.adapters.database import POOL_CONNECTIONS, Database
from chat.problems import Refused, Unavailable
from deploy.servers import PostgreSQL

MIGRATE = """
import asyncio, sys
from chat.adapters.database import Database
asyncio.run(Database(sys.argv[1]).migrate(sys.argv[2:]))
"""


@pytest.fixture
async def url(postgresql: PostgreSQL) -> str:
    """Return the URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgresql.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return postgresql.url(name)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Return a database with one table of numbers."""
    database = Database(url)
    await database.change(lambda connection: connection.execute(text("CREATE TABLE numbers (number integer)")))
    yield database
    await database.close()


def insert(connection: Connection, number: int) -> None:
    connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})


async def note(database: Database, number: int) -> None:
    await database.change(insert, number)


async def numbers(database: Database) -> list[int]:
    return [row["number"] for row in await database.rows(text("SELECT number FROM numbers ORDER BY number"))]


async def test_a_transaction_comes_into_force_whole_or_not_at_all(database: Database) -> None:
    def refused(connection: Connection) -> None:
        insert(connection, 2)
        raise Refused(409, "no", "No")

    await note(database, 1)
    with pytest.raises(Refused, match="No"):
        await database.change(refused)
    assert await numbers(database) == [1]


async def test_more_ask_at_once_than_there_are_connections(database: Database) -> None:
    await asyncio.gather(*(note(database, number) for number in range(5 * POOL_CONNECTIONS)))
    assert await numbers(database) == list(range(5 * POOL_CONNECTIONS))


async def test_while_the_server_is_away_that_is_said_and_then_all_works_again(
    postgresql: PostgreSQL, database: Database
) -> None:
    """Killed with all connections in use before, so that all of them are dead afterwards."""
    await asyncio.gather(*(note(database, number) for number in range(POOL_CONNECTIONS)))
    await postgresql.kill()
    try:
        assert not await database.is_there()
        for _ in range(3):
            with pytest.raises(Unavailable, match="the database"):
                await note(database, 100)
    finally:
        await postgresql.start()
    await asyncio.gather(*(note(database, number) for number in range(POOL_CONNECTIONS, 2 * POOL_CONNECTIONS)))
    assert await numbers(database) == list(range(2 * POOL_CONNECTIONS))
    assert await database.is_there()


async def test_a_server_that_was_started_again_unnoticed_is_used_as_if_nothing_had_been(
    postgresql: PostgreSQL, database: Database
) -> None:
    await asyncio.gather(*(note(database, number) for number in range(POOL_CONNECTIONS)))
    await postgresql.restart()
    await note(database, 100)
    assert await numbers(database) == [*range(POOL_CONNECTIONS), 100]


async def test_a_transaction_that_loses_its_server_is_unavailable_and_has_no_effect(
    postgresql: PostgreSQL, database: Database
) -> None:
    def interrupted(connection: Connection) -> None:
        insert(connection, 1)
        await_only(postgresql.kill())
        await_only(postgresql.start())
        insert(connection, 2)

    with pytest.raises(Unavailable, match="the database"):
        await database.change(interrupted)
    assert await numbers(database) == []


async def test_a_server_that_is_starting_is_not_there_yet(postgresql: PostgreSQL, database: Database) -> None:
    """Whoever asks all the while hears nothing else than that it can't be reached."""
    await postgresql.kill()
    starting = asyncio.create_task(postgresql.start())
    while not await database.is_there():
        await asyncio.sleep(0)
    await starting
    assert await numbers(database) == []


async def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE, url, "users", "presence") for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    database = Database(url)
    versions = await database.rows(text("SELECT version_num FROM presence_version"))
    assert await database.rows(text("SELECT * FROM users")) == []
    await database.close()
    assert [row["version_num"] for row in versions] == ["presence_0001"]

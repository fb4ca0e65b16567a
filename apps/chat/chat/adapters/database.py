"""The tables of a process: PostgreSQL by asyncpg, or a file of SQLite by aiosqlite, through SQLAlchemy.

Each service has tables, migrations and a version of its own, so that several can share one database. Migrations run
forward at start; two processes that start at once wait for each other.

SQLite is set for the replicated deployment: what survives a crash of the machine there is the log of commands, so the
file is not synced. So no statement waits for a disk, and each is executed where it stands, in the event loop's thread:
a hop to another thread and back takes longer than most of them. A transaction takes the write lock at its beginning, so
that none fails half way for want of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiosqlite
from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from chat.problems import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
DRIVERS = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
SERVICES = Path(__file__).parent.parent
POOL_CONNECTIONS = 8
"""Of one process to PostgreSQL, which has 100 for all."""
READING = {"reading": True}
"""How a connection that only reads is marked."""
PASSING = ("08", "40", "53", "57")
"""PostgreSQL's classes of errors that undid the transaction, and pass: no connection, another transaction came first,
too little memory or too many connections, starting or shutting down."""
MIGRATION_LOCK = 0x63686174
"""Of PostgreSQL's advisory locks: the one that migrations take."""


class InPlace(aiosqlite.Connection):
    """A connection whose statements are executed by the caller's own thread, not by the one that every other has."""

    async def _execute(self, fn: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return fn(*arguments, **named)


def _in_place(database: str, **options: Any) -> InPlace:
    return InPlace(partial(sqlite3.connect, database, **options), iter_chunk_size=64)


class Database:
    """Transactions and reads on the database at `url`."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._is_sqlite = parsed.drivername == "sqlite"
        target = parsed.set(drivername=DRIVERS[parsed.drivername])
        self._engine = create_async_engine(
            target,
            pool_size=POOL_CONNECTIONS,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=not self._is_sqlite,  # a connection from before the server was started again is dead
            connect_args={"async_creator_fn": _in_place} if self._is_sqlite else {},
        )
        if self._is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._reader = self._engine.execution_options(**READING)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose changes come into force together; raises Unavailable if the server is away."""
        with _told_plainly():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection that sees one state of the tables, and changes nothing; raises Unavailable."""
        with _told_plainly():
            async with self._reader.connect() as connection:
                yield connection

    async def migrate(self, services: Sequence[str]) -> None:
        """Bring the tables of these services to their newest version."""
        async with self.transaction() as connection:
            if not self._is_sqlite:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            for service in services:
                await connection.run_sync(_upgrade, service)

    async def is_there(self) -> bool:
        """Say whether the database answers."""
        try:
            async with self.reading() as connection:
                await connection.execute(text("SELECT 1"))
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()


def alembic_config(service: str) -> Config:
    """Return where alembic finds a service's migrations, and keeps their version."""
    config = Config()
    config.set_main_option("script_location", str(SERVICES / "migrations"))
    config.set_main_option("version_locations", str(SERVICES / service / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = f"{service}_version"
    return config


def _upgrade(connection: Connection, service: str) -> None:
    config = alembic_config(service)
    config.attributes["connection"] = connection
    alembic.upgrade(config, "head")


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Turn what a missing server looks like into Unavailable."""
    try:
        yield
    except (OperationalError, NoConnection, OSError) as error:
        raise Unavailable("the database") from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if not (error.connection_invalidated or state.startswith(PASSING)):
            raise
        raise Unavailable("the database") from error


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where the driver guesses
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = OFF", "foreign_keys = ON", "busy_timeout = 5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

"""The tables of a process: PostgreSQL by asyncpg, or a file of SQLite, through SQLAlchemy.

Each service has tables, migrations and a version of its own, so that several can share one database. Migrations run
forward at start; two processes that start at once wait for each other.

What is done in one transaction is a plain function of a connection: it can wait for the database, and for nothing else.

SQLite is set for the replicated deployment: what survives a crash of the machine there is the log of commands, so the
file is not synced. So no statement waits for a disk, and all are executed where they stand, in the event loop's thread:
a hop to another thread and back takes longer than most of them. A transaction takes the write lock at its beginning, so
that none fails half way for want of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import URL, Connection, Executable, RowMapping, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import create_async_engine

from chat.problems import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
SERVICES = Path(__file__).parent.parent
POOL_CONNECTIONS = 8
"""Of one process to PostgreSQL, which has 100 for all."""
READING = {"reading": True}
"""How a connection of SQLite that only reads is marked."""
PASSING = ("08", "40", "53", "57")
"""PostgreSQL's classes of errors that undid the transaction, and pass: no connection, another transaction came first,
too little memory or too many connections, starting or shutting down."""
MIGRATION_LOCK = 0x63686174
"""Of PostgreSQL's advisory locks: the one that migrations take."""


class Database:
    """Transactions and reads on the database at `url`."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._engine: _Engine = _SQLite(parsed) if parsed.drivername == "sqlite" else _PostgreSQL(parsed)

    async def change(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Return what `work` returns, whose changes come into force together; raises Unavailable if the server is away.

        If it raises, none of them does.
        """
        with _told_plainly():
            return await self._engine.change(lambda connection: work(connection, *args, **more))

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **more: P.kwargs) -> T:
        """Return what `work` returns, which sees one state of the tables and changes nothing; raises Unavailable."""
        with _told_plainly():
            return await self._engine.read(lambda connection: work(connection, *args, **more))

    async def rows(self, statement: Executable) -> Sequence[RowMapping]:
        """Return the rows that one statement finds; raises Unavailable."""
        return await self.read(lambda connection: connection.execute(statement).mappings().all())

    async def row(self, statement: Executable) -> RowMapping | None:
        """Return the first row that one statement finds, if it finds any; raises Unavailable."""
        return await self.read(lambda connection: connection.execute(statement).mappings().first())

    async def migrate(self, services: Sequence[str]) -> None:
        """Bring the tables of these services to their newest version."""
        await self.change(_upgrade, services)

    async def is_there(self) -> bool:
        """Say whether the database answers."""
        try:
            await self.rows(text("SELECT 1"))
        except Unavailable:
            return False
        return True

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.close()


class _Engine(Protocol):
    """How one kind of database has work done in a transaction."""

    async def change(self, work: Callable[[Connection], T]) -> T: ...

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...


class _SQLite:
    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url)
        event.listen(self._engine, "connect", _prepare_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)
        self._reader = self._engine.execution_options(**READING)

    async def change(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    async def read(self, work: Callable[[Connection], T]) -> T:
        with self._reader.connect() as connection:
            return work(connection)

    async def close(self) -> None:
        self._engine.dispose()


class _PostgreSQL:
    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=POOL_CONNECTIONS,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=True,  # a connection from before the server was started again is dead
        )

    async def change(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def alembic_config(service: str) -> Config:
    """Return where alembic finds a service's migrations, and keeps their version."""
    config = Config()
    config.set_main_option("script_location", str(SERVICES / "migrations"))
    config.set_main_option("version_locations", str(SERVICES / service / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = f"{service}_version"
    return config


def _upgrade(connection: Connection, services: Sequence[str]) -> None:
    if connection.dialect.name != "sqlite":  # which has but one writer
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    for service in services:
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

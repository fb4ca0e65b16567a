"""Every service's tables are brought forward from each of their versions, with what is in them, in both databases."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command as alembic
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from chat.adapters.database import SERVICES, Database, alembic_config

ROWS = 3


def versions() -> Iterator[tuple[str, str]]:
    for directory in sorted(SERVICES.glob("*/migrations")):
        service = directory.parent.name
        for revision in ScriptDirectory.from_config(alembic_config(service)).walk_revisions():
            yield service, revision.revision


def test_all_services_with_tables_are_found_and_their_history_is_one_line() -> None:
    found = {service for service, _ in versions()}
    assert {"users", "auth", "notifications"} <= found
    for service in found:
        script = ScriptDirectory.from_config(alembic_config(service))
        assert len(script.get_heads()) == len(script.get_bases()) == 1, service


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index:sqlalchemy.exc.SAWarning")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index:UserWarning")
@pytest.mark.parametrize(("service", "version"), list(versions()))
async def test_from_each_version_on_rows_are_brought_forward(database_url: str, service: str, version: str) -> None:
    database = Database(database_url)
    await database.change(_upgrade_to, service, version)
    before = await database.change(_filled, service)
    await database.migrate([service])
    await database.migrate([service])
    assert await database.read(_differences, service) == []
    assert await database.read(_counted, before) == dict.fromkeys(before, ROWS)
    await database.close()


def _upgrade_to(connection: sa.Connection, service: str, version: str) -> None:
    config = alembic_config(service)
    config.attributes["connection"] = connection
    alembic.upgrade(config, version)


def _filled(connection: sa.Connection, service: str) -> list[str]:
    """Put rows into all tables of the service as they are now; return those that the newest version has too."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    tables = [table for table in metadata.sorted_tables if not table.name.endswith("_version")]
    for table in tables:
        for number in range(1, ROWS + 1):
            row = {column.name: _value(column, number) for column in table.columns}
            connection.execute(table.insert().values(row))
    kept = _newest(service).tables
    return [table.name for table in tables if table.name in kept]


def _value(column: sa.Column[Any], number: int) -> object:
    """Return what fits the column, and differs from row to row where it can."""
    kind = column.type.python_type
    if kind is bool:
        return number % 2 == 0
    if kind in (int, float):
        return number
    if kind is uuid.UUID:
        return uuid.UUID(int=number)
    length = getattr(column.type, "length", None)
    return uuid.UUID(int=number).hex[-length:] if length else f"{column.name} {number}"


def _newest(service: str) -> sa.MetaData:
    metadata = importlib.import_module(f"chat.{service}.tables").metadata
    assert isinstance(metadata, sa.MetaData)
    return metadata


def _differences(connection: sa.Connection, service: str) -> list[Any]:
    """Return in what the tables are not as the service's code has them."""
    options = {"version_table": f"{service}_version"}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, _newest(service)))


def _counted(connection: sa.Connection, tables: list[str]) -> dict[str, int]:
    return {
        table: connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one()
        for table in tables
    }

"""What the commands of the scripts service do.

A command carries the source itself only where there is no store of sources: then the source lies in the table, so that
every copy has it in the same transaction as the rest.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from chat.commands import Command
from chat.events import UserId
from chat.models import Document, Nothing
from chat.problems import Refused
from chat.scripts import sandbox
from chat.scripts.sandbox import Direction
from chat.scripts.tables import scripts

Language = sandbox.Language | Literal["jolie"]
"""What a script is written in."""


class Script(Document):
    """A script, without its source."""

    direction: Direction
    language: Language
    enabled: bool
    size: int
    """Bytes of UTF-8."""
    digest: str
    """SHA-256 of the source, hexadecimal."""
    updated_at: int
    """Unix milliseconds: when the source was uploaded."""


class UploadScript(Document):
    """A script that was checked."""

    user_id: UserId
    direction: Direction
    language: Language
    size: int
    digest: str
    updated_at: int
    source: str | None
    """None where a store of sources has it already."""


class SwitchScript(Document):
    """Whether a script is to run."""

    user_id: UserId
    direction: Direction
    enabled: bool


class DeleteScript(Document):
    """Which script is to go."""

    user_id: UserId
    direction: Direction


def _upload(connection: Connection, command: UploadScript) -> Script:
    """Put a script in the place of the one before, whose switch it inherits; a first one is switched on."""
    values = command.model_dump()
    if changed := _changed(connection, command, values):
        return changed
    try:
        connection.execute(insert(scripts).values(**values, enabled=True))
    except IntegrityError:  # two at once, in PostgreSQL: the other was first
        raise Refused(409, "changed_meanwhile", "Another script was uploaded at the same time", "Try again.") from None
    return Script(**command.model_dump(include=set(Script.model_fields)), enabled=True)


def _switch(connection: Connection, command: SwitchScript) -> Script:
    if changed := _changed(connection, command, {"enabled": command.enabled}):
        return changed
    raise no_such_script()


def _delete(connection: Connection, command: DeleteScript) -> Nothing:
    if connection.execute(delete(scripts).where(_of(command))).rowcount == 0:
        raise no_such_script()
    return Nothing()


def _changed(connection: Connection, whose: UploadScript | SwitchScript, values: dict[str, Any]) -> Script | None:
    connection.execute(update(scripts).where(_of(whose)).values(values))
    row = connection.execute(select(scripts).where(_of(whose))).mappings().first()
    return None if row is None else script_of(row)


def _of(command: UploadScript | SwitchScript | DeleteScript) -> ColumnElement[bool]:
    return and_(scripts.c.user_id == command.user_id, scripts.c.direction == command.direction)


def script_of(row: Any) -> Script:
    """Return what a row of the table says of its script."""
    return Script(**{name: row[name] for name in Script.model_fields})


def no_such_script() -> Refused:
    """Return the refusal of a direction for which the user has none."""
    return Refused(404, "no_such_script", "There is no such script")


UPLOAD = Command("scripts.upload", UploadScript, Script, _upload)
SWITCH = Command("scripts.switch", SwitchScript, Script, _switch)
DELETE = Command("scripts.delete", DeleteScript, Nothing, _delete)

"""What the command of the auto-reply service does."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from chat.autoreply.tables import autoreplies
from chat.commands import Command
from chat.events import UserId
from chat.models import Document
from chat.problems import Refused


class AutoReply(Document):
    """The settings of a user."""

    message_body: str = ""
    """What is answered: empty until the user sets it."""
    enabled: bool = False


class SetAutoReply(Document):
    """What to change; None leaves as it is."""

    user_id: UserId
    message_body: str | None = None
    enabled: bool | None = None


def settings_of(connection: Connection, user_id: int) -> AutoReply:
    """Return a user's settings: of one who never set any, those that everybody starts with."""
    columns = (autoreplies.c.message_body, autoreplies.c.enabled)
    row = connection.execute(select(*columns).where(autoreplies.c.user_id == user_id)).mappings().first()
    return AutoReply() if row is None else AutoReply(**row)


def _set(connection: Connection, command: SetAutoReply) -> AutoReply:
    values = command.model_dump(exclude_none=True)
    _write(connection, values)
    changed = settings_of(connection, command.user_id)
    if changed.enabled and not changed.message_body:
        raise Refused(422, "no_text", "There is no text to answer with", "Set one first.")
    return changed


def _write(connection: Connection, values: dict[str, Any]) -> None:
    statement = update(autoreplies).where(autoreplies.c.user_id == values["user_id"]).values(values)
    if connection.execute(statement).rowcount:
        return
    try:
        connection.execute(insert(autoreplies).values({**AutoReply().model_dump(), **values}))
    except IntegrityError:  # two at once, in PostgreSQL: the other was first
        raise Refused(409, "changed_meanwhile", "Another change was made at the same time", "Try again.") from None


SET = Command("autoreply.set", SetAutoReply, AutoReply, _set)

"""What the commands of the notification service do.

A notification is stored once, whoever brings it again: its `id` tells. Several instances may bring the same at once: in
PostgreSQL each first locks the row of the user's marks, and so sees what the one before it has stored.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal

from sqlalchemy import Connection, case, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from chat import limits
from chat.commands import Command
from chat.events import UserId
from chat.models import Document
from chat.notifications.tables import marks, notifications
from chat.problems import Unavailable
from chat.pushes import Notification


class RecordNotification(Document):
    """A notification to be; decided down to its words."""

    id: uuid.UUID
    user_id: UserId
    kind: Literal["login"]
    body: str
    at: int


class ReadNotifications(Document):
    """That a user has read everything up to a number."""

    user_id: UserId
    through: int


class Through(Document):
    """Up to which number everything is read."""

    through: int


def record(connection: Connection, command: RecordNotification) -> Notification:
    """Store a notification under its user's next number; the oldest goes when there are too many."""
    own = marks.c.user_id == command.user_id
    mark = connection.execute(select(marks).where(own).with_for_update()).mappings().first()
    stored = select(notifications).where(notifications.c.id == command.id)
    if row := connection.execute(stored).mappings().first():
        return notification_of(row, read_through(connection, command.user_id))
    number = 1 if mark is None else mark["last"] + 1
    _store(connection, number, command)
    return Notification(number=number, **command.model_dump(exclude={"user_id"}))


def _store(connection: Connection, number: int, command: RecordNotification) -> None:
    if number == 1:
        _first_mark(connection, command.user_id)
    connection.execute(update(marks).where(marks.c.user_id == command.user_id).values(last=number))
    connection.execute(insert(notifications).values(number=number, **command.model_dump()))
    old = notifications.c.number <= number - limits.NOTIFICATIONS_KEPT_MAX
    connection.execute(delete(notifications).where(notifications.c.user_id == command.user_id, old))


def _first_mark(connection: Connection, user_id: int) -> None:
    try:
        connection.execute(insert(marks).values(user_id=user_id, last=0, read=0))
    except IntegrityError:  # two at once, in PostgreSQL: the other was first
        raise Unavailable("the notification service") from None


def _read(connection: Connection, command: ReadNotifications) -> Through:
    """Note how far somebody has read: never back, and never past what there is."""
    own = marks.c.user_id == command.user_id
    through = case((marks.c.last < command.through, marks.c.last), else_=command.through)
    connection.execute(update(marks).where(own, marks.c.read < through).values(read=through))
    return Through(through=read_through(connection, command.user_id))


def read_through(connection: Connection, user_id: int) -> int:
    """Return up to which number a user has read."""
    return connection.execute(select(marks.c.read).where(marks.c.user_id == user_id)).scalar() or 0


def notification_of(row: Any, read: int) -> Notification:
    """Return a row's notification for a user who has read up to the number `read`."""
    values = {name: row[name] for name in Notification.model_fields if name != "read"}
    return Notification(**values, read=row["number"] <= read)


READ = Command("notifications.read", ReadNotifications, Through, _read)

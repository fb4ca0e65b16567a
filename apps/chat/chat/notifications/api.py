"""The edge of the notification service: logins become notifications, which users read, and mark as read.

Each instance gets every login; all but one find it stored. Those whose sockets are there are told at once, maybe more
than once; if they can't be reached then, they find it when they look.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy import Connection, select

from chat import limits
from chat.adapters.bus import Bus
from chat.adapters.database import Database
from chat.adapters.logins import Logins, UserLogin
from chat.adapters.presence import Presence
from chat.commands import Command, Commands
from chat.models import Document
from chat.notifications.apply import (
    READ,
    ReadNotifications,
    RecordNotification,
    Through,
    notification_of,
    read_through,
    record,
)
from chat.notifications.tables import notifications
from chat.problems import Refused
from chat.pushes import Notice, Notification
from chat.service import Service
from chat.tokens import SignedIn

Number = Annotated[int, Field(ge=0, lt=1 << 31)]
log = structlog.get_logger()


class Page(Document):
    """Which notifications: those after a number."""

    after: Number = 0
    limit: Annotated[int, Field(ge=1, le=limits.PAGE_ENTRIES_MAX)] = limits.PAGE_ENTRIES_MAX


class Notifications(Document):
    """A page of them, ascending."""

    notifications: tuple[Notification, ...]


class ReadUpTo(Document):
    """Up to which number a user has read."""

    through: Number


def build(database: Database, commands: Commands, logins: Logins, presence: Presence, bus: Bus) -> Service:
    """Return the service."""
    api = APIRouter(prefix="/notifications-ms")

    @api.get("/notifications")
    async def read(caller: SignedIn, page: Annotated[Page, Query()]) -> Notifications:
        own = (notifications.c.user_id == caller.id) & (notifications.c.number > page.after)
        statement = select(notifications).where(own).order_by(notifications.c.number).limit(page.limit)

        def found(connection: Connection) -> Notifications:
            through = read_through(connection, caller.id)
            rows = connection.execute(statement).mappings()
            return Notifications(notifications=tuple(notification_of(row, through) for row in rows))

        return await database.read(found)

    @api.post("/notifications/read")
    async def mark_read(wanted: ReadUpTo, caller: SignedIn) -> Through:
        return await commands.submit(READ, ReadNotifications(user_id=caller.id, through=wanted.through))

    async def push(command: RecordNotification, notification: Notification) -> None:
        notice = Notice(user_id=command.user_id, notification=notification)
        try:
            for instance in (await presence.holders({command.user_id})).get(command.user_id, ()):
                await bus.push(instance, [notice])
        except Refused as refused:
            log.warning("a notice is not pushed", user=command.user_id, why=refused.title)

    recording = Command("notifications.record", RecordNotification, Notification, record, push)

    async def take(login: UserLogin) -> None:
        await commands.submit(recording, _notification(login))

    def taking() -> AbstractAsyncContextManager[None]:
        return logins.handling(take)

    return Service("notifications", api, (recording, READ), background=(taking,))


def _notification(login: UserLogin) -> RecordNotification:
    body = f"Somebody logged in as you from {login.address}."
    return RecordNotification(id=login.id, user_id=login.user_id, kind="login", body=body, at=login.at)

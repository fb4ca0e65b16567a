"""The events of logins, from the auth service to every instance of notifications: in process, or by RabbitMQ."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from chat.events import UserId
from chat.models import Document


class UserLogin(Document):
    """`user_login_event`: somebody logged in."""

    id: uuid.UUID
    """Decided by the auth service: by it, an event that comes again is known."""
    user_id: UserId
    address: str
    """Where from."""
    at: int
    """Unix milliseconds."""


LoginHandler = Callable[[UserLogin], Awaitable[None]]


class Logins(Protocol):
    """What services know of it."""

    async def publish(self, login: UserLogin) -> None:
        """Return once the event can no longer be lost; raises Unavailable, or Unknown: then publish the same again."""
        ...

    def handling(self, handler: LoginHandler) -> AbstractAsyncContextManager[None]:
        """Have each event handled here, at least once, as long as the context lasts."""
        ...


class LocalLogins:
    """Calls the handler; see `Logins`."""

    def __init__(self) -> None:
        self._handler: LoginHandler | None = None

    async def publish(self, login: UserLogin) -> None:
        """See `Logins`."""
        assert self._handler is not None, "the notification service runs in this process"
        await self._handler(login)

    @asynccontextmanager
    async def handling(self, handler: LoginHandler) -> AsyncIterator[None]:
        """See `Logins`."""
        self._handler = handler
        yield
        self._handler = None

"""Who there is: the list of users for the page, and whether recipients exist. Both may be a little out of date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from chat import limits
from chat.adapters.presence import Presence
from chat.events import UserId
from chat.models import Document
from chat.users.client import UsersClient
from chat.users.contract import User


class Person(Document):
    """A user, as everybody may see them."""

    id: UserId
    username: str
    name: str
    surname: str
    online: bool


class People:
    """Asks the users service as rarely as can be."""

    def __init__(self, users: UsersClient, presence: Presence) -> None:
        self._users = users
        self._presence = presence
        self._turn = asyncio.Lock()
        self._listed: Sequence[User] = ()
        self._listed_at = float("-inf")
        self._known: dict[int, float] = {}
        """When each was last seen to be there; whoever was longest ago comes first."""

    async def all(self) -> tuple[Person, ...]:
        """Return everybody, and who is online; raises Unavailable."""
        online = await self._presence.online()
        return tuple(
            Person(id=user.id, username=user.username, name=user.name, surname=user.surname, online=user.id in online)
            for user in await self._list()
        )

    async def unknown(self, ids: Collection[int]) -> int | None:
        """Return the first of these whom there isn't, or None; raises Unavailable.

        A stranger costs one question, and so does everybody who wasn't asked for lately.
        """
        for user in ids:
            if not self._is_known(user):
                if not await self._users.exists(user):
                    return user
                self._know(user)
        return None

    async def _list(self) -> Sequence[User]:
        async with self._turn:  # whoever comes meanwhile gets the same list
            if time.monotonic() - self._listed_at >= limits.PEOPLE_SECONDS:
                self._listed = await self._users.listed(after=0)
                self._listed_at = time.monotonic()
                for user in self._listed:
                    self._know(user.id)
            return self._listed

    def _is_known(self, user: int) -> bool:
        return time.monotonic() - self._known.get(user, float("-inf")) < limits.KNOWN_USERS_SECONDS

    def _know(self, user: int) -> None:
        self._known.pop(user, None)
        self._known[user] = time.monotonic()
        if len(self._known) > limits.KNOWN_USERS_MAX:
            del self._known[next(iter(self._known))]

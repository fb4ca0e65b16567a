"""The edge of the auth service: register, log in, and the list of users, under the paths of both their systems.

A token is given once the event of its login can't be lost. If that can't be had, the login is refused for now, and may
be tried again: nothing else has come of it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request

from chat.adapters.database import Database
from chat.adapters.logins import Logins, UserLogin
from chat.auth.addresses import address_of
from chat.auth.apply import FAIL, FORGIVE
from chat.auth.doorkeeper import Doorkeeper
from chat.commands import Commands
from chat.events import UserId
from chat.models import Document
from chat.passwords import Passwords, TriedPassword
from chat.problems import Unavailable, Unknown
from chat.service import Service
from chat.tokens import SignedIn, Tokens
from chat.users.client import UsersClient
from chat.users.contract import NewUser, Username

After = Annotated[int, Query(ge=0, lt=1 << 31)]


class Login(Document):
    """Who says to be whom."""

    username: Username
    password: TriedPassword


class Registered(Document):
    """A new user."""

    id: UserId
    username: str


class LoggedIn(Document):
    """A token, and whose it is."""

    token: str
    id: UserId
    username: str
    expires_at: int
    """Unix milliseconds."""


def build(
    database: Database, commands: Commands, passwords: Passwords, tokens: Tokens, logins: Logins, users: UsersClient
) -> Service:
    """Return the service."""
    api = APIRouter()
    doorkeeper = Doorkeeper(database, commands, passwords, users)

    @api.post("/auth-ms/auth/register", status_code=201)
    @api.post("/register", status_code=201)
    async def register(new: NewUser) -> Registered:
        user = await users.create(new)
        return Registered(id=user.id, username=user.username)

    @api.post("/auth-ms/auth/login")
    @api.post("/login")
    async def login(wanted: Login, request: Request) -> LoggedIn:
        address = address_of(request)
        user = await doorkeeper.admit(wanted.username, wanted.password, address)
        await _publish(logins, UserLogin(id=uuid.uuid4(), user_id=user.id, address=address, at=_now_ms()))
        token, expires_at = tokens.issue(user.id, user.username)
        return LoggedIn(token=token, id=user.id, username=user.username, expires_at=1000 * expires_at)

    @api.get("/users")
    async def listed(caller: SignedIn, after: After = 0) -> Sequence[tuple[int, str]]:
        return [(user.id, user.username) for user in await users.listed(after)]

    return Service("auth", api, (FAIL, FORGIVE))


async def _publish(logins: Logins, login: UserLogin) -> None:
    try:
        await logins.publish(login)
    except Unknown:  # should it have come about, it tells of a login that was tried, with the right password
        raise Unavailable("the notification service") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

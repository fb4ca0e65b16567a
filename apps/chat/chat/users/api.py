"""The edge of the users service: the CRUD of users, and for the auth service, the hash of a password.

Users change and delete themselves only; services may change anybody.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy import ColumnElement, select

from chat.adapters.database import Database
from chat.commands import Commands
from chat.events import UserId
from chat.models import Nothing
from chat.passwords import Passwords
from chat.problems import Refused
from chat.service import Service
from chat.tokens import ServiceOnly, SignedInOrService
from chat.users.apply import (
    CHANGE,
    CREATE,
    DELETE,
    REHASH,
    ChangeUser,
    CreateUser,
    DeleteUser,
    no_such_user,
    user_of,
)
from chat.users.contract import Changes, Credentials, Filter, NewUser, Rehash, User, Username, Users
from chat.users.tables import is_named, users

Id = Annotated[UserId, Path(alias="id")]


def build(database: Database, commands: Commands, passwords: Passwords) -> Service:
    """Return the service."""
    api = APIRouter(prefix="/users-ms")

    @api.post("/users", status_code=201)
    async def create(new: NewUser) -> User:
        values = new.model_dump(exclude={"password"})
        hashed = await passwords.hash(new.password)
        return await commands.submit(CREATE, CreateUser(**values, password_hash=hashed, created_at=_now_ms()))

    @api.get("/users")
    async def find(caller: SignedInOrService, wanted: Annotated[Filter, Query()]) -> Users:
        statement = select(users).where(*_conditions(wanted)).order_by(users.c.id).limit(wanted.limit)
        return Users(users=tuple(map(user_of, await database.rows(statement))))

    @api.get("/users/{id}")
    async def read(user_id: Id, caller: SignedInOrService) -> User:
        row = await database.row(select(users).where(users.c.id == user_id))
        if row is None:
            raise no_such_user()
        return user_of(row)

    @api.put("/users/{id}")
    async def change(user_id: Id, changes: Changes, caller: SignedInOrService) -> User:
        _refuse_others(user_id, caller)
        values = changes.model_dump(exclude={"password"})
        hashed = None if changes.password is None else await passwords.hash(changes.password)
        return await commands.submit(CHANGE, ChangeUser(id=user_id, **values, password_hash=hashed))

    @api.delete("/users/{id}", status_code=204)
    async def remove(user_id: Id, caller: SignedInOrService) -> None:
        _refuse_others(user_id, caller)
        await commands.submit(DELETE, DeleteUser(id=user_id))

    @api.get("/credentials", dependencies=[ServiceOnly], include_in_schema=False)
    async def credentials(username: Username) -> Credentials:
        row = await database.row(select(users).where(is_named(username)))
        if row is None:
            raise no_such_user()
        return Credentials(id=row["id"], username=row["username"], password_hash=row["password_hash"])

    @api.put("/credentials", dependencies=[ServiceOnly], include_in_schema=False)
    async def rehash(wanted: Rehash) -> Nothing:
        return await commands.submit(REHASH, wanted)

    return Service("users", api, (CREATE, CHANGE, DELETE, REHASH))


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    named = wanted.model_dump(include={"email", "name", "surname"}, exclude_none=True)
    conditions = [users.c.id > wanted.after, *(users.c[name] == value for name, value in named.items())]
    return conditions if wanted.username is None else [*conditions, is_named(wanted.username)]


def _refuse_others(user_id: int, caller: SignedInOrService) -> None:
    if caller is not None and caller.id != user_id:
        raise Refused(403, "not_yours", "Only users themselves may do that")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

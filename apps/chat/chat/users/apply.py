"""What the commands of the users service do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from chat.commands import Command
from chat.events import UserId
from chat.models import Document, Nothing
from chat.problems import Refused
from chat.users.contract import Rehash, User
from chat.users.tables import is_named, users


class CreateUser(Document):
    """A user to be: checked and hashed."""

    username: str
    name: str
    surname: str
    email: str | None
    password_hash: str
    created_at: int


class ChangeUser(Document):
    """What to change; None leaves as it is."""

    id: UserId
    name: str | None = None
    surname: str | None = None
    email: str | None = None
    """Empty: none any more."""
    password_hash: str | None = None


class DeleteUser(Document):
    """Who is to go."""

    id: UserId


def _create(connection: Connection, command: CreateUser) -> User:
    _refuse_if(connection, is_named(command.username), "username")
    if command.email is not None:
        _refuse_if(connection, users.c.email == command.email, "email")
    user = _changed(connection, insert(users).values(command.model_dump()).returning(users))
    assert user is not None
    return user


def _change(connection: Connection, command: ChangeUser) -> User:
    values = command.model_dump(exclude_none=True)
    if command.email:
        _refuse_if(connection, (users.c.email == command.email) & (users.c.id != command.id), "email")
    elif command.email is not None:
        values["email"] = None
    user = _changed(connection, update(users).where(users.c.id == command.id).values(values).returning(users))
    if user is None:
        raise no_such_user()
    return user


def _delete(connection: Connection, command: DeleteUser) -> Nothing:
    result = connection.execute(delete(users).where(users.c.id == command.id))
    if result.rowcount == 0:
        raise no_such_user()
    return Nothing()


def _rehash(connection: Connection, command: Rehash) -> Nothing:
    same = (users.c.id == command.id) & (users.c.password_hash == command.replaces)
    connection.execute(update(users).where(same).values(password_hash=command.password_hash))
    return Nothing()


def _refuse_if(connection: Connection, is_taken: ColumnElement[bool], name: str) -> None:
    if connection.execute(select(users.c.id).where(is_taken)).first():
        raise Refused(409, f"{name}_taken", f"This {name} is taken", "Choose another.")


def _changed(connection: Connection, statement: Any) -> User | None:
    try:
        row = connection.execute(statement).mappings().first()
    except IntegrityError:  # two at once, in PostgreSQL: the other was first
        raise Refused(409, "taken", "The username or the email is taken", "Choose another.") from None
    return None if row is None else user_of(row)


def user_of(row: Any) -> User:
    """Return what everybody may see of a row."""
    return User(**{name: row[name] for name in User.model_fields})


def no_such_user() -> Refused:
    """Return the refusal of a number that is nobody's."""
    return Refused(404, "no_such_user", "There is no such user")


CREATE = Command("users.create", CreateUser, User, _create)
CHANGE = Command("users.change", ChangeUser, User, _change)
DELETE = Command("users.delete", DeleteUser, Nothing, _delete)
REHASH = Command("users.rehash", Rehash, Nothing, _rehash)

"""Copies that apply the same commands in the same order hold the same users, refusals included."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.problems import Refused
from chat.users.apply import CHANGE, CREATE, DELETE, REHASH, ChangeUser, CreateUser, DeleteUser
from chat.users.contract import Rehash
from chat.users.tables import users


def creation(username: str, email: str | None = None) -> CreateUser:
    return CreateUser(
        username=username, name="", surname="", email=email, password_hash=f"hash of {username}", created_at=1
    )


SCRIPT = [
    (CREATE, creation("ada", "a@example.org")),
    (CREATE, creation("ADA")),
    (CREATE, creation("bob", "a@example.org")),
    (CREATE, creation("bob")),
    (CHANGE, ChangeUser(id=2, email="a@example.org")),
    (CHANGE, ChangeUser(id=1, email="", name="Ada")),
    (CHANGE, ChangeUser(id=2, email="a@example.org")),
    (CHANGE, ChangeUser(id=9, name="Nobody")),
    (DELETE, DeleteUser(id=2)),
    (DELETE, DeleteUser(id=2)),
    (CREATE, creation("eve")),
    (REHASH, Rehash(id=3, password_hash="new", replaces="hash of bob")),
    (REHASH, Rehash(id=3, password_hash="new", replaces="hash of eve")),
]


async def applied(path: Path) -> tuple[list[object], list[object]]:
    """Return what a new copy answered to the script, and what it holds then."""
    database = Database(f"sqlite:///{path}")
    await database.migrate(["users"])
    commands, answers = LocalCommands(database), list[object]()
    for command, payload in SCRIPT:
        try:
            answers.append(await commands.submit(command, payload))
        except Refused as refused:
            answers.append((refused.status, refused.code))
    rows = [tuple(row.values()) for row in await database.rows(select(users).order_by(users.c.id))]
    await database.close()
    return answers, list[object](rows)


async def test_two_copies_answer_and_hold_the_same(tmp_path: Path) -> None:
    answers, rows = await applied(tmp_path / "first.db")
    assert (answers, rows) == await applied(tmp_path / "second.db")
    assert [one for one in answers if isinstance(one, tuple)] == [
        (409, "username_taken"),
        (409, "email_taken"),
        (409, "email_taken"),
        (404, "no_such_user"),
        (404, "no_such_user"),
    ]
    assert rows == [
        (1, "ada", "Ada", "", None, "hash of ada", 1),
        (3, "eve", "", "", None, "new", 1),
    ]

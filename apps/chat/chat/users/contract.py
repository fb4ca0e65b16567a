"""What the users service and those who ask it say to each other.

User names are ASCII, so that no two look alike, and upper and lower case are one: whoever is `Ada` is `ada` too. Other
names are any text on one line, in Unicode's composed form, without the characters that turn the direction of writing.
"""

from __future__ import annotations

import unicodedata
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chat import limits
from chat.events import UserId
from chat.models import Document
from chat.passwords import Password

Username = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=limits.NAME_CHARACTERS_MAX)]
Name = Annotated[
    str,
    Field(
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern="^[^\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]*$",
    ),
    AfterValidator(partial(unicodedata.normalize, "NFC")),
]
Email = Annotated[str, Field(max_length=limits.EMAIL_CHARACTERS_MAX, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")]


class NewUser(Document):
    """Who wants to be one."""

    username: Username
    password: Password
    name: Name = ""
    surname: Name = ""
    email: Email | None = None


class Changes(Document):
    """What to change; what isn't named stays as it is."""

    password: Password | None = None
    name: Name | None = None
    surname: Name | None = None
    email: Email | Literal[""] | None = None
    """Empty: none any more."""


class User(Document):
    """A user, as everybody may see them."""

    id: UserId
    username: str
    name: str
    surname: str
    email: str | None
    created_at: int
    """Unix milliseconds."""


class Users(Document):
    """A page of users, in the order of their numbers."""

    users: tuple[User, ...]


class Filter(Document):
    """Which users: those that have all of what is named, from the number `after` on."""

    username: Username | None = None
    email: Email | None = None
    name: Name | None = None
    surname: Name | None = None
    after: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    limit: Annotated[int, Field(ge=1, le=limits.PAGE_ENTRIES_MAX)] = limits.PAGE_ENTRIES_MAX


class Credentials(Document):
    """What the auth service needs to know."""

    id: UserId
    username: str
    password_hash: str


class Rehash(Document):
    """The same password, hashed anew."""

    id: UserId
    password_hash: str
    replaces: str
    """The hash that was found outdated: whoever has set another password meanwhile keeps that one."""

"""Hashes of passwords: Argon2id as OWASP has it (19 MiB, two passes); bcrypt is still believed, and replaced.

A hash takes a core and its memory for some 30 ms, so only so many are made at once, and only so many wait. What is
hashed is Unicode's composed form, so that a password is the same on every keyboard.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Annotated, ParamSpec, TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import AfterValidator, Field, SecretStr

from chat import limits
from chat.problems import Refused

P = ParamSpec("P")
T = TypeVar("T")


def _text(password: SecretStr) -> SecretStr:
    try:
        password.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("not Unicode text") from None
    return password


TriedPassword = Annotated[SecretStr, Field(max_length=limits.PASSWORD_CHARACTERS_MAX), AfterValidator(_text)]
"""One that may be right. Refused by its length before anything is hashed."""
Password = Annotated[
    SecretStr,
    Field(min_length=limits.PASSWORD_CHARACTERS_MIN, max_length=limits.PASSWORD_CHARACTERS_MAX),
    AfterValidator(_text),
]
"""One to be set."""


class Passwords:
    """Hashes and verifies, in threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._slots = asyncio.Semaphore(limits.HASHES_AT_ONCE)
        self._waiting = 0
        self._nobodys = self._hasher.hash("")

    async def hash(self, password: SecretStr) -> str:
        """Return a hash under a new salt; raises Refused (503) when too many wait."""
        return await self._in_turn(self._hasher.hash, _composed(password))

    async def verify(self, hashed: str | None, password: SecretStr) -> bool:
        """Say whether this is the password; for a user whom there is not (None) it takes just as long to say no."""
        return await self._in_turn(self._verify, hashed or self._nobodys, _composed(password)) and bool(hashed)

    def is_outdated(self, hashed: str) -> bool:
        """Say whether a hash should be made anew while the password is at hand."""
        return not hashed.startswith("$argon2id$") or self._hasher.check_needs_rehash(hashed)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            if hashed.startswith("$2"):
                return bcrypt.checkpw(password.encode()[:72], hashed.encode())  # what bcrypt looks at
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError, ValueError):
            return False

    async def _in_turn(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._waiting >= limits.HASHES_WAITING_MAX:
            raise Refused(503, "busy", "Too many are logging in", "Try again shortly.", {"Retry-After": "2"})
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments, **named)
        finally:
            self._waiting -= 1


def _composed(password: SecretStr) -> str:
    return unicodedata.normalize("NFC", password.get_secret_value())

"""Hashes: which are made, which are believed, which are replaced, and how many at once."""

from __future__ import annotations

import asyncio
import statistics
import time

import bcrypt
import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from chat import limits
from chat.passwords import Passwords
from chat.problems import Refused

RIGHT, WRONG = SecretStr("correct horse battery"), SecretStr("incorrect horse battery")
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


def by_bcrypt(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(rounds=4)).decode()


async def test_a_hash_is_argon2id_with_the_parameters_of_owasp_and_a_salt_of_its_own(passwords: Passwords) -> None:
    first, second = await passwords.hash(RIGHT), await passwords.hash(RIGHT)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert not passwords.is_outdated(first)


async def test_only_the_right_password_is_right(passwords: Passwords) -> None:
    for hashed in (await passwords.hash(RIGHT), by_bcrypt(RIGHT.get_secret_value())):
        assert await passwords.verify(hashed, RIGHT)
        for wrong in (WRONG, SecretStr(""), SecretStr(RIGHT.get_secret_value() + "\0")):
            assert not await passwords.verify(hashed, wrong)


async def test_all_of_a_long_password_counts_except_where_bcrypt_cut_it(passwords: Passwords) -> None:
    long = "x" * limits.PASSWORD_CHARACTERS_MAX
    almost = SecretStr(long[:-1] + "y")
    assert not await passwords.verify(await passwords.hash(SecretStr(long)), almost)
    assert await passwords.verify(by_bcrypt(long), SecretStr(long))


async def test_a_password_is_the_same_on_every_keyboard(passwords: Passwords) -> None:
    composed, decomposed = SecretStr("caf\u00e9 au lait"), SecretStr("cafe\u0301 au lait")
    assert await passwords.verify(await passwords.hash(composed), decomposed)
    assert await passwords.verify(by_bcrypt(composed.get_secret_value()), decomposed)


@pytest.mark.parametrize("hashed", [by_bcrypt("x"), WEAK.hash("x")])
def test_bcrypt_and_weaker_parameters_are_outdated(passwords: Passwords, hashed: str) -> None:
    assert passwords.is_outdated(hashed)


@pytest.mark.parametrize("hashed", ["", "x", "$2b$", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$", "\0"])
async def test_what_is_no_hash_proves_nothing(passwords: Passwords, hashed: str) -> None:
    assert not await passwords.verify(hashed, RIGHT)


async def test_nobody_has_no_password_and_takes_as_long_to_refuse(passwords: Passwords) -> None:
    async def seconds(hashed: str | None) -> float:
        since = time.perf_counter()
        assert not await passwords.verify(hashed, WRONG)
        return time.perf_counter() - since

    known = await passwords.hash(RIGHT)
    assert not await passwords.verify(None, SecretStr(""))
    ratio = statistics.median([await seconds(None) / await seconds(known) for _ in range(9)])
    assert 0.5 < ratio < 2


async def test_so_many_wait_for_a_hash_and_more_are_refused_at_once(passwords: Passwords) -> None:
    waiting = [asyncio.create_task(passwords.hash(RIGHT)) for _ in range(limits.HASHES_WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="Too many") as refused:
        await passwords.hash(RIGHT)
    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert await passwords.hash(RIGHT)

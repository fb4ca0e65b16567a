"""Guessing passwords: so many failures of an account or from an address, then a wait, which ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from sqlalchemy import func, select

from chat import limits
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.auth.apply import FAIL, Failure
from chat.auth.tables import failures

LOGIN = "/auth-ms/auth/login"
PASSWORD = "correct horse battery"
ACCOUNT_MAX, ADDRESS_MAX = limits.FAILURES_PER_ACCOUNT_MAX, limits.FAILURES_PER_ADDRESS_MAX


@pytest.fixture(autouse=True)
async def accounts(auth: httpx2.AsyncClient) -> None:
    for username in ("ada", "bob"):
        answer = await auth.post("/register", json={"username": username, "password": PASSWORD})
        assert answer.status_code == 201


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def login(
    auth: httpx2.AsyncClient, username: str, password: str = PASSWORD, address: str = "192.0.2.1"
) -> httpx2.Response:
    wanted = {"username": username, "password": password}
    return await auth.post(LOGIN, json=wanted, headers={"X-Forwarded-For": address})


async def fail(auth: httpx2.AsyncClient, username: str, times: int = 1, address: str = "192.0.2.1") -> None:
    for _ in range(times):
        assert (await login(auth, username, "wrong horse", address)).status_code == 401


def wait_of(refused: httpx2.Response) -> int:
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_failures")
    return int(refused.headers["Retry-After"])


async def failed(database: Database, account: str, address: str, ages_ms: list[int]) -> None:
    """Count failures of some time ago."""
    now = time.time_ns() // 1_000_000
    for age in ages_ms:
        await LocalCommands(database).submit(FAIL, Failure(account=account, address=address, at=now - age))


@pytest.mark.parametrize("username", ["ada", "nobody"])
async def test_an_account_is_guessed_at_five_times_whether_it_is_there_or_not(
    auth: httpx2.AsyncClient, username: str
) -> None:
    for number in range(ACCOUNT_MAX):
        spelling = username.upper() if number % 2 else username
        await fail(auth, spelling, address=f"192.0.2.{number}")
    for password in ("wrong horse", PASSWORD):
        refused = await login(auth, username, password, "198.51.100.1")
        assert 0 < wait_of(refused) <= limits.FAILURES_PER_ACCOUNT_SECONDS
        assert username not in refused.text
    assert (await login(auth, "bob")).status_code == 200


async def test_guesses_that_come_at_once_are_no_more(auth: httpx2.AsyncClient) -> None:
    guesses = [login(auth, "ada", "wrong horse", f"192.0.2.{number}") for number in range(2 * ACCOUNT_MAX)]
    statuses = sorted([answer.status_code for answer in await asyncio.gather(*guesses)])
    assert statuses == [401] * ACCOUNT_MAX + [429] * ACCOUNT_MAX


async def test_an_address_guesses_at_twenty_accounts_a_minute(auth: httpx2.AsyncClient) -> None:
    for number in range(ADDRESS_MAX):
        await fail(auth, f"user{number}")
    assert 0 < wait_of(await login(auth, "ada")) <= limits.FAILURES_PER_ADDRESS_SECONDS
    assert (await login(auth, "ada", address="192.0.2.2")).status_code == 200


async def test_a_success_has_the_accounts_failures_forgotten_but_not_the_addresss(auth: httpx2.AsyncClient) -> None:
    for _ in range(ADDRESS_MAX // (ACCOUNT_MAX - 1)):
        await fail(auth, "ada", ACCOUNT_MAX - 1)
        answer = await login(auth, "ada", address="192.0.2.2")
        assert answer.status_code == 200
    wait_of(await login(auth, "ada"))


async def test_what_is_refused_is_not_counted_and_the_wait_ends_by_itself(
    auth: httpx2.AsyncClient, database: Database
) -> None:
    window_ms = 1000 * limits.FAILURES_PER_ACCOUNT_SECONDS
    await failed(database, "ada", "192.0.2.9", [window_ms - 5000, *[1000] * (ACCOUNT_MAX - 1)])
    deadline = time.monotonic() + 60
    assert 0 < wait_of(await login(auth, "ada")) <= 5
    while (answer := await login(auth, "ada")).status_code == 429:
        assert time.monotonic() < deadline
        await asyncio.sleep(min(0.2, wait_of(answer)))
    assert answer.status_code == 200


async def test_a_failure_in_the_future_is_waited_for_no_longer_than_any(
    auth: httpx2.AsyncClient, database: Database
) -> None:
    await failed(database, "ada", "192.0.2.9", [-3_600_000] * ACCOUNT_MAX)
    assert wait_of(await login(auth, "ada")) == limits.FAILURES_PER_ACCOUNT_SECONDS


async def test_old_failures_are_removed(auth: httpx2.AsyncClient, database: Database) -> None:
    account_ms, address_ms = 1000 * limits.FAILURES_PER_ACCOUNT_SECONDS, 1000 * limits.FAILURES_PER_ADDRESS_SECONDS
    await failed(database, "eve", "192.0.2.9", [account_ms + 1, account_ms, account_ms - 60_000, address_ms, 1000])
    await fail(auth, "ada")
    kinds = select(failures.c.kind, func.count()).group_by(failures.c.kind).order_by(failures.c.kind)
    assert [tuple(row.values()) for row in await database.rows(kinds)] == [("account", 4), ("address", 2)]


async def test_an_address_behind_our_proxy_is_the_one_that_the_proxy_saw(auth: httpx2.AsyncClient) -> None:
    """What a client says of itself stands further left, and counts for nothing."""
    for number in range(ADDRESS_MAX):
        await fail(auth, f"user{number}", address=f"10.0.0.{number}, 192.0.2.1")
    wait_of(await login(auth, "ada", address="10.9.9.9, 192.0.2.1"))


async def test_what_is_no_address_is_counted_as_one(auth: httpx2.AsyncClient) -> None:
    for number in range(ADDRESS_MAX):
        await fail(auth, f"user{number}", address=f"no-address-{number}")
    wait_of(await login(auth, "ada", address="<script>"))

"""Lets in who knows the password, and has those wait who guess.

After too many failures, of one account or from one address, nothing is looked at until the first of them is old enough:
the right password fares like a wrong one, and an account that isn't there like one that is. What isn't looked at isn't
counted, so nobody is shut out for good.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from weakref import WeakValueDictionary

import structlog
from pydantic import SecretStr
from sqlalchemy import select

from chat.adapters.database import Database
from chat.auth.addresses import counted_as
from chat.auth.apply import ACCOUNT, ADDRESS, FAIL, FORGIVE, Bound, Failure, Success
from chat.auth.tables import failures
from chat.commands import Commands
from chat.passwords import Passwords
from chat.problems import Refused
from chat.users.client import UsersClient
from chat.users.contract import Credentials, Rehash

log = structlog.get_logger()


class Doorkeeper:
    """Verifies passwords, and counts failures."""

    def __init__(self, database: Database, commands: Commands, passwords: Passwords, users: UsersClient) -> None:
        self._database = database
        self._commands = commands
        self._passwords = passwords
        self._users = users
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of accounts: guesses that come at once are looked at one by one, or they would all come before the first
        failure. Held by those who wait."""

    async def admit(self, username: str, password: SecretStr, address: str) -> Credentials:
        """Return who it is; raises Refused (401, 429), Unavailable, Unknown."""
        account = username.lower()
        turn = self._turns.setdefault(account, asyncio.Lock())
        async with turn:
            has_failed = await self._refuse_guessing(account, counted_as(address))
            known = await self._users.credentials(username)
            is_right = await self._passwords.verify(known.password_hash if known else None, password)
            if known is None or not is_right:
                failure = Failure(account=account, address=counted_as(address), at=_now_ms())
                await self._commands.submit(FAIL, failure)
                raise Refused(401, "wrong_credentials", "Wrong username or password")
        if has_failed:
            await self._commands.submit(FORGIVE, Success(account=account))
        if self._passwords.is_outdated(known.password_hash):
            await self._rehash(known, password)
        return known

    async def _refuse_guessing(self, account: str, address: str) -> bool:
        """Return whether the account has failures; raises Refused (429) if it, or the address, has too many."""
        now = _now_ms()
        of_account = await self._failures(ACCOUNT, account, now)
        of_address = await self._failures(ADDRESS, address, now)
        wait_ms = max(_wait_ms(ACCOUNT, of_account, now), _wait_ms(ADDRESS, of_address, now))
        if wait_ms > 0:
            later = {"Retry-After": str(math.ceil(wait_ms / 1000))}
            raise Refused(429, "too_many_failures", "Too many failed logins", "Try again later.", later)
        return bool(of_account)

    async def _failures(self, bound: Bound, key: str, now: int) -> Sequence[int]:
        """Return when the last failures were, the latest first: as many as count."""
        own = (failures.c.kind == bound.kind) & (failures.c.key == key) & (failures.c.at > now - bound.ms)
        latest = select(failures.c.at).where(own).order_by(failures.c.at.desc()).limit(bound.failures_max)
        return [row["at"] for row in await self._database.rows(latest)]

    async def _rehash(self, known: Credentials, password: SecretStr) -> None:
        """Replace a hash. If it can't be now, the next login does it."""
        try:
            new = await self._passwords.hash(password)
            await self._users.rehash(Rehash(id=known.id, password_hash=new, replaces=known.password_hash))
        except Refused as refused:
            log.warning("an outdated hash stays", user=known.id, why=refused.title)


def _wait_ms(bound: Bound, latest: Sequence[int], now: int) -> int:
    """Return for how long the bound is reached; by a clock ahead of ours, not for longer than it looks back."""
    return 0 if len(latest) < bound.failures_max else min(bound.ms, latest[-1] + bound.ms - now)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""Who is there: in a real Redis, and in tables."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest
from redis.asyncio import Redis as Client

from chat import limits, observe
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.adapters.presence_ordered import OrderedPresence
from chat.adapters.presence_redis import RedisPresence
from chat.commands import Command
from chat.models import Document
from chat.problems import Unavailable
from deploy.servers import Redis

C = TypeVar("C", bound=Document)
A = TypeVar("A", bound=Document)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/chat.db")
    await database.migrate(["presence"])
    yield database
    await database.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def redises(redis: Redis, stack: AsyncExitStack) -> tuple[RedisPresence, RedisPresence]:
    """Two instances on one Redis, which is empty."""
    async with Client.from_url(redis.url) as client:
        await client.flushall()
    presences = RedisPresence(redis.url, "web-1"), RedisPresence(redis.url, "web-2")
    for presence in presences:
        await stack.enter_async_context(presence.running())
    return presences


@pytest.fixture
async def copies(database: Database, stack: AsyncExitStack) -> tuple[OrderedPresence, OrderedPresence]:
    """Two copies that see the same commands."""
    commands = LocalCommands(database)
    presences = OrderedPresence(database, commands, "copy-1"), OrderedPresence(database, commands, "copy-2")
    for presence in presences:
        await stack.enter_async_context(presence.running())
    return presences


async def until_online(presence: RedisPresence | OrderedPresence, users: set[int]) -> None:
    async with asyncio.timeout(20):
        while await presence.online() != users:
            await asyncio.sleep(0.02)


def reports() -> float:
    sample = {"command": "presence.report", "status": "200"}
    return observe.REGISTRY.get_sample_value("chat_commands_total", sample) or 0


async def test_redis_knows_who_holds_whom(redises: tuple[RedisPresence, RedisPresence]) -> None:
    first, second = redises
    await first.note([1, 2], [])
    await second.note([2, 3], [])
    assert await first.holders([1, 2, 3, 4]) == {1: ["web-1"], 2: ["web-1", "web-2"], 3: ["web-2"]}
    assert await second.online() == {1, 2, 3}
    await first.note([], [1, 2])
    assert await second.holders({1, 2, 3}) == {2: ["web-2"], 3: ["web-2"]}
    assert await second.online() == {2, 3}
    assert await second.holders([]) == {}


async def test_redis_holds_more_than_one_batch(redises: tuple[RedisPresence, RedisPresence]) -> None:
    users = range(1, 2 * limits.PRESENCE_BATCH + 2)
    await redises[0].confirm(users)
    assert await redises[0].online() == set(users)
    assert await redises[0].holders(users) == {user: ["web-1"] for user in users}


async def test_an_instance_that_died_drops_out_of_redis(
    redises: tuple[RedisPresence, RedisPresence], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do users whom an instance no longer confirms; and nothing of it stays behind."""
    first, second = redises
    monkeypatch.setattr(limits, "HELD_SECONDS", 1.0)
    await first.note([1, 2], [])
    await second.note([2, 3], [])
    async with asyncio.timeout(20):
        while await first.online() != {3}:
            await second.confirm([3])
            await asyncio.sleep(0.05)
    assert await first.holders([1, 2, 3]) == {3: ["web-2"]}
    await until_online(first, set())
    await second.confirm([])
    async with asyncio.timeout(20):
        while await second._redis.dbsize():
            await asyncio.sleep(0.05)


async def test_redis_that_was_emptied_knows_all_again_after_the_next_confirmation(
    redis: Redis, redises: tuple[RedisPresence, RedisPresence]
) -> None:
    """Killed, it has forgotten everything; while it is away, that is said."""
    first, second = redises
    await first.note([1, 2], [])
    await redis.kill()
    try:
        for asking in (
            first.holders([1]),
            first.online(),
            first.note([1], []),
            first.confirm([1]),
            first.note([], [1]),
        ):
            with pytest.raises(Unavailable, match="Redis"):
                await asking
    finally:
        await redis.start()
    assert await second.holders([1, 2]) == {}
    await first.confirm([1, 2])
    assert await second.holders([1, 2]) == {1: ["web-1"], 2: ["web-1"]}
    assert await second.online() == {1, 2}


async def test_all_copies_know_who_is_online_and_each_pushes_to_its_own(
    copies: tuple[OrderedPresence, OrderedPresence],
) -> None:
    first, second = copies
    await first.note([1, 2], [])
    await second.note([2, 3], [])
    await until_online(first, {1, 2, 3})
    await first.note([], [1, 2])
    await until_online(second, {2, 3})
    assert await first.holders([1, 3]) == {1: ("copy-1",), 3: ("copy-1",)}


async def test_who_joins_at_about_the_same_time_is_reported_together(
    copies: tuple[OrderedPresence, OrderedPresence],
) -> None:
    before = reports()
    for user in range(1, 101):
        await copies[0].note([user], [])
    await copies[0].note([], [100])
    await until_online(copies[1], set(range(1, 100)))
    assert reports() == before + 1


async def test_a_confirmation_replaces_what_was_reported(copies: tuple[OrderedPresence, OrderedPresence]) -> None:
    await copies[0].confirm([1, 2])
    await copies[1].confirm([5])
    await copies[0].confirm([2, 3])
    assert await copies[0].online() == {2, 3, 5}


async def test_a_copy_that_died_drops_out(
    copies: tuple[OrderedPresence, OrderedPresence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELD_SECONDS", 1.0)
    await copies[0].confirm([1])
    async with asyncio.timeout(20):
        while await copies[1].online() != {2}:
            await copies[1].confirm([2])
            await asyncio.sleep(0.05)


async def test_reports_come_into_force_in_the_order_in_which_they_were_made(
    database: Database, stack: AsyncExitStack
) -> None:
    """Who joins while a confirmation is under way is reported after it, and not forgotten."""
    held_up, local = asyncio.Event(), LocalCommands(database)

    class Slow:
        async def submit(self, command: Command[C, A], payload: C) -> A:
            await held_up.wait()
            return await local.submit(command, payload)

    presence = OrderedPresence(database, Slow(), "copy-1")
    await stack.enter_async_context(presence.running())
    confirmations = [asyncio.create_task(presence.confirm(users)) for users in ([1], [1, 2])]
    await asyncio.sleep(0)
    await presence.note([3], [1])
    held_up.set()
    await asyncio.gather(*confirmations)
    await until_online(presence, {2, 3})


async def test_a_report_that_fails_is_made_good_by_the_next_confirmation(
    database: Database, stack: AsyncExitStack
) -> None:
    failures, local = iter([Unavailable("the cluster"), ZeroDivisionError("a bug")]), LocalCommands(database)
    failed = asyncio.Semaphore(0)

    class Failing:
        async def submit(self, command: Command[C, A], payload: C) -> A:
            if failure := next(failures, None):
                failed.release()
                raise failure
            return await local.submit(command, payload)

    presence = OrderedPresence(database, Failing(), uuid.uuid4().hex)
    await stack.enter_async_context(presence.running())
    for user in (1, 2):
        await presence.note([user], [])
        await failed.acquire()
    await presence.note([3], [])
    await until_online(presence, {3})
    await presence.confirm([1, 2, 3])
    assert await presence.online() == {1, 2, 3}

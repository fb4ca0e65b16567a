"""Logins become notifications: stored once, numbered, pushed, read; on both databases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from sqlalchemy import Connection
from sqlalchemy.event import listen
from sqlalchemy.util import await_only

from chat import limits
from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.adapters.logins import LocalLogins, UserLogin
from chat.adapters.patience import patiently
from chat.adapters.presence_ordered import OrderedPresence
from chat.notifications.api import build
from chat.notifications.apply import RecordNotification, record
from chat.problems import Unavailable
from chat.pushes import Notice, Notification, Push
from chat.service import application
from chat.tokens import Tokens
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, signed_in

PATH = "/notifications-ms/notifications"
ADA, BOB = 1, 2


@dataclass
class Instance:
    """One instance of the service: where it gets logins from, where it pushes to, and how it is asked."""

    logins: LocalLogins = field(default_factory=LocalLogins)
    bus: LocalBus = field(default_factory=LocalBus)
    client: httpx2.AsyncClient = field(init=False)

    async def numbers(self, user: int, **page: int) -> list[int]:
        return [one["number"] for one in await self.read(user, **page)]

    async def read(self, user: int, **page: int) -> list[dict[str, Any]]:
        answer = await self.client.get(PATH, params=page, headers=signed_in(user))
        assert answer.status_code == 200, answer.text
        return list(answer.json()["notifications"])

    async def mark(self, user: int, through: int) -> int:
        answer = await self.client.post(f"{PATH}/read", json={"through": through}, headers=signed_in(user))
        assert answer.status_code == 200, answer.text
        return int(answer.json()["through"])


@asynccontextmanager
async def running(database_url: str) -> AsyncIterator[Instance]:
    database, instance = Database(database_url), Instance()
    commands = LocalCommands(database)
    presence = OrderedPresence(database, commands, "web-1")

    @asynccontextmanager
    async def tables() -> AsyncIterator[None]:
        await database.migrate(["notifications"])
        yield
        await database.close()

    service = build(database, commands, instance.logins, presence, instance.bus)
    app = application([service], Tokens(TOKEN_SECRET, SERVICE_KEY), [tables], database.is_there)
    async with served(app) as instance.client:
        yield instance


@pytest.fixture
async def instance(database_url: str) -> AsyncIterator[Instance]:
    async with running(database_url) as instance:
        yield instance


def login(user: int, at: int = 1_700_000_000_000) -> UserLogin:
    return UserLogin(id=uuid.uuid4(), user_id=user, address="192.0.2.1", at=at)


async def test_a_login_is_a_notification_of_its_user_alone(instance: Instance) -> None:
    event = login(ADA)
    await instance.logins.publish(event)
    assert await instance.read(ADA) == [
        {
            "id": str(event.id),
            "number": 1,
            "kind": "login",
            "body": "Somebody logged in as you from 192.0.2.1.",
            "at": event.at,
            "read": False,
        }
    ]
    assert await instance.read(BOB) == []
    assert (await instance.client.get(PATH)).status_code == 401


async def test_an_event_that_comes_again_is_stored_once(instance: Instance) -> None:
    first, second = login(ADA), login(ADA)
    for event in (first, second, first, first, second):
        await instance.logins.publish(event)
    assert [(one["id"], one["number"]) for one in await instance.read(ADA)] == [
        (str(first.id), 1),
        (str(second.id), 2),
    ]


async def test_pages_follow_each_other(instance: Instance) -> None:
    for _ in range(5):
        await instance.logins.publish(login(ADA))
        await instance.logins.publish(login(BOB))
    assert await instance.numbers(ADA) == [1, 2, 3, 4, 5]
    assert await instance.numbers(ADA, limit=2) == [1, 2]
    assert await instance.numbers(ADA, limit=2, after=2) == [3, 4]
    assert await instance.numbers(ADA, after=5) == []


@pytest.mark.parametrize("page", ["after=-1", "after=2147483648", "limit=0", "limit=201", "limit=x", "before=3"])
async def test_a_page_that_makes_no_sense_is_refused(instance: Instance, page: str) -> None:
    assert (await instance.client.get(f"{PATH}?{page}", headers=signed_in(ADA))).status_code == 422


async def test_reading_goes_forward_only_and_no_further_than_there_is(instance: Instance) -> None:
    assert await instance.mark(ADA, 3) == 0
    for _ in range(3):
        await instance.logins.publish(login(ADA))
    for through, expected in ((2, 2), (1, 2), (0, 2), (2, 2), (99, 3)):
        assert await instance.mark(ADA, through) == expected
        assert [one["read"] for one in await instance.read(ADA)] == [number <= expected for number in (1, 2, 3)]
    await instance.logins.publish(login(ADA))
    assert [one["read"] for one in await instance.read(ADA, after=2)] == [True, False]
    assert await instance.mark(BOB, 3) == 0
    for bad in (-1, 1 << 31, "x", None):
        answer = await instance.client.post(f"{PATH}/read", json={"through": bad}, headers=signed_in(ADA))
        assert answer.status_code == 422


async def test_the_oldest_goes_when_there_are_too_many(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NOTIFICATIONS_KEPT_MAX", 3)
    await instance.logins.publish(login(BOB))
    for _ in range(5):
        await instance.logins.publish(login(ADA))
    assert await instance.numbers(ADA) == [3, 4, 5]
    assert await instance.numbers(BOB) == [1]


async def test_instances_side_by_side_store_each_event_once(database_url: str) -> None:
    events = [login(user) for _ in range(10) for user in (ADA, BOB)]
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(running(database_url)) for _ in range(3)]
        await asyncio.gather(
            *(patiently(_publishing(one, event)) for event in events for one in instances), return_exceptions=False
        )
        for user in (ADA, BOB):
            read = await instances[0].read(user)
            assert [one["number"] for one in read] == list(range(1, 11))
            assert {one["id"] for one in read} == {str(event.id) for event in events if event.user_id == user}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_an_instance_that_is_overtaken_on_somebodys_first_login_has_the_same_answer(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)
    await first.migrate(["notifications"])
    wanted = RecordNotification(id=uuid.uuid4(), user_id=ADA, kind="login", body="Hello", at=1)

    def overtake(*statement: object) -> None:
        await_only(second.change(record, wanted))

    def overtaken(connection: Connection) -> Notification:
        """Once it has seen that there is nothing of this user, the other stores it all."""
        listen(connection, "after_cursor_execute", overtake, once=True)
        return record(connection, wanted)

    answer = await first.change(overtaken)
    assert answer == await second.change(record, wanted)
    assert (answer.number, answer.read) == (1, False)
    for database in (first, second):
        await database.close()


def _publishing(instance: Instance, event: UserLogin) -> Callable[[], Any]:
    return lambda: instance.logins.publish(event)


async def test_the_sockets_are_told_at_once(instance: Instance) -> None:
    told: list[Push] = []

    async def receive(pushes: Sequence[Push]) -> None:
        told.extend(pushes)

    event = login(ADA)
    async with instance.bus.receiving("web-1", receive):
        await instance.logins.publish(event)
    (notice,) = told
    assert isinstance(notice, Notice)
    assert (notice.user_id, notice.notification.id, notice.notification.number) == (ADA, event.id, 1)


async def test_a_push_that_fails_changes_nothing(instance: Instance) -> None:
    async def receive(pushes: Sequence[Push]) -> None:
        raise Unavailable("the bus")

    async with instance.bus.receiving("web-1", receive):
        await instance.logins.publish(login(ADA))
    assert await instance.numbers(ADA) == [1]

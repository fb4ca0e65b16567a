"""The events of logins on a real RabbitMQ, shared by all tests: each has its own instances, and leaves no exchange."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import aio_pika
import pytest

from chat import limits
from chat.adapters.logins import UserLogin
from chat.adapters.logins_rabbitmq import DEAD, EXCHANGE, UNCLAIMED, RabbitLogins
from chat.problems import Refused, Unavailable, Unknown
from deploy.servers import RabbitMQ
from tests.adapters.conftest import until


def login(user_id: int = 1) -> UserLogin:
    return UserLogin(id=uuid.uuid4(), user_id=user_id, address="127.0.0.1", at=1_700_000_000_000)


class Handled:
    """A handler that keeps what it was given."""

    def __init__(self) -> None:
        self.logins: list[UserLogin] = []

    async def __call__(self, login: UserLogin) -> None:
        self.logins.append(login)


@pytest.fixture
def instances() -> tuple[str, str]:
    """Two names of instances that no other test uses."""
    return uuid.uuid4().hex, uuid.uuid4().hex


@pytest.fixture
async def channel(rabbitmq: RabbitMQ) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(rabbitmq.url) as connection, await connection.channel() as channel:
        yield channel


@pytest.fixture(autouse=True)
async def clean(rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    """Leave no exchange behind, so that nothing that is bound to it gets the events of the next test."""
    yield
    async with await aio_pika.connect(rabbitmq.url) as connection, await connection.channel() as channel:
        for name in (EXCHANGE, DEAD, UNCLAIMED):
            await channel.exchange_delete(name)
        for name in (DEAD, UNCLAIMED):
            await channel.queue_delete(name)


async def test_every_instance_gets_every_login(rabbitmq: RabbitMQ, instances: tuple[str, str]) -> None:
    auth, first, second = (RabbitLogins(rabbitmq.url, name) for name in ("auth", *instances))
    handled = Handled(), Handled()
    logins = [login(number) for number in range(1, 101)]
    async with (
        auth.running(),
        first.running(),
        second.running(),
        first.handling(handled[0]),
        second.handling(handled[1]),
    ):
        for one in logins:
            await auth.publish(one)
        await until(lambda: all(len(one.logins) == 100 for one in handled))
    assert all(sorted(one.logins, key=lambda login: login.user_id) == logins for one in handled)


async def test_what_was_published_while_an_instance_was_down_waits_for_it(
    rabbitmq: RabbitMQ, instances: tuple[str, str]
) -> None:
    auth, first, second = (RabbitLogins(rabbitmq.url, name) for name in ("auth", *instances))
    one, handled = login(), (Handled(), Handled())
    async with auth.running(), first.running(), second.running():
        async with first.handling(handled[0]), second.handling(handled[1]):
            pass
        await auth.publish(one)
        async with first.handling(handled[0]):
            await until(lambda: bool(handled[0].logins))
        async with second.handling(handled[1]):
            await until(lambda: bool(handled[1].logins))
    assert [handler.logins for handler in handled] == [[one], [one]]


async def test_what_was_published_before_any_instance_was_ever_up_is_handled_by_the_first(
    rabbitmq: RabbitMQ, instances: tuple[str, str]
) -> None:
    auth, first = RabbitLogins(rabbitmq.url, "auth"), RabbitLogins(rabbitmq.url, instances[0])
    one, handled = login(), Handled()
    async with auth.running():
        await auth.publish(one)
    async with first.running(), first.handling(handled):
        await until(lambda: bool(handled.logins))
    assert handled.logins == [one]


async def test_what_cannot_be_handled_for_now_comes_again_later(
    rabbitmq: RabbitMQ, instances: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETRY_SECONDS_MAX", 0.2)
    first = RabbitLogins(rabbitmq.url, instances[0])
    one, attempts = login(), []

    async def fail(login: UserLogin) -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 4:
            raise Unavailable("the database")

    async with first.running(), first.handling(fail):
        await first.publish(one)
        await until(lambda: len(attempts) == 4)
    assert attempts[3] - attempts[0] >= 0.6


async def test_garbage_and_what_is_refused_are_buried(
    rabbitmq: RabbitMQ,
    instances: tuple[str, str],
    channel: aio_pika.abc.AbstractChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so is what fails unforeseen, if it does so again."""
    monkeypatch.setattr(limits, "RETRY_SECONDS_MAX", 0.1)
    first, handled, attempts = RabbitLogins(rabbitmq.url, instances[0]), Handled(), []
    refused, failing, good = login(2), login(3), login(4)

    async def handle(login: UserLogin) -> None:
        if login == refused:
            raise Refused(404, "no_such_user", "There is no such user")
        if login == failing:
            attempts.append(login)
            raise ZeroDivisionError("a bug")
        await handled(login)

    async with first.running(), first.handling(handle):
        exchange = await channel.get_exchange(EXCHANGE)
        await exchange.publish(aio_pika.Message(b"\xff garbage"), "")
        for one in (refused, failing, good):
            await first.publish(one)
        dead = await channel.get_queue(DEAD)
        buried = []
        async with asyncio.timeout(30), dead.iterator() as letters:
            async for letter in letters:
                await letter.ack()
                buried.append(letter.body)
                assert letter.headers["x-first-death-reason"] == "rejected"
                if len(buried) == 3:
                    break
        await until(lambda: bool(handled.logins))
    assert set(buried) == {b"\xff garbage", refused.json_bytes(), failing.json_bytes()}
    assert handled.logins == [good]
    assert len(attempts) == 2


async def test_what_was_not_acknowledged_comes_again(rabbitmq: RabbitMQ, instances: tuple[str, str]) -> None:
    """The handler is stopped in the middle, as by the end of its process."""
    first, one, begun, handled = RabbitLogins(rabbitmq.url, instances[0]), login(), asyncio.Event(), Handled()

    async def hang(login: UserLogin) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with first.running():
        async with first.handling(hang):
            await first.publish(one)
            await begun.wait()
        async with first.handling(handled):
            await until(lambda: bool(handled.logins))
    assert handled.logins == [one]


async def test_while_rabbitmq_is_away_nothing_confirmed_is_lost(rabbitmq: RabbitMQ, instances: tuple[str, str]) -> None:
    """Killed and started again under load, with one instance that handles, and one that is down all the time."""
    auth, first, second = (RabbitLogins(rabbitmq.url, name) for name in ("auth", *instances))
    handled = Handled(), Handled()
    confirmed: set[uuid.UUID] = set()

    def missing(handler: Handled) -> set[uuid.UUID]:
        return confirmed - {one.id for one in handler.logins}

    async def log_in(user_id: int) -> None:
        for _ in range(100):
            one = login(user_id)
            while one.id not in confirmed:
                with suppress(Unknown, Unavailable):
                    await auth.publish(one)
                    confirmed.add(one.id)
                await asyncio.sleep(0.02)

    async with auth.running(), first.running(), second.running():
        async with second.handling(handled[1]):
            pass
        async with first.handling(handled[0]):
            users = [asyncio.create_task(log_in(user_id)) for user_id in range(1, 5)]
            await until(lambda: len(confirmed) > 50)
            await rabbitmq.kill()
            await asyncio.sleep(1)
            assert len(confirmed) < 400
            await rabbitmq.start()
            await asyncio.gather(*users)
            await until(lambda: not missing(handled[0]))
        async with second.handling(handled[1]):
            await until(lambda: not missing(handled[1]))


async def test_a_process_does_not_start_without_rabbitmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "START_SECONDS_MAX", 0.5)
    with pytest.raises(Unavailable, match="RabbitMQ"):
        async with RabbitLogins("amqp://127.0.0.1:1/", "auth").running():
            pass

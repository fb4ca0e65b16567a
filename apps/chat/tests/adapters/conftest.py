"""The real servers, one of each for all tests here, and what several tests need to wait and to make events."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from chat.events import Event, Topic, conversation_of
from deploy.process import Server, workspace
from deploy.servers import Kafka, ObjectStore, PostgreSQL, RabbitMQ, Redis

S = TypeVar("S", bound=Server)
DEADLINE_SECONDS = 60.0
"""For what takes a second or two when the machine is idle."""


def _started(kind: type[S]) -> Iterator[S]:
    with workspace() as directory:
        server = kind(directory / "server")
        asyncio.run(server.start())
        yield server
        asyncio.run(server.stop())


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    yield from _started(Kafka)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    yield from _started(RabbitMQ)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    yield from _started(Redis)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    yield from _started(PostgreSQL)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    yield from _started(ObjectStore)


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; fails at the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.02)


def event(topic: Topic, sender: int, recipient: int, body: str = "Hello", *more: Topic) -> Event:
    """Return an event that is due at `topic`."""
    return Event(
        message_uid=uuid.uuid4(),
        session_id=uuid.uuid4(),
        conversation_id=conversation_of((sender, recipient)),
        message_body=body,
        sender_id=sender,
        recipient_ids=(recipient,),
        event_destinations=(topic, *more),
        sent_at=1_700_000_000_000,
    )

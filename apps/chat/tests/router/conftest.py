"""A router on each of the databases, and a record of what it pushes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.events import Event, Topic, conversation_of
from chat.pushes import Push
from chat.router.api import build
from chat.service import Service


class Holding:
    """A presence whose holders the test sets."""

    def __init__(self) -> None:
        self.held: dict[int, Collection[str]] = {}

    async def note(self, joined: Collection[int], left: Collection[int]) -> None:
        raise AssertionError("the router notes nobody")

    async def confirm(self, users: Collection[int]) -> None:
        raise AssertionError("the router confirms nobody")

    async def holders(self, users: Collection[int]) -> Mapping[int, Collection[str]]:
        return {user: self.held[user] for user in users if user in self.held}

    async def online(self) -> set[int]:
        return set(self.held)


@dataclass
class Router:
    """A router, as an instance of its service has it."""

    database: Database
    presence: Holding = field(default_factory=Holding)
    bus: LocalBus = field(default_factory=LocalBus)
    pushed: dict[str, list[Push]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commands = LocalCommands(self.database)
        self.service: Service = build(self.database, self.commands, self.presence, self.bus)

    async def store(self, *events: Event) -> None:
        assert await self.service.topics[Topic.ROUTER](events) == ()

    def receive(self, instance: str) -> Any:
        async def received(pushes: Sequence[Push]) -> None:
            self.pushed.setdefault(instance, []).extend(pushes)

        return self.bus.receiving(instance, received)


def event(sender: int, *recipients: int, body: str = "hello", **changes: Any) -> Event:
    fields = {
        "message_uid": uuid.uuid4(),
        "session_id": uuid.uuid4(),
        "conversation_id": conversation_of((sender, *recipients)),
        "message_body": body,
        "sender_id": sender,
        "recipient_ids": recipients,
        "event_destinations": (Topic.ROUTER,),
        "sent_at": 1_700_000_000_000,
    }
    return Event(**{**fields, **changes})


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    database = Database(database_url)
    await database.migrate(["router"])
    yield Router(database)
    await database.close()

"""What the auto-reply service does to messages on their way."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, event

from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.autoreply.api import build
from chat.autoreply.apply import SET, SetAutoReply
from chat.events import Event, Topic, conversation_of

ANNA, BERT, CARA = 1, 2, 3


class Chain(NamedTuple):
    bus: LocalBus
    database: Database
    commands: LocalCommands
    arrived: list[Event]

    async def switch_on(self, user: int, text: str) -> None:
        await self.commands.submit(SET, SetAutoReply(user_id=user, message_body=text, enabled=True))


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    database = Database(f"sqlite:///{tmp_path / 'chat.db'}")
    chain = Chain(LocalBus(), database, LocalCommands(database), [])

    async def router(events: Sequence[Event]) -> Sequence[Event]:
        chain.arrived.extend(events)
        return ()

    await database.migrate(["autoreply"])
    async with AsyncExitStack() as stack:
        for topic, handler in build(database, chain.commands).topics.items():
            await stack.enter_async_context(chain.bus.handling(topic, handler))
        await stack.enter_async_context(chain.bus.handling(Topic.ROUTER, router))
        yield chain
    await database.close()


def message(sender: int, *recipients: int, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "message_uid": uuid.uuid4(),
        "session_id": uuid.uuid4(),
        "conversation_id": conversation_of((sender, *recipients)),
        "message_body": "Hello!",
        "sender_id": sender,
        "recipient_ids": recipients,
        "event_destinations": (Topic.AUTOREPLY, Topic.ROUTER),
        "sent_at": 1_700_000_000_000,
    }
    return Event(**{**values, **changes})


async def test_a_message_goes_on_unchanged_and_recipients_who_are_away_answer_it(chain: Chain) -> None:
    await chain.switch_on(BERT, "Away until Monday.")
    sent = message(ANNA, BERT, CARA)
    await chain.bus.publish([sent])
    original, reply = chain.arrived
    assert original == sent.model_copy(update={"event_destinations": (Topic.ROUTER,)})
    assert reply.from_auto_reply
    assert (reply.sender_id, reply.recipient_ids, reply.message_body) == (BERT, (ANNA,), "Away until Monday.")
    assert reply.conversation_id == conversation_of((ANNA, BERT))


async def test_an_automatic_answer_is_not_answered(chain: Chain) -> None:
    for user in (ANNA, BERT):
        await chain.switch_on(user, "Away.")
    await chain.bus.publish([message(ANNA, BERT, from_auto_reply=True)])
    assert len(chain.arrived) == 1


async def test_whoever_switched_off_does_not_answer(chain: Chain) -> None:
    await chain.switch_on(BERT, "Away.")
    await chain.commands.submit(SET, SetAutoReply(user_id=BERT, enabled=False))
    await chain.bus.publish([message(ANNA, BERT)])
    assert len(chain.arrived) == 1


async def test_an_event_that_comes_again_makes_the_same_answers(chain: Chain) -> None:
    await chain.switch_on(BERT, "Away.")
    sent = message(ANNA, BERT)
    await chain.bus.publish([sent])
    await chain.bus.publish([sent])
    assert chain.arrived[:2] == chain.arrived[2:]


async def test_one_look_up_serves_all_events_that_come_together(chain: Chain) -> None:
    for user in (BERT, CARA):
        await chain.switch_on(user, "Away.")
    looked_up: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            looked_up.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await chain.bus.publish([message(ANNA, BERT, CARA), message(CARA, BERT), message(BERT, *range(100, 199))])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert (len(chain.arrived), len(looked_up)) == (3 + 3, 1)

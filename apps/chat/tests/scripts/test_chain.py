"""What scripts do to messages on their way."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as hook

from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.adapters.sources import digest_of
from chat.events import Event, Topic, conversation_of
from chat.scripts.api import build
from chat.scripts.apply import DELETE, SWITCH, UPLOAD, DeleteScript, SwitchScript, UploadScript
from chat.scripts.running import RUNS, Running
from chat.scripts.sandbox import Direction, Sandbox
from chat.scripts.sandbox.interpreters import CACHE

ANNA, BERT, CARA, DORA = 1, 2, 3, 4
SHOUT = 'def handle(message):\n    return {"messageBody": message["messageBody"].upper()}\n'
FAIL = "def handle(message):\n    return 1 / 0\n"
DICE = """
import random, time
def handle(message):
    return {"messageBody": "%d %d" % (time.time(), random.getrandbits(30))}
"""
DROP = 'def handle(message):\n    return {"action": "drop", "reply": []}\n'
ECHO = """
def handle(message):
    others = [message["senderID"]] + [one for one in message["recipientIDs"] if one != message["ownID"]]
    return {"action": "forward", "reply": [{"to": one, "message": "for %d" % one} for one in others]}
"""


class World(NamedTuple):
    bus: LocalBus
    commands: LocalCommands
    arrived: list[Event]

    async def upload(self, user: int, direction: Direction, source: str) -> None:
        content = source.encode()
        await self.commands.submit(
            UPLOAD,
            UploadScript(
                user_id=user,
                direction=direction,
                language="python",
                size=len(content),
                digest=digest_of(content),
                updated_at=0,
                source=source,
            ),
        )

    async def sent(self, *events: Event) -> list[Event]:
        """Return what arrives at the router of these events."""
        self.arrived.clear()
        await self.bus.publish(events)
        return list(self.arrived)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite:///{tmp_path / 'chat.db'}")
    running = Running(Sandbox(CACHE), None)
    world = World(LocalBus(), LocalCommands(database), [])

    async def router(events: Sequence[Event]) -> Sequence[Event]:
        world.arrived.extend(events)
        return ()

    await database.migrate(["scripts"])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running.alive())
        for topic, handler in build(database, world.commands, None, running).topics.items():
            await stack.enter_async_context(world.bus.handling(topic, handler))
        await stack.enter_async_context(world.bus.handling(Topic.ROUTER, router))
        yield world
    await database.close()


def message(sender: int, *recipients: int, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "message_uid": uuid.uuid4(),
        "session_id": uuid.uuid4(),
        "conversation_id": conversation_of((sender, *recipients)),
        "message_body": "Hello!",
        "sender_id": sender,
        "recipient_ids": recipients,
        "event_destinations": (Topic.SCRIPTS_OUTGOING, Topic.SCRIPTS_INCOMING, Topic.ROUTER),
        "sent_at": 1_700_000_000_000,
    }
    return Event(**{**values, **changes})


async def test_without_scripts_a_message_goes_on_unchanged(world: World) -> None:
    wanted = message(ANNA, BERT)
    assert await world.sent(wanted) == [wanted.model_copy(update={"event_destinations": (Topic.ROUTER,)})]


async def test_the_senders_script_changes_the_text_for_everybody(world: World) -> None:
    await world.upload(ANNA, "outgoing", SHOUT)
    await world.upload(BERT, "outgoing", FAIL)
    (arrived,) = await world.sent(message(ANNA, BERT, CARA))
    assert (arrived.message_body, arrived.recipient_ids) == ("HELLO!", (BERT, CARA))


async def test_a_script_that_fails_is_counted_and_changes_nothing(world: World) -> None:
    counter = RUNS.labels("python", "outgoing", "script_error")
    before = counter._value.get()
    await world.upload(ANNA, "outgoing", FAIL)
    await world.upload(BERT, "incoming", FAIL)
    (arrived,) = await world.sent(message(ANNA, BERT))
    assert (arrived.message_body, arrived.recipient_ids) == ("Hello!", (BERT,))
    assert counter._value.get() == before + 1


async def test_switched_off_or_deleted_a_script_does_nothing(world: World) -> None:
    await world.upload(ANNA, "outgoing", SHOUT)
    await world.commands.submit(SWITCH, SwitchScript(user_id=ANNA, direction="outgoing", enabled=False))
    assert (await world.sent(message(ANNA, BERT)))[0].message_body == "Hello!"
    await world.commands.submit(SWITCH, SwitchScript(user_id=ANNA, direction="outgoing", enabled=True))
    assert (await world.sent(message(ANNA, BERT)))[0].message_body == "HELLO!"
    await world.commands.submit(DELETE, DeleteScript(user_id=ANNA, direction="outgoing"))
    assert (await world.sent(message(ANNA, BERT)))[0].message_body == "Hello!"


async def test_a_message_that_is_dropped_still_goes_to_the_others(world: World) -> None:
    await world.upload(BERT, "incoming", DROP)
    (arrived,) = await world.sent(message(ANNA, BERT, CARA))
    assert arrived.recipient_ids == (CARA,)
    (arrived,) = await world.sent(message(ANNA, BERT))
    assert arrived.recipient_ids == ()


async def test_answers_go_to_the_others_of_the_conversation_and_are_marked(world: World) -> None:
    await world.upload(BERT, "incoming", ECHO)
    original, *answers = await world.sent(message(ANNA, BERT, CARA))
    assert original.recipient_ids == (BERT, CARA)
    assert [(one.sender_id, one.recipient_ids, one.message_body) for one in answers] == [
        (BERT, (ANNA,), "for 1"),
        (BERT, (CARA,), "for 3"),
    ]
    assert all(one.from_auto_reply and one.event_destinations == (Topic.ROUTER,) for one in answers)
    assert answers[0].conversation_id == conversation_of((ANNA, BERT))


@pytest.mark.parametrize("to", [BERT, DORA])
async def test_nobody_else_is_answered(world: World, to: int) -> None:
    source = f'def handle(message):\n    return {{"action": "forward", "reply": [{{"to": {to}, "message": "hm"}}]}}\n'
    await world.upload(BERT, "incoming", source)
    assert len(await world.sent(message(ANNA, BERT, CARA))) == 1


async def test_an_automatic_answer_may_be_dropped_but_is_not_answered(world: World) -> None:
    await world.upload(BERT, "incoming", ECHO)
    await world.upload(CARA, "incoming", DROP)
    (arrived,) = await world.sent(message(ANNA, BERT, CARA, from_auto_reply=True))
    assert arrived.recipient_ids == (BERT,)


async def test_an_event_that_comes_again_has_the_same_results(world: World) -> None:
    await world.upload(ANNA, "outgoing", DICE)
    await world.upload(BERT, "incoming", ECHO)
    wanted, other = message(ANNA, BERT), message(ANNA, BERT)
    first, again = await world.sent(wanted), await world.sent(wanted)
    assert first == again
    assert first[0].message_body.startswith("1700000000 ")
    assert (await world.sent(other))[0].message_body != first[0].message_body


async def test_one_look_up_for_each_direction_serves_all_events_that_come_together(world: World) -> None:
    for user in (ANNA, BERT):
        await world.upload(user, "outgoing", SHOUT)
    await world.sent(message(ANNA, BERT))  # the source is in memory from here on
    looked_up: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            looked_up.append(statement)

    hook.listen(Engine, "before_cursor_execute", note)
    try:
        arrived = await world.sent(message(ANNA, BERT), message(BERT, ANNA, CARA), message(CARA, *range(100, 200)))
    finally:
        hook.remove(Engine, "before_cursor_execute", note)
    assert [one.message_body for one in arrived] == ["HELLO!", "HELLO!", "Hello!"]
    assert len(looked_up) == 2

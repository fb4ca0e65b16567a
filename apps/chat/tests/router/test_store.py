"""Storing messages: once each, in one order, with numbers that leave no gap."""

from __future__ import annotations

import asyncio
import random
import uuid

import pytest
from sqlalchemy import select

from chat import limits
from chat.adapters.database import Database
from chat.events import Event
from chat.problems import Unavailable
from chat.pushes import Delivery
from chat.router.apply import Stored, StoreMessages, store
from chat.router.read import inbox_of
from chat.router.tables import messages
from tests.router.conftest import Router, event

ANNA, BERT, CARA = 1, 2, 3


async def stored(router: Router, *events: Event) -> Stored:
    return await router.database.change(store, StoreMessages(events=events))


async def inbox(database: Database, user: int) -> list[tuple[int, str]]:
    entries = (await database.read(inbox_of, user, 0, 1000)).entries
    return [(entry.inbox_seq, entry.message.body) for entry in entries]


async def test_numbers_of_conversations_and_inboxes_grow_by_one(router: Router) -> None:
    answer = await stored(router, event(ANNA, BERT, body="1"), event(BERT, ANNA, body="2"), event(ANNA, CARA, body="3"))
    assert [(one.message.seq, one.inbox_seqs) for one in answer.deliveries] == [
        (1, {ANNA: 1, BERT: 1}),
        (2, {ANNA: 2, BERT: 2}),
        (1, {ANNA: 3, CARA: 1}),
    ]
    answer = await stored(router, event(BERT, ANNA, body="4"))
    assert answer.deliveries[0].message.seq == 3
    assert answer.deliveries[0].inbox_seqs == {ANNA: 4, BERT: 3}
    assert await inbox(router.database, ANNA) == [(1, "1"), (2, "2"), (3, "3"), (4, "4")]


async def test_a_message_that_comes_again_gives_its_first_answer(router: Router) -> None:
    first = event(ANNA, BERT, CARA)
    again = first.model_copy(update={"message_body": "other", "recipient_ids": (BERT,), "sent_at": 1})
    once = await stored(router, first)
    other = event(ANNA, BERT)
    twice = await stored(router, other, again, other)
    assert twice.deliveries[1] == once.deliveries[0]
    assert len(twice.deliveries) == 2
    assert await inbox(router.database, CARA) == [(1, "hello")]


async def test_a_message_to_oneself_is_one_entry(router: Router) -> None:
    answer = await stored(router, event(ANNA))
    assert answer.deliveries[0].inbox_seqs == {ANNA: 1}


async def test_who_dropped_a_message_gets_no_entry(router: Router) -> None:
    whole = event(ANNA, BERT, CARA)
    await stored(router, whole.model_copy(update={"recipient_ids": (BERT,)}))
    assert await inbox(router.database, CARA) == []
    answer = await stored(router, event(CARA, ANNA, BERT))
    assert answer.deliveries[0].message.seq == 2


async def test_any_text_comes_back_as_it_was(router: Router) -> None:
    text = "<b>\u202e'; DROP TABLE messages; -- \U0001f469\u200d\U0001f467 \x01 %s :x"
    await stored(router, event(ANNA, BERT, body=text))
    assert await inbox(router.database, BERT) == [(1, text)]


async def test_the_same_batch_has_the_same_effect_everywhere(router: Router) -> None:
    events = [event(*random.sample(range(1, 9), 3), body=str(number)) for number in range(50)]
    answers = [(await stored(router, one)).deliveries[0] for one in events]
    assert list((await stored(router, *events)).deliveries) == answers


async def test_batches_are_parted_so_that_commands_stay_small(router: Router) -> None:
    text = "\x01" * limits.MESSAGE_BYTES_MAX
    events = [event(ANNA, BERT, body=text) for _ in range(limits.CHAIN_BATCH_MAX)]
    sizes = []
    submit = router.commands.submit

    async def measured(command, payload):  # type: ignore[no-untyped-def]
        sizes.append(len(payload.json_bytes()))
        return await submit(command, payload)

    router.commands.submit = measured  # type: ignore[method-assign]
    await router.store(*events)
    assert len(sizes) == 3
    assert max(sizes) <= limits.BODY_BYTES_MAX
    assert len(await inbox(router.database, BERT)) == len(events)


async def test_deliveries_go_to_each_holder_once_with_the_numbers_of_its_users(router: Router) -> None:
    router.presence.held = {ANNA: ["web-1", "web-2"], BERT: ["web-2"]}
    async with router.receive("web-1"), router.receive("web-2"):
        message = event(ANNA, BERT, CARA)
        await router.store(message)
        await router.store(message)
    pushed = {name: [push for push in pushes if isinstance(push, Delivery)] for name, pushes in router.pushed.items()}
    assert [push.inbox_seqs for push in pushed["web-1"]] == [{ANNA: 1}] * 2
    assert [push.inbox_seqs for push in pushed["web-2"]] == [{ANNA: 1, BERT: 1}] * 2


async def test_a_push_that_fails_leaves_the_message_stored(router: Router) -> None:
    async def away(users: object) -> None:
        raise Unavailable("Redis")

    router.presence.holders = away  # type: ignore[method-assign, assignment]
    await router.store(event(ANNA, BERT))
    assert await inbox(router.database, BERT) == [(1, "hello")]


async def test_what_is_not_due_here_is_refused(router: Router) -> None:
    with pytest.raises(ValueError, match="not at router"):
        await router.store(event(ANNA, BERT, event_destinations=()))


async def test_two_instances_at_once_give_each_number_once(database_url: str) -> None:
    """In PostgreSQL they contend for the same rows, in all orders; each brings some of what the other brings too."""
    routers = [Router(Database(database_url)) for _ in range(2)]
    await routers[0].database.migrate(["router"])
    shared = [event(*random.sample(range(1, 6), 3), body=f"s{number}") for number in range(20)]

    async def bring(router: Router, own: list[Event]) -> None:
        events = own + shared
        random.shuffle(events)
        for batch in _batched(events, 7):
            while True:
                try:
                    await router.store(*batch)
                    break
                except Unavailable:
                    await asyncio.sleep(0)

    owns = [[event(*random.sample(range(1, 6), 3), body=f"{of}-{n}") for n in range(40)] for of in range(2)]
    await asyncio.gather(*(bring(router, own) for router, own in zip(routers, owns, strict=True)))
    database = routers[0].database
    for user in range(1, 6):
        seqs = [seq for seq, _ in await inbox(database, user)]
        assert seqs == list(range(1, len(seqs) + 1))
    rows = await database.rows(select(messages).order_by(messages.c.seq))
    assert len(rows) == 100
    by_conversation: dict[uuid.UUID, list[int]] = {}
    for row in rows:
        by_conversation.setdefault(row["conversation_id"], []).append(row["seq"])
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_conversation.values())
    for router in routers:
        await router.database.close()


def _batched(events: list[Event], size: int) -> list[list[Event]]:
    return [events[start : start + size] for start in range(0, len(events), size)]

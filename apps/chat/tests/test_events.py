"""The event that a message travels as."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from chat import limits
from chat.events import Event, Topic, conversation_of

ANNA, BERT, CARA = 1, 2, 3


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "message_uid": uuid.UUID(int=1),
        "session_id": uuid.UUID(int=2),
        "conversation_id": conversation_of((ANNA, BERT, CARA)),
        "message_body": "hello",
        "sender_id": BERT,
        "recipient_ids": (CARA, ANNA),
        "event_destinations": tuple(Topic),
        "sent_at": 5,
    }
    return Event(**{**fields, **changes})


def test_it_travels_as_camel_case_and_comes_back_the_same() -> None:
    one = event()
    assert b'"messageUid":"00000000-0000-0000-0000-000000000001"' in one.json_bytes()
    assert b'"participantIds":[1,2,3]' in one.json_bytes()
    assert Event.model_validate_json(one.json_bytes()) == one


def test_who_takes_part_stays_when_a_recipient_drops_it() -> None:
    dropped = event().taken(Topic.SCRIPTS_OUTGOING, recipient_ids=(CARA,))
    assert (dropped.recipient_ids, dropped.participant_ids) == ((CARA,), (ANNA, BERT, CARA))
    assert Event.model_validate_json(dropped.json_bytes()).participant_ids == (ANNA, BERT, CARA)


def test_it_passes_its_topics_in_their_order() -> None:
    one = event()
    for topic in Topic:
        with pytest.raises(ValueError, match="due at"):
            one.taken(Topic.ROUTER if topic is not Topic.ROUTER else Topic.AUTOREPLY)
        one = one.taken(topic)
    assert one.event_destinations == ()
    with pytest.raises(ValueError, match="no topic"):
        one.taken(Topic.ROUTER)


def test_a_reply_is_the_same_again_each_time() -> None:
    first, again = (event().reply(ANNA, BERT, "away", "autoreply") for _ in range(2))
    assert first == again
    assert (first.sender_id, first.recipient_ids, first.participant_ids) == (ANNA, (BERT,), (ANNA, BERT))
    assert first.conversation_id == conversation_of((BERT, ANNA))
    assert first.from_auto_reply
    assert first.event_destinations == tuple(Topic)[1:]
    others = (event().reply(CARA, BERT, "away", "autoreply"), event().reply(ANNA, BERT, "away", "scripts"))
    assert len({first.message_uid, event().message_uid, *(other.message_uid for other in others)}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"message_body": ""},
        {"message_body": "a" * (limits.MESSAGE_BYTES_MAX + 1)},
        {"message_body": "\U0001f469" * (limits.MESSAGE_BYTES_MAX // 4 + 1)},
        {"message_body": "a\0b"},
        {"message_body": "\ud800"},
        {"sender_id": 0},
        {"sender_id": 1 << 31},
        {"recipient_ids": (2, 2)},
        {"recipient_ids": tuple(range(1, limits.RECIPIENTS_MAX + 2))},
        {"participant_ids": ()},
        {"event_destinations": ("elsewhere",)},
        {"unknown": 1},
    ],
)
def test_what_makes_no_sense_is_no_event(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        event(**changes)


def test_a_conversation_is_its_set_of_members() -> None:
    assert conversation_of((ANNA, BERT)) == conversation_of((BERT, ANNA, BERT))
    assert conversation_of((ANNA, BERT)) != conversation_of((ANNA, BERT, CARA))

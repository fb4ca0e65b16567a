"""What a script is given and what it gives back, as S3 has it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from chat.events import Event, Recipients, Text, UserId
from chat.models import Document
from chat.scripts.sandbox import Direction


class Given(Document):
    """A message, as a script sees it."""

    message_body: Text
    own_id: Annotated[UserId, Field(alias="ownID")]
    """Whose script it is."""
    recipient_ids: Annotated[Recipients, Field(alias="recipientIDs")]
    sender_id: Annotated[UserId | None, Field(alias="senderID")] = None
    """Of an incoming message. An outgoing one is the script's own user's."""

    def as_input(self) -> dict[str, Any]:
        """Return it as the JSON object that is handed over."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Sent(Document):
    """What the script for outgoing messages gives back: the text to send instead."""

    message_body: Text


class Answer(Document):
    """A message to send in answer."""

    to: UserId
    message: Text


class Received(Document):
    """What the script for incoming messages gives back: whether its user gets the message, and what to answer."""

    action: Literal["forward", "drop"]
    reply: tuple[Answer, ...] = ()


Result = Sent | Received
RESULTS: Mapping[Direction, type[Result]] = {"outgoing": Sent, "incoming": Received}


def given(event: Event, direction: Direction, user: int) -> Given:
    """Return what this user's script is given of an event."""
    sender = event.sender_id if direction == "incoming" else None
    return Given(message_body=event.message_body, own_id=user, recipient_ids=event.recipient_ids, sender_id=sender)


def seed(event: Event, direction: Direction, user: int) -> bytes:
    """Return the randomness of one run: 16 bytes, the same again when the event comes again."""
    return uuid.uuid5(event.message_uid, f"{direction}:{user}").bytes

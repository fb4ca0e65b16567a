"""What is pushed to sockets: stored messages, notices, and how far a user has read; and inboxes, as they are asked for.

A push may get lost or come twice. Messages bear their place in the user's inbox, by which a socket finds out, and asks
for what it missed.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from chat.events import Text, UserId
from chat.models import Document


class Message(Document):
    """A stored message."""

    message_uid: uuid.UUID
    conversation_id: uuid.UUID
    seq: int
    """Its place in the conversation, from 1."""
    sender_id: UserId
    recipient_ids: tuple[UserId, ...]
    body: Text
    from_auto_reply: bool
    sent_at: int
    """Unix milliseconds."""


class Entry(Document):
    """A message in its place in an inbox."""

    inbox_seq: int
    message: Message


class Inbox(Document):
    """A page of somebody's inbox, ascending, and the number of the last entry there is."""

    entries: tuple[Entry, ...]
    last_inbox_seq: int


class Heads(Document):
    """The number of each user's last inbox entry."""

    heads: dict[UserId, int]


class Delivery(Document):
    """A message for some users, with its place in the inbox of each."""

    kind: Literal["delivery"] = "delivery"
    message: Message
    inbox_seqs: dict[UserId, int]
    """By user: numbers of an inbox grow by one."""


class Notification(Document):
    """Something that a user is told of."""

    id: uuid.UUID
    number: int
    """Its place among this user's, from 1."""
    kind: Literal["login"]
    body: str
    at: int
    """Unix milliseconds."""
    read: bool = False


class Notice(Document):
    """A notification for its user."""

    kind: Literal["notice"] = "notice"
    user_id: UserId
    notification: Notification


class ReadMark(Document):
    """How far a user has read a conversation, for the other devices of the same user."""

    kind: Literal["read"] = "read"
    user_id: UserId
    conversation_id: uuid.UUID
    seq: int


Push = Annotated[Delivery | Notice | ReadMark, Field(discriminator="kind")]
PUSHES: TypeAdapter[tuple[Push, ...]] = TypeAdapter(tuple[Push, ...])
"""How pushes travel: a JSON array."""

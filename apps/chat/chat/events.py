"""The one event: a message on its way from its sender to the router, and the topics it passes.

Each service takes its own topic off the front of `eventDestinations` and passes the event on; the last is the router.
An event may come more than once, so whatever is made from one bears an identifier derived from its own: the same again
each time.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from chat import limits
from chat.models import Document

NAMESPACE = uuid.UUID("6f9f3c52-6a0d-5a2e-9a53-9c1f7a0c1d11")
"""Of all identifiers that are derived here."""


class Topic(StrEnum):
    """The stations of a message, in their order."""

    SCRIPTS_OUTGOING = "scripts.outgoing"
    AUTOREPLY = "autoreply"
    SCRIPTS_INCOMING = "scripts.incoming"
    ROUTER = "router"


def _text(body: str) -> str:
    """Return the text if it can be stored and sent everywhere: no NUL, no lone surrogate, not too long."""
    try:
        size = len(body.encode())
    except UnicodeEncodeError:
        raise ValueError("not Unicode text") from None
    if not 0 < size <= limits.MESSAGE_BYTES_MAX or "\0" in body:
        raise ValueError(f"a text has 1 to {limits.MESSAGE_BYTES_MAX} bytes of UTF-8, none of them NUL")
    return body


def _distinct(ids: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ids)) != len(ids):
        raise ValueError("a recipient is named twice")
    return ids


Text = Annotated[str, AfterValidator(_text)]
UserId = Annotated[int, Field(ge=1, lt=1 << 31)]
Recipients = Annotated[tuple[UserId, ...], Field(max_length=limits.RECIPIENTS_MAX), AfterValidator(_distinct)]


Participants = Annotated[tuple[UserId, ...], Field(min_length=1, max_length=limits.RECIPIENTS_MAX + 1)]


def _participants(sender_id: int, recipient_ids: Iterable[int], **others: object) -> tuple[int, ...]:
    return tuple(sorted({sender_id, *recipient_ids}))


class Event(Document):
    """A message under way."""

    message_uid: uuid.UUID
    session_id: uuid.UUID
    """Of the socket it came by."""
    conversation_id: uuid.UUID
    message_body: Text
    sender_id: UserId
    recipient_ids: Recipients
    """Who is still to get it: a script may drop it for its own user. The sender is none of them."""
    participant_ids: Participants = Field(default_factory=lambda fields: _participants(**fields))
    """Whose conversation it is: the sender and all recipients at first, whoever drops it later."""
    from_auto_reply: bool = False
    event_destinations: tuple[Topic, ...]
    sent_at: int
    """Unix milliseconds, by the clock of the web instance that took it."""

    def taken(self, topic: Topic, **changes: object) -> Event:
        """Return the event as it leaves `topic`, changed; raises ValueError if it is not due there."""
        if self.event_destinations[:1] != (topic,):
            raise ValueError(f"the event is due at {', '.join(self.event_destinations) or 'no topic'}, not at {topic}")
        return self.model_copy(update={"event_destinations": self.event_destinations[1:], **changes})

    def reply(self, sender: int, recipient: int, body: str, made_by: str) -> Event:
        """Return an automatic answer to this message, from where it is due; it is answered by nobody.

        It goes the rest of the way behind the message, so that it comes after what it answers.
        """
        return Event(
            message_uid=uuid.uuid5(self.message_uid, f"{made_by}:{sender}:{recipient}"),
            session_id=self.session_id,
            conversation_id=conversation_of((sender, recipient)),
            message_body=body,
            sender_id=sender,
            recipient_ids=(recipient,) if recipient != sender else (),
            from_auto_reply=True,
            event_destinations=self.event_destinations[1:],
            sent_at=self.sent_at,
        )


Handler = Callable[[Sequence[Event]], Awaitable[Sequence[Event]]]
"""What a service does at a topic: takes events that are due there, and returns those that go on."""


def conversation_of(participants: Iterable[int]) -> uuid.UUID:
    """Return the identifier of the conversation among these users: it is the set of them."""
    return uuid.uuid5(NAMESPACE, ",".join(map(str, sorted(set(participants)))))

"""What the commands of the router do: store messages, open conversations, note how far somebody has read.

A message is stored once, whoever brings it again: what tells it is its `messageUid`. Rows that transactions contend for
are locked in one order, conversations first, then inboxes, each by their keys: so no two wait for each other.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningInsert

from chat.events import Event, UserId
from chat.models import Document
from chat.problems import Unavailable
from chat.pushes import Delivery, Message
from chat.router.read import Conversation, conversations_of, message_of, not_a_participant
from chat.router.tables import conversations, inbox, inboxes, messages, participants

K = TypeVar("K", int, uuid.UUID)


class StoreMessages(Document):
    """Messages at the end of their way."""

    events: tuple[Event, ...]


class Stored(Document):
    """Each of them once, in their order, with its places."""

    deliveries: tuple[Delivery, ...]


class OpenConversation(Document):
    """A conversation to be there, with a title unless it has one."""

    conversation_id: uuid.UUID
    participant_ids: tuple[UserId, ...]
    title: str | None
    opened_by: UserId
    created_at: int


class Opened(Document):
    """The conversation as the one who opened it sees it, and whether there was none before."""

    conversation: Conversation
    created: bool


class Read(Document):
    """How far a user has read a conversation: to be noted, or, as an answer, as it stands."""

    user_id: UserId
    conversation_id: uuid.UUID
    seq: int


def store(connection: Connection, command: StoreMessages) -> Stored:
    """Store what isn't stored; return of everything the places it has."""
    events: dict[uuid.UUID, Event] = {}
    for event in command.events:
        events.setdefault(event.message_uid, event)
    deliveries = _stored_before(connection, events)
    fresh = [event for event in events.values() if event.message_uid not in deliveries]
    if fresh:
        deliveries |= _store_fresh(connection, fresh)
    return Stored(deliveries=tuple(deliveries[uid] for uid in events))


def _stored_before(connection: Connection, uids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Delivery]:
    rows = connection.execute(select(messages).where(messages.c.message_uid.in_(list(uids))))
    deliveries = {}
    for message in map(message_of, rows.mappings().all()):
        places = select(inbox.c.user_id, inbox.c.seq).where(
            inbox.c.user_id.in_(_readers(message)),
            inbox.c.conversation_id == message.conversation_id,
            inbox.c.message_seq == message.seq,
        )
        seqs = {row.user_id: row.seq for row in connection.execute(places)}
        deliveries[message.message_uid] = Delivery(message=message, inbox_seqs=seqs)
    return deliveries


def _store_fresh(connection: Connection, events: Sequence[Event]) -> dict[uuid.UUID, Delivery]:
    deliveries = _placed(connection, events)
    try:
        connection.execute(insert(messages), [_row_of(delivery.message) for delivery in deliveries])
    except IntegrityError:  # in PostgreSQL: another instance stored one of them since we looked
        raise Unavailable("the router") from None
    entries = [
        {"user_id": user, "seq": seq, "conversation_id": one.message.conversation_id, "message_seq": one.message.seq}
        for one in deliveries
        for user, seq in one.inbox_seqs.items()
    ]
    connection.execute(insert(inbox), entries)
    return {delivery.message.message_uid: delivery for delivery in deliveries}


def _placed(connection: Connection, events: Sequence[Event]) -> list[Delivery]:
    """Give each message its numbers, in the order of the events."""
    since = {event.conversation_id: event.sent_at for event in reversed(events)}
    wanted = Counter(event.conversation_id for event in events)
    of_conversation = _advance(
        connection, conversations, wanted, {id_: {"created_at": at} for id_, at in since.items()}
    )
    _join(connection, [event for event in events if of_conversation[event.conversation_id] == 0])
    of_user = _advance(connection, inboxes, Counter(user for event in events for user in _readers(event)))
    deliveries = []
    for event in events:
        of_conversation[event.conversation_id] += 1
        for user in _readers(event):
            of_user[user] += 1
        message = _message(event, of_conversation[event.conversation_id])
        deliveries.append(Delivery(message=message, inbox_seqs={user: of_user[user] for user in _readers(event)}))
    return deliveries


def _advance(
    connection: Connection,
    table: Table,
    wanted: Mapping[K, int],
    more: Mapping[K, Mapping[str, object]] | None = None,
) -> dict[K, int]:
    """Take so many numbers of each row's `last_seq`, making the row if need be; return the last one before them."""
    (key,) = table.primary_key.columns.keys()
    rows = [{key: one, "last_seq": wanted[one], **(more or {}).get(one, {})} for one in sorted(wanted)]
    return {
        one: last - wanted[one] for one, last in connection.execute(_advancing(connection.dialect.name, table), rows)
    }


@cache
def _advancing(dialect: str, table: Table) -> ReturningInsert[Any]:
    """Made once: to put it together takes longer than to execute it."""
    (key,) = table.primary_key.columns
    new = _insert(dialect, table)
    onward = {"last_seq": table.c.last_seq + new.excluded.last_seq}
    return new.on_conflict_do_update(index_elements=[key], set_=onward).returning(key, table.c.last_seq)


def _join(connection: Connection, firsts: Sequence[Event]) -> None:
    """Make the participants of new conversations; one that was opened before its first message has them."""
    of = {event.conversation_id: event.participant_ids for event in firsts}
    if of:
        rows = [{"conversation_id": id_, "user_id": user, "read_seq": 0} for id_ in sorted(of) for user in of[id_]]
        connection.execute(_insert(connection.dialect.name, participants).on_conflict_do_nothing(), rows)


def open_conversation(connection: Connection, command: OpenConversation) -> Opened:
    """Have the conversation be there. The first title stays."""
    id_ = command.conversation_id
    values = {"id": id_, "title": command.title, "last_seq": 0, "created_at": command.created_at}
    new = (
        _insert(connection.dialect.name, conversations)
        .values(values)
        .on_conflict_do_nothing()
        .returning(conversations.c.id)
    )
    created = connection.execute(new).first() is not None
    if created:
        rows = [{"conversation_id": id_, "user_id": user, "read_seq": 0} for user in command.participant_ids]
        connection.execute(insert(participants), rows)
    elif command.title is not None:
        untitled = (conversations.c.id == id_) & conversations.c.title.is_(None)
        connection.execute(update(conversations).where(untitled).values(title=command.title))
    (conversation,) = conversations_of(connection, command.opened_by, id_)
    return Opened(conversation=conversation, created=created)


def mark_read(connection: Connection, command: Read) -> Read:
    """Note how far somebody has read: never back, and never past what there is."""
    own = (participants.c.conversation_id == command.conversation_id) & (participants.c.user_id == command.user_id)
    there = select(conversations.c.last_seq, participants.c.read_seq).join_from(
        participants, conversations, conversations.c.id == participants.c.conversation_id
    )
    row = connection.execute(there.where(own)).first()
    if row is None:
        raise not_a_participant()
    seq = min(command.seq, row.last_seq)
    if seq <= row.read_seq:
        return command.model_copy(update={"seq": row.read_seq})
    connection.execute(update(participants).where(own, participants.c.read_seq < seq).values(read_seq=seq))
    return command.model_copy(update={"seq": seq})


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows what to do about rows that are there: both dialects word it alike."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _readers(of: Event | Message) -> tuple[int, ...]:
    """Return who finds it in their inbox: the sender too, on all devices."""
    return (of.sender_id, *of.recipient_ids)


def _message(event: Event, seq: int) -> Message:
    return Message(
        message_uid=event.message_uid,
        conversation_id=event.conversation_id,
        seq=seq,
        sender_id=event.sender_id,
        recipient_ids=event.recipient_ids,
        body=event.message_body,
        from_auto_reply=event.from_auto_reply,
        sent_at=event.sent_at,
    )


def _row_of(message: Message) -> dict[str, object]:
    return {**message.model_dump(), "recipient_ids": ",".join(map(str, message.recipient_ids))}

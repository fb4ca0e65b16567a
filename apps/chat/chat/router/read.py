"""What the router knows, as its users may see it: nobody sees a message that is not in their inbox."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from chat import limits
from chat.events import UserId
from chat.models import Document
from chat.problems import Refused
from chat.pushes import Entry, Inbox, Message
from chat.router.tables import conversations, inbox, inboxes, messages, participants


class Conversation(Document):
    """A conversation as one of its participants sees it."""

    conversation_id: uuid.UUID
    title: str | None
    participant_ids: tuple[UserId, ...]
    last_message: Message | None
    last_seq: int
    """Of the last message that this user has got; 0 for none."""
    read_seq: int
    unread: int
    """How many of the others' messages come after `read_seq`."""


def conversations_of(connection: Connection, user: int, only: uuid.UUID | None = None) -> tuple[Conversation, ...]:
    """Return what a user takes part in, newest first: the newest 200, or only the one."""
    rows = connection.execute(_conversations(user, only)).mappings().all()
    who = _participants(connection, [row["id"] for row in rows])
    return tuple(
        Conversation(
            conversation_id=row["id"],
            title=row["title"],
            participant_ids=tuple(who[row["id"]]),
            last_message=None if row["seq"] is None else message_of(row),
            last_seq=row["seq"] or 0,
            read_seq=row["read_seq"],
            unread=row["unread"],
        )
        for row in rows
    )


def _conversations(user: int, only: uuid.UUID | None) -> Select[Any]:
    got = and_(inbox.c.user_id == user, inbox.c.conversation_id == participants.c.conversation_id)
    last = select(func.max(inbox.c.message_seq)).where(got).correlate(participants).scalar_subquery()
    unread = (
        select(func.count())
        .join_from(inbox, messages, _is_entry_of_message())
        .where(got, inbox.c.message_seq > participants.c.read_seq, messages.c.sender_id != user)
        .correlate(participants)
        .scalar_subquery()
    )
    newest = messages.alias("newest")
    statement = (
        select(conversations.c.id, conversations.c.title, participants.c.read_seq, unread.label("unread"), newest)
        .join_from(participants, conversations, conversations.c.id == participants.c.conversation_id)
        .outerjoin(newest, and_(newest.c.conversation_id == conversations.c.id, newest.c.seq == last))
        .where(participants.c.user_id == user)
        .order_by(func.coalesce(newest.c.sent_at, conversations.c.created_at).desc(), conversations.c.id)
        .limit(limits.PAGE_ENTRIES_MAX)
    )
    return statement if only is None else statement.where(conversations.c.id == only)


def _participants(connection: Connection, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Sequence[int]]:
    who: dict[uuid.UUID, list[int]] = defaultdict(list)
    statement = select(participants.c.conversation_id, participants.c.user_id)
    of_these = statement.where(participants.c.conversation_id.in_(ids)).order_by(participants.c.user_id)
    for id_, user in connection.execute(of_these):
        who[id_].append(user)
    return who


def history(connection: Connection, user: int, conversation: uuid.UUID, before: int, limit: int) -> tuple[Message, ...]:
    """Return the last messages before a number, ascending; raises Refused (403) for whoever is no participant."""
    taking_part = (participants.c.conversation_id == conversation) & (participants.c.user_id == user)
    if connection.execute(select(participants.c.user_id).where(taking_part)).first() is None:
        raise not_a_participant()
    statement = (
        select(messages)
        .join_from(inbox, messages, _is_entry_of_message())
        .where(inbox.c.user_id == user, inbox.c.conversation_id == conversation, inbox.c.message_seq < before)
        .order_by(inbox.c.message_seq.desc())
        .limit(limit)
    )
    rows = connection.execute(statement).mappings().all()
    return tuple(message_of(row) for row in reversed(rows))


def inbox_of(connection: Connection, user: int, after: int, limit: int) -> Inbox:
    """Return the entries after a number."""
    statement = (
        select(inbox.c.seq.label("inbox_seq"), messages)
        .join_from(inbox, messages, _is_entry_of_message())
        .where(inbox.c.user_id == user, inbox.c.seq > after)
        .order_by(inbox.c.seq)
        .limit(limit)
    )
    rows = connection.execute(statement).mappings().all()
    entries = tuple(Entry(inbox_seq=row["inbox_seq"], message=message_of(row)) for row in rows)
    return Inbox(entries=entries, last_inbox_seq=heads_of(connection, [user])[user])


def heads_of(connection: Connection, users: Sequence[int]) -> dict[int, int]:
    """Return the number of each user's last entry; 0 for none."""
    rows = connection.execute(select(inboxes).where(inboxes.c.user_id.in_(users)))
    return dict.fromkeys(users, 0) | {row.user_id: row.last_seq for row in rows}


def _is_entry_of_message() -> Any:
    return and_(messages.c.conversation_id == inbox.c.conversation_id, messages.c.seq == inbox.c.message_seq)


def message_of(row: Mapping[Any, Any]) -> Message:
    """Return the message in a row."""
    recipients = tuple(map(int, filter(None, row["recipient_ids"].split(","))))
    fields = {name: row[name] for name in Message.model_fields if name != "recipient_ids"}
    return Message(recipient_ids=recipients, **fields)


def not_a_participant() -> Refused:
    """Return the refusal of everybody else, whether there is such a conversation or not."""
    return Refused(403, "not_a_participant", "You take no part in this conversation")

"""Conversations, their messages, and every user's inbox, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text, UniqueConstraint, Uuid

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("title", Text),
    Column("last_seq", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""`last_seq` is the number of messages; `created_at` in Unix milliseconds."""

participants = Table(
    "participants",
    metadata,
    Column("conversation_id", Uuid, primary_key=True),
    Column("user_id", Integer, primary_key=True, index=True),
    Column("read_seq", BigInteger, nullable=False),
)
"""`read_seq`: how far this user has read."""

messages = Table(
    "messages",
    metadata,
    Column("conversation_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("message_uid", Uuid, nullable=False, unique=True),
    Column("sender_id", Integer, nullable=False),
    Column("recipient_ids", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("from_auto_reply", Boolean, nullable=False),
    Column("sent_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""`recipient_ids` with commas between them; `sent_at` in Unix milliseconds."""

inboxes = Table(
    "inboxes",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
)
"""How many messages each user has got. A transaction that adds one holds this row: so there are no gaps."""

inbox = Table(
    "inbox",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("message_seq", BigInteger, nullable=False),
    UniqueConstraint("user_id", "conversation_id", "message_seq"),
    sqlite_with_rowid=False,
)
"""Who gets which message, and as their how manieth. What a user has no entry of, that user doesn't see."""

"""Conversations, messages and inboxes."""

import sqlalchemy as sa
from alembic import op

revision = "router_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "conversations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("title", sa.Text),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "participants",
        sa.Column("conversation_id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False, index=True),
        sa.Column("read_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_uid", sa.Uuid, nullable=False, unique=True),
        sa.Column("sender_id", sa.Integer, nullable=False),
        sa.Column("recipient_ids", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("from_auto_reply", sa.Boolean, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "inboxes",
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "inbox",
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("message_seq", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("user_id", "conversation_id", "message_seq"),
        sqlite_with_rowid=False,
    )

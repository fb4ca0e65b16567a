"""The notifications, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, UniqueConstraint, Uuid

metadata = MetaData()

notifications = Table(
    "notifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "number", name="notifications_by_number"),
)
"""`at` in Unix milliseconds."""

marks = Table(
    "notification_marks",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
    Column("read", Integer, nullable=False),
)
"""Of each user who has notifications: the number of the last one, and of the last one that was read."""

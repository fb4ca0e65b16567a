"""The settings, as the newest migration leaves them."""

from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text

metadata = MetaData()

autoreplies = Table(
    "autoreplies",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("message_body", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
)
"""`message_body` is empty until the user sets one."""

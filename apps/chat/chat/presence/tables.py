"""Who is there, as the newest migration leaves it."""

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

metadata = MetaData()

copies = Table(
    "presence_copies",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("reported_at", BigInteger, nullable=False),
)
"""When a copy last said whom it holds, in Unix milliseconds by its own clock."""

held = Table(
    "presence_held",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("user_id", Integer, primary_key=True),
)
"""Whose sockets a copy holds, as of its last report."""

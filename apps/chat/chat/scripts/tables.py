"""The scripts, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()

scripts = Table(
    "scripts",
    metadata,
    Column("user_id", Integer, primary_key=True, autoincrement=False),
    Column("direction", Text, primary_key=True),
    Column("language", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("source", Text),
    Index("scripts_by_digest", "digest"),
)
"""`size` in bytes of UTF-8, `updated_at` in Unix milliseconds; `source` is null where a store of sources has it."""

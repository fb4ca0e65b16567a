"""The users, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Column, ColumnElement, Index, Integer, MetaData, Table, Text, func

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("username", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("surname", Text, nullable=False),
    Column("email", Text, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice, not even after a user is gone
)
"""`created_at` in Unix milliseconds."""

Index("users_by_username", func.lower(users.c.username), unique=True)


def is_named(username: str) -> ColumnElement[bool]:
    """Return the condition that finds a user by name, in upper or lower case."""
    return func.lower(users.c.username) == username.lower()

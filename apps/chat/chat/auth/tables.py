"""Failed logins, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()

failures = Table(
    "auth_failures",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("auth_failures_by_key", "kind", "key", "at"),
    Index("auth_failures_by_age", "kind", "at"),
)
"""Each failure twice, once of each `kind`: `account`, whose `key` is the user name in lower case whether there is such
a user or not, and `address`. `at` in Unix milliseconds."""

"""What the commands of the auth service do: count failed logins, and forget them.

A failure is forgotten when it is older than its bound looks back, whenever another one is counted: so the table holds
no more than can fail in that time, which hashing bounds. A login that succeeds has its account's failures forgotten,
but not its address's: who knows one password may be guessing others.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert

from chat import limits
from chat.auth.tables import failures
from chat.commands import Command
from chat.models import Document, Nothing


@dataclass(frozen=True)
class Bound:
    """So many failures of one account, or from one address, within so many milliseconds."""

    kind: str
    failures_max: int
    ms: int


ACCOUNT = Bound("account", limits.FAILURES_PER_ACCOUNT_MAX, 1000 * limits.FAILURES_PER_ACCOUNT_SECONDS)
ADDRESS = Bound("address", limits.FAILURES_PER_ADDRESS_MAX, 1000 * limits.FAILURES_PER_ADDRESS_SECONDS)


class Failure(Document):
    """A login that failed."""

    account: str
    """The user name in lower case."""
    address: str
    at: int
    """Unix milliseconds."""


class Success(Document):
    """A login that succeeded after others had failed."""

    account: str


def _fail(connection: Connection, command: Failure) -> Nothing:
    for bound, key in ((ACCOUNT, command.account), (ADDRESS, command.address)):
        old = (failures.c.kind == bound.kind) & (failures.c.at <= command.at - bound.ms)
        connection.execute(delete(failures).where(old))
        connection.execute(insert(failures).values(kind=bound.kind, key=key, at=command.at))
    return Nothing()


def _forgive(connection: Connection, command: Success) -> Nothing:
    own = (failures.c.kind == ACCOUNT.kind) & (failures.c.key == command.account)
    connection.execute(delete(failures).where(own))
    return Nothing()


FAIL = Command("auth.fail", Failure, Nothing, _fail)
FORGIVE = Command("auth.forgive", Success, Nothing, _forgive)

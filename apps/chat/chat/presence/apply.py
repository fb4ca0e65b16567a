"""What the command of presence does: a copy reports whom it holds."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert

from chat.commands import Command
from chat.events import UserId
from chat.models import Document, Nothing
from chat.presence.tables import copies, held


class Report(Document):
    """Whose sockets a copy holds."""

    instance: str
    joined: tuple[UserId, ...] = ()
    left: tuple[UserId, ...] = ()
    users: tuple[UserId, ...] | None = None
    """All of them, in place of what was reported before; None if only some have come or gone."""
    at: int
    """Unix milliseconds, by the copy's clock."""


def _report(connection: Connection, report: Report) -> Nothing:
    gone = delete(held).where(held.c.instance == report.instance)
    come = report.joined
    if report.users is None:
        gone = gone.where(held.c.user_id.in_((*report.left, *report.joined)))
    else:
        come = report.users
    connection.execute(gone)
    if come:
        rows = [{"instance": report.instance, "user_id": user} for user in dict.fromkeys(come)]
        connection.execute(insert(held), rows)
    connection.execute(delete(copies).where(copies.c.instance == report.instance))
    connection.execute(insert(copies).values(instance=report.instance, reported_at=report.at))
    return Nothing()


REPORT = Command("presence.report", Report, Nothing, _report)

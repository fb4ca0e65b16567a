"""Commands: changes of a service's state that are decided down to the last detail.

A command is applied in one transaction on the service's own tables, and by that alone: no clock, no randomness, no
other service. So it has the same effect on every copy that applies the same commands in the same order. What is to
happen outside once it is in force, such as a push to a socket, is the business of `committed`, which runs at every copy
and must bear to be run again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from chat.models import Document

C = TypeVar("C", bound=Document)
A = TypeVar("A", bound=Document)


async def _nothing_more(command: Document, answer: Document) -> None:
    return


@dataclass(frozen=True)
class Command(Generic[C, A]):
    """A kind of change: its name (`service.verb`), what it carries, what it answers, and what it does."""

    name: str
    payload: type[C]
    answer: type[A]
    apply: Callable[[Connection, C], A]
    """Raises Refused, which is an outcome like any other: it undoes the transaction, at every copy."""
    committed: Callable[[C, A], Awaitable[None]] = _nothing_more


AnyCommand = Command[Any, Any]


class Commands(Protocol):
    """Where commands are brought to be applied."""

    async def submit(self, command: Command[C, A], payload: C) -> A:
        """Return the answer once the change is durable; raises Refused, Unavailable or Unknown."""
        ...

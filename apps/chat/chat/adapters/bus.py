"""The way of messages from service to service, and to the web instances that hold sockets: in process, or by Kafka.

`publish` returns once the events can no longer be lost: Kafka has them, or, in process, the router has stored them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chat.events import Event, Handler, Topic
from chat.pushes import Push

PushHandler = Callable[[Sequence[Push]], Awaitable[None]]


class Bus(Protocol):
    """What services know of it."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Send events to the first of their destinations; raises Refused if the last one refuses.

        Raises Unavailable or Unknown too: then send the same again, which by its `messageUid` comes about once.
        """
        ...

    async def push(self, instance: str, pushes: Sequence[Push]) -> None:
        """Send to the sockets of a web instance what may get lost: sockets find out what they miss.

        Raises Unavailable: to send it again makes it late instead.
        """
        ...

    def handling(self, topic: Topic, handler: Handler) -> AbstractAsyncContextManager[None]:
        """Have the events of a topic handled here, at least once each, as long as the context lasts."""
        ...

    def receiving(self, instance: str, handler: PushHandler) -> AbstractAsyncContextManager[None]:
        """Have what is pushed to a web instance handled here, as long as the context lasts."""
        ...

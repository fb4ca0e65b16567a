"""The bus of a process that holds all services: events run down their chain as soon as they are published.

Events that were published together reach the router together, with all that was made from them on the way: it can store
them in one transaction, so that none comes about without the others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chat import observe
from chat.adapters.bus import PushHandler
from chat.events import Event, Handler, Topic
from chat.pushes import Push


class LocalBus:
    """Calls the handlers; see `Bus`."""

    def __init__(self) -> None:
        self._handlers: dict[Topic, Handler] = {}
        self._receivers: dict[str, PushHandler] = {}

    async def publish(self, events: Sequence[Event]) -> None:
        """Run the events through all topics, in the order of the chain: none goes back."""
        for topic in Topic:
            due = [event for event in events if event.event_destinations[:1] == (topic,)]
            if due:
                onward = await self._handlers[topic](due)
                observe.EVENTS.labels(topic, "handled").inc(len(due))
                events = [event for event in events if event not in due] + list(onward)

    async def push(self, instance: str, pushes: Sequence[Push]) -> None:
        """Hand it over if the instance is this one."""
        if receiver := self._receivers.get(instance):
            await receiver(pushes)

    @asynccontextmanager
    async def handling(self, topic: Topic, handler: Handler) -> AsyncIterator[None]:
        """See `Bus`."""
        self._handlers[topic] = handler
        yield
        del self._handlers[topic]

    @asynccontextmanager
    async def receiving(self, instance: str, handler: PushHandler) -> AsyncIterator[None]:
        """See `Bus`."""
        self._receivers[instance] = handler
        yield
        del self._receivers[instance]

"""The router's outer side: what becomes of events that have arrived, and of messages that are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import structlog

from chat import limits
from chat.adapters.bus import Bus
from chat.adapters.presence import Presence
from chat.commands import Command, Commands
from chat.events import Event, Topic
from chat.problems import Unavailable
from chat.pushes import Delivery, Push, ReadMark
from chat.router.apply import Read, Stored, StoreMessages, mark_read, store

log = structlog.get_logger()


class Deliverer:
    """Stores what arrives, and pushes what is stored to whoever is there."""

    def __init__(self, commands: Commands, presence: Presence, bus: Bus) -> None:
        self._commands = commands
        self._presence = presence
        self._bus = bus
        self.store = Command("messages.store", StoreMessages, Stored, store, self._stored)
        self.read = Command("messages.read", Read, Read, mark_read, self._read)

    async def arrived(self, events: Sequence[Event]) -> Sequence[Event]:
        """Store events that are due here; they end here. Raises Unavailable, Unknown."""
        for batch in _batches([event.taken(Topic.ROUTER) for event in events]):
            await self._commands.submit(self.store, StoreMessages(events=batch))
        return ()

    async def _stored(self, command: StoreMessages, answer: Stored) -> None:
        await self._push(answer.deliveries, {user for one in answer.deliveries for user in one.inbox_seqs})

    async def _read(self, command: Read, answer: Read) -> None:
        mark = ReadMark(user_id=answer.user_id, conversation_id=answer.conversation_id, seq=answer.seq)
        await self._push([mark], {mark.user_id})

    async def _push(self, pushes: Sequence[Delivery | ReadMark], users: set[int]) -> None:
        """Push to each instance what its users get. It may fail: it is stored, and sockets find out what they miss."""
        try:
            holders = await self._presence.holders(users)
            held: dict[str, set[int]] = defaultdict(set)
            for user, instances in holders.items():
                for instance in instances:
                    held[instance].add(user)
            for instance, there in held.items():
                await self._bus.push(instance, list(_for_these(pushes, there)))
        except Unavailable as error:
            log.warning("a push is lost", why=error.title)


def _for_these(pushes: Sequence[Delivery | ReadMark], users: set[int]) -> Iterator[Push]:
    """Give of each push what concerns these users."""
    for push in pushes:
        if isinstance(push, ReadMark):
            yield push
        elif seqs := {user: seq for user, seq in push.inbox_seqs.items() if user in users}:
            yield push if len(seqs) == len(push.inbox_seqs) else push.model_copy(update={"inbox_seqs": seqs})


def _batches(events: Sequence[Event]) -> Iterator[tuple[Event, ...]]:
    """Part events into what fits a command each: so many, and of so many bytes, at most."""
    batch: list[Event] = []
    size = 0
    for event in events:
        # Of a text's bytes in JSON: a control character takes six.
        more = 6 * len(event.message_body) + 16 * len(event.participant_ids) + 1024
        if batch and (len(batch) == limits.CHAIN_BATCH_MAX or size + more > limits.BODY_BYTES_MAX):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(event)
        size += more
    if batch:
        yield tuple(batch)

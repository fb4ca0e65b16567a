"""One socket's way through its user's inbox: every entry once, in ascending order, and none left out.

Pushes may get lost, come twice, or out of order; the inbox at the router is what counts. A push whose number is the
next one goes straight out. Any other number that is still to come is but a hint that there is something to fetch: until
the feed has fetched all that it knows of, it takes nothing from pushes. So nothing has to be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chat.adapters.patience import patiently
from chat.web.frames import message_text, receive_message
from chat.web.neighbours import Neighbours


class Feed:
    """Gives frames to `send`; after each page of the inbox it waits for `drained`."""

    def __init__(
        self, user: int, neighbours: Neighbours, send: Callable[[str], None], drained: Callable[[], Awaitable[None]]
    ) -> None:
        self._user = user
        self._neighbours = neighbours
        self._send = send
        self._drained = drained
        self._is_live = False
        self._wake = asyncio.Event()
        self._known = 0
        """The highest number that is known to be there."""
        self.last = 0
        """The highest number that was sent: so were all before it."""

    def pushed(self, seq: int, text: str) -> None:
        """Take a message (as `message_text` has it) from a push."""
        if self._is_live and seq == self.last + 1:
            self._send(receive_message(seq, text))
            self.last = seq
        else:
            self.told(seq)

    def told(self, seq: int) -> None:
        """Take the hint that there is such an entry."""
        self._known = max(self._known, seq)
        if self._known > self.last:
            self._is_live = False
            self._wake.set()

    async def begin(self, last_seq: int | None) -> None:
        """Resume after an entry, or begin behind the last one; one that there isn't yet counts as the last one."""
        head = (await patiently(lambda: self._neighbours.heads([self._user])))[self._user]
        self.last = head if last_seq is None else min(last_seq, head)
        self.told(head)
        self._wake.set()

    async def follow(self) -> None:
        """Fetch what is missing, whenever something is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.last < self._known:
                await self._catch_up()
            self._is_live = True

    async def _catch_up(self) -> None:
        page = await patiently(lambda: self._neighbours.inbox(self._user, self.last))
        for entry in page.entries:
            self._send(receive_message(entry.inbox_seq, message_text(entry.message)))
            self.last = entry.inbox_seq
        self._known = max(self._known, page.last_inbox_seq)
        await self._drained()

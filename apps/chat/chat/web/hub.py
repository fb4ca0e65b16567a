"""All sockets of this web instance: where pushes find theirs, who is noted to be there, and who has gone silent.

Lost pushes are found within CONFIRM_SECONDS: then every socket is told the last number in its user's inbox. Sooner, if
who is there can't be confirmed: for then pushes may find nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from chat import limits
from chat.adapters.presence import Presence
from chat.problems import Refused
from chat.pushes import Delivery, Notice, Push
from chat.web.frames import Noticed, ReadThrough, message_text, text_of
from chat.web.neighbours import Neighbours
from chat.web.session import Session

log = structlog.get_logger()


class Hub:
    """The sockets, by user."""

    def __init__(self, presence: Presence, neighbours: Neighbours, socket_seconds: float) -> None:
        self._presence = presence
        self._neighbours = neighbours
        self._sweep_seconds = min(1.0, socket_seconds / 8)
        self._sessions: dict[int, set[Session]] = {}
        self._count = 0
        self._changed: set[int] = set()
        """Users who came or went since it was last noted."""
        self._noting = asyncio.Lock()

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another socket."""
        return self._count >= limits.SOCKETS_MAX

    @asynccontextmanager
    async def holding(self, session: Session) -> AsyncIterator[None]:
        """Have pushes reach this socket as long as the context lasts."""
        sessions = self._sessions.setdefault(session.user, set())
        sessions.add(session)
        self._count += 1
        try:
            if len(sessions) == 1:
                await self._note(session.user)
            yield
        finally:
            self._count -= 1
            sessions.discard(session)
            if not sessions and self._sessions.get(session.user) is sessions:
                del self._sessions[session.user]
                await self._note(session.user)

    async def pushed(self, pushes: Sequence[Push]) -> None:
        """Give pushes to the sockets that they are for."""
        for push in pushes:
            if isinstance(push, Delivery):
                self._deliver(push)
                continue
            if isinstance(push, Notice):
                text = text_of(Noticed(notification=push.notification))
            else:
                text = text_of(ReadThrough(conversation_id=push.conversation_id, seq=push.seq))
            for session in self._sessions.get(push.user_id, ()):
                session.send(text)

    def _deliver(self, delivery: Delivery) -> None:
        text = ""
        for user, seq in delivery.inbox_seqs.items():
            if sessions := self._sessions.get(user):
                text = text or message_text(delivery.message)
                for session in sessions:
                    session.feed.pushed(seq, text)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Confirm who is there, and look after silent sockets, as long as the context lasts."""
        rounds = limits.CONFIRM_SECONDS
        every = ((self._sweep_seconds, self._sweep), (rounds, self._confirm), (rounds, self._compare))
        tasks = [asyncio.create_task(_repeat(seconds, work)) for seconds, work in every]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _note(self, user: int) -> None:
        """Note that a user came or went, and all others of whom this is still to be noted, in one go.

        If it fails, the next confirmation makes it good, and until then sockets miss pushes, which they get used to.
        """
        self._changed.add(user)
        async with self._noting:
            if user not in self._changed:  # somebody else noted it while we waited
                return
            changed, self._changed = self._changed, set()
            joined = {one for one in changed if one in self._sessions}
            try:
                await self._presence.note(joined, changed - joined)
            except Refused as refused:
                log.warning("presence was not noted", why=refused.title)

    async def _confirm(self) -> None:
        """Confirm who is there; until that works, and once more then, look for pushes that found nobody."""
        was_away = False
        while not await self._is_confirmed():
            was_away = True
            await self._compare()
            await asyncio.sleep(limits.RETRY_SECONDS_MAX)
        if was_away:
            await self._compare()

    async def _is_confirmed(self) -> bool:
        try:
            async with self._noting:
                await self._presence.confirm(list(self._sessions))
        except Refused as refused:
            log.warning("presence was not confirmed", why=refused.title)
            return False
        return True

    async def _compare(self) -> None:
        """Tell every socket the last number in its user's inbox."""
        users = list(self._sessions)
        for start in range(0, len(users), limits.PAGE_ENTRIES_MAX):
            try:
                heads = await self._neighbours.heads(users[start : start + limits.PAGE_ENTRIES_MAX])
            except Refused as refused:
                log.warning("inboxes were not compared", why=refused.title)
                return
            for user, head in heads.items():
                for session in self._sessions.get(user, ()):
                    session.feed.told(head)

    async def _sweep(self) -> None:
        for sessions in self._sessions.values():
            for session in sessions:
                session.look_after()


async def _repeat(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # the next round is another chance, and must come
            log.exception("a round of looking after sockets failed")

"""Who is there, in Redis: for each user the instances that hold their sockets, with the time until which they do.

An entry lasts for HELD_SECONDS, unless it is confirmed. So an instance that dies drops out by itself; and Redis, which
keeps nothing on disk, may be emptied at any time: the next confirmation puts everything back. Until then pushes may go
nowhere; sockets find out by the numbers in their inboxes. Times are the instances' own: their clocks must agree within
a few seconds.

Redis being away is Unavailable to all who ask, the router included: it tries again, so a push is late, not lost.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chat import limits
from chat.problems import Unavailable

ONLINE = "chat:online"
"""A sorted set of `user:instance`, by the time until which the instance holds the user, in Unix seconds."""


class RedisPresence:
    """Notes in the Redis at `redis://…` what `instance` holds; see `Presence`. All raise Unavailable."""

    def __init__(self, url: str, instance: str) -> None:
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=limits.SERVER_SECONDS_MAX,
            socket_connect_timeout=limits.SERVER_SECONDS_MAX,
            retry=Retry(NoBackoff(), 1),  # once, at once: a connection from before Redis was started again is dead
        )
        self._instance = instance

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections as long as the context lasts."""
        async with self._redis:
            yield

    async def note(self, joined: Collection[int], left: Collection[int]) -> None:
        """See `Presence`."""
        await self._each(joined, self._hold)
        await self._each(left, self._let_go)

    async def confirm(self, users: Collection[int]) -> None:
        """See `Presence`. Others whom the instance held drop out when their time is up."""
        await self._each(users, self._hold)
        with _told_plainly():
            await self._redis.zremrangebyscore(ONLINE, 0, time.time())

    async def holders(self, users: Collection[int]) -> Mapping[int, Collection[str]]:
        """See `Presence`. Without whom nobody holds."""
        now = time.time()
        found = await self._each(users, lambda pipeline, user: pipeline.zrangebyscore(_holders(user), now, "+inf"))
        return {user: instances for user, instances in zip(users, found, strict=True) if instances}

    async def online(self) -> set[int]:
        """See `Presence`."""
        with _told_plainly():
            members = await self._redis.zrangebyscore(ONLINE, time.time(), "+inf")
        return {int(str(member).partition(":")[0]) for member in members}

    async def _each(self, users: Collection[int], ask: Callable[[Pipeline, int], object]) -> list[list[str]]:
        """Ask Redis something about each user, many in one round trip; return all answers."""
        answers: list[list[str]] = []
        wanted = list(users)
        for start in range(0, len(wanted), limits.PRESENCE_BATCH):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for user in wanted[start : start + limits.PRESENCE_BATCH]:
                    ask(pipeline, user)
                with _told_plainly():
                    answers += await pipeline.execute()
        return answers

    def _hold(self, pipeline: Pipeline, user: int) -> None:
        now = time.time()
        pipeline.zadd(ONLINE, {f"{user}:{self._instance}": now + limits.HELD_SECONDS})
        pipeline.zadd(_holders(user), {self._instance: now + limits.HELD_SECONDS})
        pipeline.zremrangebyscore(_holders(user), 0, now)
        pipeline.expire(_holders(user), int(limits.HELD_SECONDS))

    def _let_go(self, pipeline: Pipeline, user: int) -> None:
        pipeline.zrem(ONLINE, f"{user}:{self._instance}")
        pipeline.zrem(_holders(user), self._instance)


def _holders(user: int) -> str:
    return f"chat:holders:{user}"


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise Unavailable("Redis") from error

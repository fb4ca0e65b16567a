"""Who is there, and which web instance holds their sockets: replicated by commands, or in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol


class Presence(Protocol):
    """What services know of it. Whoever is not confirmed for HELD_SECONDS is no longer there.

    All raise Unavailable, and the ordered one Unknown: what was not noted is made good by the next confirmation.
    """

    async def note(self, joined: Collection[int], left: Collection[int]) -> None:
        """Note which users' sockets this instance has begun to hold, and which it holds no longer."""
        ...

    async def confirm(self, users: Collection[int]) -> None:
        """Note that this instance still holds these, and no others; called every CONFIRM_SECONDS."""
        ...

    async def holders(self, users: Collection[int]) -> Mapping[int, Collection[str]]:
        """Return the web instances to push to, by user; of the replicas, each pushes to its own sockets only."""
        ...

    async def online(self) -> set[int]:
        """Return who is there."""
        ...

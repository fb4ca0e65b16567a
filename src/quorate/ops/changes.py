"""Members of a run that come and go: a newcomer gets ports, a directory and a process, a leaver loses them.

The order of things matters, for the supervisor may die between any two. A newcomer is on record before the cluster
hears of it, so that it is started again whatever happens; a leaver is dropped only once the cluster has let it go. Its
directory stays, for the operator to look at and to delete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from quorate import limits
from quorate.config import SidecarConfig
from quorate.errors import Misuse, NetworkRefused, QuorateError
from quorate.ops import client
from quorate.strict_toml import suggest

ASK_AGAIN = ("ask again", "no leader is known")
"""How refusals end that pass by themselves; while leadership is handed over, nobody leads for a moment."""


class Run(Protocol):
    """What changes: see `supervisor.Supervisor`."""

    @property
    def configs(self) -> Mapping[str, SidecarConfig]:
        """Settings of every sidecar by name."""

    def expect(self, number: int) -> SidecarConfig:
        """Put a newcomer on record, and return its settings."""

    def welcome(self, config: SidecarConfig) -> None:
        """Start a newcomer, unless it runs."""

    def dismiss(self, name: str) -> None:
        """Take a replica off the record, and end it if it runs."""


class Changes:
    """Carries out one change at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._busy = asyncio.Lock()

    async def members(self) -> dict[str, Any]:
        """What the cluster says of its members: who lags behind, or is none any more, is not believed.

        Raises NetworkRefused if no replica answers.
        """
        asked = (asyncio.to_thread(client.ask, f"http://{config.admin}/members") for config in self._configs())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        known: list[dict[str, Any]] = [answer for answer in answers if isinstance(answer, dict)]
        if not known:
            raise NetworkRefused("no replica answers", "see how they are with `quorate status`")
        return max(known, key=lambda members: int(members["version"]))

    async def add(self) -> dict[str, Any]:
        """Add one replica; it votes once it has caught up.

        Raises Misuse with the reason of a refusal, and NetworkRefused if nobody can tell whether it was added.
        """
        async with self._busy:
            number = (await self.members())["last_id"] + 1
            name = f"r{number}"
            # One may be left over from an attempt of which it was not known whether it would succeed.
            left = self._run.configs.get(name)
            config = left or self._run.expect(number)
            wish = {"add": {"replica": number, "address": config.peers[str(number)]}}
            try:
                answer = await self._ask_for(wish, lambda members: name in names(members))
            except NetworkRefused:  # it may be a member all the same, and without a process nobody could tell
                self._run.welcome(config)
                raise
            except QuorateError:
                if left is None:
                    self._run.dismiss(name)
                raise
            self._run.welcome(config)
            return answer | {"name": name}

    async def remove(self, name: str) -> dict[str, Any]:
        """Remove a replica for good. Raises Misuse with the reason of a refusal."""
        async with self._busy:
            if name not in self._run.configs:
                raise Misuse(f"no replica {name}", suggest(name, self._run.configs))
            wish = {"remove": {"replica": int(name[1:])}}
            answer = await self._ask_for(wish, lambda members: name not in names(members))
            self._run.dismiss(name)
            return answer | {"name": name}

    async def _ask_for(self, wish: dict[str, Any], made: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until the change is made, or refused for a reason that does not pass."""
        deadline = time.monotonic() + limits.CHANGE_SECONDS_MAX
        refusal: Misuse | None = None
        while True:
            members = await self.members()
            if made(members):
                return members
            if refusal is not None and time.monotonic() > deadline:
                raise refusal
            try:
                return await self._post(wish, members)
            except Misuse as error:
                if not error.what.endswith(ASK_AGAIN):
                    raise
                refusal = error
            await asyncio.sleep(limits.SWEEP_SECONDS)

    async def _post(self, wish: dict[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the leader, or whoever else can be reached."""
        fields = {"If-Match": f'"{members["version"]}"'}
        for config in sorted(self._configs(), key=lambda config: f"r{config.replica}" != members["leader"]):
            url, seconds = f"http://{config.admin}/members", limits.CHANGE_SECONDS_MAX + 1
            try:
                return await asyncio.to_thread(client.ask, url, "POST", seconds, wish, fields)
            except NetworkRefused:
                continue
        raise NetworkRefused("no replica answers", "see how they are with `quorate status`")

    def _configs(self) -> tuple[SidecarConfig, ...]:
        return tuple(self._run.configs.values())


def names(members: Mapping[str, Any]) -> list[str]:
    """Return the names in the document of /members."""
    return [member["name"] for member in members["members"]]

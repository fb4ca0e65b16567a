"""What the web service asks of the router and the scripts service, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from chat import limits
from chat.problems import Refused, Unavailable
from chat.pushes import Heads, Inbox
from chat.settings import Settings
from chat.tokens import SERVICE_KEY


class ScriptRefused(Refused):
    """A script that the scripts service doesn't take."""

    def __init__(self, status: int, code: str, title: str, line: int | None) -> None:
        super().__init__(status, code, title)
        self.line = line


class Neighbours:
    """Asks, as a service among services; every question raises Unavailable if there is no answer."""

    def __init__(self, settings: Settings) -> None:
        def client(url: str) -> httpx2.AsyncClient:
            bound = httpx2.Limits(max_connections=limits.CALLS_AT_ONCE)
            return httpx2.AsyncClient(base_url=url, timeout=limits.CALL_SECONDS_MAX, limits=bound, trust_env=False)

        self._key = {SERVICE_KEY: settings.service_key.get_secret_value()}
        self._router = client(settings.messages_url)
        self._scripts = client(settings.scripts_url)
        self._fetches = asyncio.Semaphore(limits.FETCHES_AT_ONCE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections as long as the context lasts."""
        async with self._router, self._scripts:
            yield

    async def inbox(self, user: int, after: int) -> Inbox:
        """Return the entries that follow, a page of them."""
        wanted = {"user": user, "after": after, "limit": limits.INBOX_PAGE_ENTRIES}
        async with self._fetches:
            return Inbox.model_validate_json(await self._get(self._router, "/messages-ms/inbox", wanted))

    async def heads(self, users: Collection[int]) -> Mapping[int, int]:
        """Return the numbers of these users' last entries: of 200 users at most."""
        wanted = {"users": ",".join(map(str, users))}
        async with self._fetches:
            found = await self._get(self._router, "/messages-ms/inbox/heads", wanted)
        return Heads.model_validate_json(found).heads

    async def upload(self, token: str, direction: str, language: str, source: str) -> None:
        """Install a script in the name of the token's user; raises ScriptRefused, which says why."""
        bearer = {"Authorization": f"Bearer {token}"}
        script = {"language": language, "source": source}
        response = await _asked(self._scripts, "PUT", f"/scripts-ms/scripts/{direction}", bearer, json=script)
        if 400 <= response.status_code < 500:
            told = response.json()
            code, title = told.get("code", "refused"), told.get("title", "The script was not taken")
            raise ScriptRefused(response.status_code, code, title, told.get("line"))
        _good(response)

    async def _get(self, client: httpx2.AsyncClient, path: str, wanted: Mapping[str, Any]) -> bytes:
        return _good(await _asked(client, "GET", path, self._key, params=wanted)).content


async def _asked(
    client: httpx2.AsyncClient, method: str, path: str, headers: Mapping[str, str], **more: Any
) -> httpx2.Response:
    try:
        return await client.request(method, path, headers=headers, **more)
    except httpx2.TransportError as error:
        raise Unavailable(f"The service behind {path}") from error


def _good(response: httpx2.Response) -> httpx2.Response:
    if response.is_success:
        return response
    raise Unavailable(f"The service behind {response.request.url.path}")

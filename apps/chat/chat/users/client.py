"""The users service, as other services see it: over HTTP.

It being away is Unavailable; where it can't be told whether a change came about, Unknown. What it refuses for reasons
of whoever is behind us is passed on; any other refusal is a fault of ours, and logged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import structlog

from chat import limits
from chat.problems import Refused, Unavailable, Unknown
from chat.tokens import SERVICE_KEY
from chat.users.contract import Credentials, NewUser, Rehash, User, Users

PASSED_ON = frozenset({409, 422, 503, 504})
USERS = "the users service"
log = structlog.get_logger()


class UsersClient:
    """Asks the users service at `url`, as a service that knows `service_key`."""

    def __init__(self, url: str, service_key: str) -> None:
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={SERVICE_KEY: service_key},
            timeout=limits.CALL_SECONDS_MAX,
            limits=httpx2.Limits(max_connections=limits.CALLS_AT_ONCE),
            trust_env=False,  # services speak to each other directly: the key is no proxy's business
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections as long as the context lasts."""
        async with self._http:
            yield

    async def create(self, new: NewUser) -> User:
        """Make a user; raises Refused if the name is taken."""
        body = {**new.model_dump(exclude={"password"}), "password": new.password.get_secret_value()}
        return User.model_validate_json((await self._call("POST", "/users", json=body)).content)

    async def credentials(self, username: str) -> Credentials | None:
        """Return what proves that somebody is this user, or None if nobody is."""
        response = await self._call("GET", "/credentials", params={"username": username})
        return None if response.status_code == 404 else Credentials.model_validate_json(response.content)

    async def rehash(self, wanted: Rehash) -> None:
        """Replace a hash, unless another has taken its place."""
        await self._call("PUT", "/credentials", json=wanted.model_dump(by_alias=True))

    async def exists(self, user_id: int) -> bool:
        """Say whether there is such a user."""
        return (await self._call("GET", f"/users/{user_id}")).status_code != 404

    async def listed(self, after: int) -> Sequence[User]:
        """Return the next users behind a number, USERS_LISTED_MAX at most."""
        found: list[User] = []
        while len(found) < limits.USERS_LISTED_MAX:
            page = {"after": found[-1].id if found else after, "limit": limits.PAGE_ENTRIES_MAX}
            users = Users.model_validate_json((await self._call("GET", "/users", params=page)).content).users
            found += users
            if len(users) < limits.PAGE_ENTRIES_MAX:
                break
        return found

    async def _call(self, method: str, path: str, **request: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, f"/users-ms{path}", **request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            raise Unavailable(USERS) from None
        except httpx2.TransportError:
            raise _interrupted(method) from None
        if response.is_success or (method == "GET" and response.status_code == 404):
            return response
        raise _refusal(method, response)


def _interrupted(method: str) -> Refused:
    return Unavailable(USERS) if method == "GET" else Unknown()


def _refusal(method: str, response: httpx2.Response) -> Refused:
    is_problem = "problem+json" in response.headers.get("Content-Type", "")
    if response.status_code not in PASSED_ON or not is_problem:
        log.error("the users service can't serve us", method=method, status=response.status_code)
        return _interrupted(method)
    told = response.json()
    later = {name: value for name, value in response.headers.items() if name.lower() == "retry-after"}
    return Refused(response.status_code, told["code"], told["title"], told.get("hint", ""), later)

"""The users service as a process of its own, and beside it auth, with notifications for the events of its logins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from chat.deployments import process
from tests.conftest import served, settings


@pytest.fixture
async def users(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(process(settings(database_url=database_url), ["users"])) as client:
        yield client


@pytest.fixture
async def auth(database_url: str, users: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    own = settings(database_url=database_url, users_url=str(users.base_url))
    async with served(process(own, ["auth", "notifications"])) as client:
        yield client

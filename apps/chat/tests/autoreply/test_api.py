"""The settings of auto-replies, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chat import limits
from chat.deployments import process
from chat.tokens import SERVICE_KEY as SERVICE_KEY_HEADER
from chat.tokens import Tokens
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings

PATH = "/autoreply-ms/settings"
ANNA, BERT = 1, 2


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(process(settings(database_url=f"sqlite:///{tmp_path / 'chat.db'}"), ["autoreply"])) as client:
        yield client


def signed_in(user: int) -> dict[str, str]:
    token, _ = Tokens(TOKEN_SECRET, SERVICE_KEY).issue(user, f"user{user}")
    return {"Authorization": f"Bearer {token}"}


def action(action: str, user: int, **args: Any) -> dict[str, Any]:
    return {"action": action, "args": {"userId": user, **args}}


async def test_everybody_starts_without_a_text_and_switched_off(client: httpx2.AsyncClient) -> None:
    answer = await client.get(PATH, headers=signed_in(ANNA))
    assert (answer.status_code, answer.json()) == (200, {"messageBody": "", "enabled": False})


async def test_text_and_switch_are_set_one_by_one_and_stay(client: httpx2.AsyncClient) -> None:
    for wanted, expected in (
        (action("setBody", ANNA, messageBody="Away until Monday."), ("Away until Monday.", False)),
        (action("enable", ANNA), ("Away until Monday.", True)),
        (action("setBody", ANNA, messageBody="Back soon."), ("Back soon.", True)),
        (action("disable", ANNA), ("Back soon.", False)),
    ):
        answer = await client.post(PATH, json=wanted, headers=signed_in(ANNA))
        assert (answer.status_code, answer.json()) == (200, {"messageBody": expected[0], "enabled": expected[1]})
    assert (await client.get(PATH, headers=signed_in(ANNA))).json() == {"messageBody": "Back soon.", "enabled": False}
    assert (await client.get(PATH, headers=signed_in(BERT))).json() == {"messageBody": "", "enabled": False}


async def test_without_a_text_the_switch_stays_off(client: httpx2.AsyncClient) -> None:
    refused = await client.post(PATH, json=action("enable", ANNA), headers=signed_in(ANNA))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_text")
    assert (await client.get(PATH, headers=signed_in(ANNA))).json() == {"messageBody": "", "enabled": False}


async def test_only_users_themselves_and_services_may_change_settings(client: httpx2.AsyncClient) -> None:
    wanted = action("setBody", ANNA, messageBody="Away.")
    others = await client.post(PATH, json=wanted, headers=signed_in(BERT))
    assert (others.status_code, others.json()["code"]) == (403, "not_yours")
    assert (await client.post(PATH, json=wanted)).status_code == 401
    assert (await client.get(PATH)).status_code == 401
    assert (await client.post(PATH, json=wanted, headers={SERVICE_KEY_HEADER: SERVICE_KEY})).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        action("explode", ANNA),
        action("setBody", ANNA),
        action("setBody", ANNA, messageBody=""),
        action("setBody", ANNA, messageBody="nul \0"),
        action("setBody", ANNA, messageBody="ä" * (limits.MESSAGE_BYTES_MAX // 2) + "!"),
        action("setBody", 0, messageBody="nobody's"),
        action("enable", ANNA, messageBody="belongs to setBody"),
        action("enable", 1 << 31),
    ],
)
async def test_nonsense_is_refused(client: httpx2.AsyncClient, wanted: dict[str, Any]) -> None:
    refused = await client.post(PATH, json=wanted, headers=signed_in(ANNA))
    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    assert refused.json()["code"] == "invalid"

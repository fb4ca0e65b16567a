"""Uploading, switching, deleting and trying scripts, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chat.adapters.sources import DirectorySources
from chat.deployments import Parts, process, store_of_sources
from chat.scripts.api import build
from chat.service import application
from chat.tokens import Tokens
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings

PATH = "/scripts-ms/scripts"
TRIALS = "/scripts-ms/trials"
ANNA, BERT = 1, 2
SHOUT = 'def handle(message):\n    return {"messageBody": message["messageBody"].upper()}\n'
DROP = 'function handle(message) return {action = "drop", reply = {}} end\n'
OUTGOING = {"messageBody": "hello", "ownID": ANNA, "recipientIDs": [BERT]}
INCOMING = {**OUTGOING, "ownID": BERT, "senderID": ANNA}


@pytest.fixture(params=["in a directory", "in the table"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The service, with sources in either place."""
    parts = Parts(settings(database_url=f"sqlite:///{tmp_path / 'chat.db'}"))
    store = DirectorySources(tmp_path / "sources") if request.param == "in a directory" else None
    service = build(parts.database, parts.commands, store, parts.running)
    await parts.database.migrate(["scripts"])
    async with served(application([service], parts.tokens, parts.lives, parts.database.is_there)) as client:
        yield client
    await parts.database.close()


def signed_in(user: int) -> dict[str, str]:
    token, _ = Tokens(TOKEN_SECRET, SERVICE_KEY).issue(user, f"user{user}")
    return {"Authorization": f"Bearer {token}"}


def trial(source: str, **changes: Any) -> dict[str, Any]:
    return {"direction": "outgoing", "language": "python", "source": source, "input": OUTGOING, **changes}


async def test_a_script_is_uploaded_read_replaced_and_deleted(client: httpx2.AsyncClient) -> None:
    anna = signed_in(ANNA)
    uploaded = await client.put(f"{PATH}/outgoing", json={"language": "python", "source": SHOUT}, headers=anna)
    script = uploaded.json()
    assert uploaded.status_code == 200, script
    assert script.pop("updatedAt") > 1_700_000_000_000
    digest = hashlib.sha256(SHOUT.encode()).hexdigest()
    expected = {"direction": "outgoing", "language": "python", "enabled": True, "size": len(SHOUT), "digest": digest}
    assert script == expected
    assert (await client.get(PATH, headers=anna)).json()["scripts"] == [uploaded.json()]
    assert (await client.get(f"{PATH}/outgoing", headers=anna)).json() == {**uploaded.json(), "source": SHOUT}

    lua = "function handle(message) return {messageBody = 'ä'} end"
    await client.put(f"{PATH}/outgoing", json={"language": "lua", "source": lua}, headers=anna)
    replaced = (await client.get(f"{PATH}/outgoing", headers=anna)).json()
    assert (replaced["language"], replaced["source"], replaced["size"]) == ("lua", lua, len(lua.encode()))

    assert (await client.delete(f"{PATH}/outgoing", headers=anna)).status_code == 204
    for gone in (
        await client.get(f"{PATH}/outgoing", headers=anna),
        await client.delete(f"{PATH}/outgoing", headers=anna),
    ):
        assert (gone.status_code, gone.json()["code"]) == (404, "no_such_script")
    assert (await client.get(PATH, headers=anna)).json() == {"scripts": []}


async def test_a_replaced_script_keeps_its_switch(client: httpx2.AsyncClient) -> None:
    anna = signed_in(ANNA)
    absent = await client.patch(f"{PATH}/incoming", json={"enabled": True}, headers=anna)
    assert (absent.status_code, absent.json()["code"]) == (404, "no_such_script")
    await client.put(f"{PATH}/incoming", json={"language": "lua", "source": DROP}, headers=anna)
    off = await client.patch(f"{PATH}/incoming", json={"enabled": False}, headers=anna)
    assert (off.status_code, off.json()["enabled"]) == (200, False)
    again = await client.put(f"{PATH}/incoming", json={"language": "lua", "source": DROP + "-- new"}, headers=anna)
    assert again.json()["enabled"] is False


async def test_scripts_are_their_users_own(client: httpx2.AsyncClient) -> None:
    await client.put(f"{PATH}/outgoing", json={"language": "python", "source": SHOUT}, headers=signed_in(ANNA))
    bert = signed_in(BERT)
    assert (await client.get(PATH, headers=bert)).json() == {"scripts": []}
    assert (await client.get(f"{PATH}/outgoing", headers=bert)).status_code == 404
    assert (await client.delete(f"{PATH}/outgoing", headers=bert)).status_code == 404
    assert (await client.get(PATH)).status_code == 401
    assert (await client.post(TRIALS, json=trial(SHOUT))).status_code == 401


@pytest.mark.parametrize(
    ("source", "status", "code", "line"),
    [
        ("def handle(message):\n    return 1 +* 2\n", 422, "syntax", 2),
        ("ok = 1\nnul = '\0'\n", 422, "nul", 2),
        ("#" * (64 * 1024 + 1), 413, "too_large", None),
    ],
)
async def test_a_source_that_is_none_is_refused_with_its_line(
    client: httpx2.AsyncClient, source: str, status: int, code: str, line: int | None
) -> None:
    anna = signed_in(ANNA)
    for refused in (
        await client.put(f"{PATH}/outgoing", json={"language": "python", "source": source}, headers=anna),
        await client.post(TRIALS, json=trial(source), headers=anna),
    ):
        told = refused.json()
        assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/problem+json")
        assert (told["code"], told.get("line")) == (code, line)
    assert (await client.get(PATH, headers=anna)).json() == {"scripts": []}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"language": "python", "source": "\\ud800"}', 422),
        (b'{"language": "python", "source": "\xff"}', 400),
        (b'{"language": "cobol", "source": ""}', 422),
        (b'{"language": "python"}', 422),
    ],
)
async def test_nonsense_is_refused(client: httpx2.AsyncClient, content: bytes, status: int) -> None:
    headers = {**signed_in(ANNA), "Content-Type": "application/json"}
    refused = await client.put(f"{PATH}/outgoing", content=content, headers=headers)
    assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/problem+json")
    assert (await client.put(f"{PATH}/sideways", content=content, headers=headers)).status_code in (400, 422)


async def test_a_trial_tells_what_came_of_it_and_what_was_printed(client: httpx2.AsyncClient) -> None:
    told = (await client.post(TRIALS, json=trial("print('hm')\n" + SHOUT), headers=signed_in(ANNA))).json()
    assert told.pop("fuelUsed") > 1000
    assert told == {"ok": True, "result": {"messageBody": "HELLO"}, "output": "hm\n"}
    lua = trial(DROP, direction="incoming", language="lua", input=INCOMING)
    told = (await client.post(TRIALS, json=lua, headers=signed_in(ANNA))).json()
    assert (told["ok"], told["result"]) == (True, {"action": "drop", "reply": []})


@pytest.mark.parametrize(
    ("source", "error", "line"),
    [
        ("def handle(message):\n    while True: pass\n", "fuel_exhausted", None),
        ("def handle(message):\n    return 1 / 0\n", "script_error", 2),
        ("def handle(message):\n    open('/etc/passwd')\n", "forbidden", 2),
        ("def handle(message):\n    return {'body': 'x'}\n", "bad_result", None),
        ("def handle(message):\n    return {'messageBody': 'nul \\0'}\n", "bad_result", None),
    ],
)
async def test_a_script_that_fails_its_trial_is_told_why(
    client: httpx2.AsyncClient, source: str, error: str, line: int | None
) -> None:
    answers = [await client.post(TRIALS, json=trial(source), headers=signed_in(ANNA)) for _ in range(2)]
    told = answers[0].json()
    assert (answers[0].status_code, told["ok"], told["error"], told.get("line")) == (200, False, error, line)
    assert told["detail"]
    assert answers[1].json() == told


async def test_only_what_comes_in_has_a_sender(client: httpx2.AsyncClient) -> None:
    for wanted in (trial(SHOUT, input=INCOMING), trial(DROP, direction="incoming", language="lua")):
        assert (await client.post(TRIALS, json=wanted, headers=signed_in(ANNA))).status_code == 422


async def test_a_user_tries_one_script_at_a_time(client: httpx2.AsyncClient) -> None:
    spin = trial("def handle(message):\n    while True: pass\n")
    several = (client.post(TRIALS, json=spin, headers=signed_in(ANNA)) for _ in range(3))
    others = client.post(TRIALS, json=trial(SHOUT), headers=signed_in(BERT))
    *mine, theirs = await asyncio.gather(*several, others)
    assert sorted(answer.status_code for answer in mine) == [200, 429, 429]
    refused = next(answer for answer in mine if answer.status_code == 429)
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("one_at_a_time", "1")
    assert theirs.json()["ok"]


async def test_where_there_is_no_jolie_its_programs_are_refused(
    client: httpx2.AsyncClient,
) -> None:
    upload = {"language": "jolie", "source": "main { nullProcess }"}
    refused = await client.put(f"{PATH}/outgoing", json=upload, headers=signed_in(ANNA))
    assert (refused.status_code, refused.json()["code"]) == (422, "language_unavailable")


async def test_a_process_of_this_service_alone_keeps_sources_in_its_directory(tmp_path: Path) -> None:
    database, sources = f"sqlite:///{tmp_path / 'chat.db'}", tmp_path / "sources"
    async with served(process(settings(database_url=database, sources_url=f"file:{sources}"), ["scripts"])) as client:
        upload = {"language": "python", "source": SHOUT}
        assert (await client.put(f"{PATH}/outgoing", json=upload, headers=signed_in(ANNA))).status_code == 200
    assert [path.read_text() for path in sources.iterdir()] == [SHOUT]


def test_where_commands_are_ordered_each_copy_has_the_sources_in_its_table() -> None:
    assert store_of_sources(Parts(settings(commands_url="http://127.0.0.1:1"))) is None
    assert store_of_sources(Parts(settings())) is not None

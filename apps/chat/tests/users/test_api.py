"""The CRUD of users, over HTTP and on both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from chat import limits
from chat.deployments import process
from tests.conftest import SERVICE_KEY, served, settings, signed_in

PATH = "/users-ms/users"
CREDENTIALS = "/users-ms/credentials"
PASSWORD = "correct horse battery"
SERVICE = {"Service-Key": SERVICE_KEY}


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(process(settings(database_url=database_url), ["users"])) as client:
        yield client


async def create(client: httpx2.AsyncClient, username: str, **more: Any) -> httpx2.Response:
    return await client.post(PATH, json={"username": username, "password": PASSWORD, **more})


async def created(client: httpx2.AsyncClient, username: str, **more: Any) -> int:
    answer = await create(client, username, **more)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def found(client: httpx2.AsyncClient, **wanted: str | int) -> list[str]:
    answer = await client.get(PATH, params=wanted, headers=SERVICE)
    assert answer.status_code == 200, answer.text
    return [user["username"] for user in answer.json()["users"]]


async def credentials(client: httpx2.AsyncClient, username: str) -> dict[str, Any]:
    answer = await client.get(CREDENTIALS, params={"username": username}, headers=SERVICE)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_user_is_made_read_changed_and_deleted(client: httpx2.AsyncClient) -> None:
    before = time.time_ns() // 1_000_000
    answer = await create(client, "ada", name="Ada", surname="Lovelace", email="ada@example.org")
    assert answer.status_code == 201
    user = answer.json()
    assert before <= user.pop("createdAt") <= time.time_ns() // 1_000_000
    id_ = user["id"]
    assert user == {"id": id_, "username": "ada", "name": "Ada", "surname": "Lovelace", "email": "ada@example.org"}

    own = signed_in(id_)
    read = await client.get(f"{PATH}/{id_}", headers=own)
    assert (read.status_code, read.json()) == (200, answer.json())
    changed = await client.put(f"{PATH}/{id_}", json={"surname": "King"}, headers=own)
    assert (changed.status_code, changed.json()) == (200, {**answer.json(), "surname": "King"})
    assert (await client.get(f"{PATH}/{id_}", headers=own)).json() == changed.json()

    assert (await client.delete(f"{PATH}/{id_}", headers=own)).status_code == 204
    for again in (client.get, client.delete):
        gone = await again(f"{PATH}/{id_}", headers=own)
        assert (gone.status_code, gone.json()["code"]) == (404, "no_such_user")
    assert (await client.put(f"{PATH}/{id_}", json={"name": "A."}, headers=own)).status_code == 404


async def test_a_number_is_never_given_twice(client: httpx2.AsyncClient) -> None:
    first = await created(client, "ada")
    await client.delete(f"{PATH}/{first}", headers=signed_in(first))
    assert await created(client, "ada") > first


async def test_upper_and_lower_case_are_one_name_which_stays_as_it_was_written(client: httpx2.AsyncClient) -> None:
    await created(client, "Ada")
    for taken in ("Ada", "ada", "ADA"):
        refused = await create(client, taken)
        assert (refused.status_code, refused.json()["code"]) == (409, "username_taken")
        assert await found(client, username=taken) == ["Ada"]
        assert (await credentials(client, taken))["username"] == "Ada"


async def test_of_two_at_once_one_gets_the_name(client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(create(client, name) for name in ("ada", "ADA", "Ada", "aDa")))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_an_email_is_one_users_until_they_give_it_up(client: httpx2.AsyncClient) -> None:
    ada, bob = await created(client, "ada", email="a@example.org"), await created(client, "bob")
    wanted = {"email": "a@example.org"}
    for refused in (
        await create(client, "eve", **wanted),
        await client.put(f"{PATH}/{bob}", json=wanted, headers=signed_in(bob)),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "email_taken")
    assert (await client.put(f"{PATH}/{ada}", json=wanted, headers=signed_in(ada))).status_code == 200
    given_up = await client.put(f"{PATH}/{ada}", json={"email": ""}, headers=signed_in(ada))
    assert given_up.json()["email"] is None
    assert (await client.put(f"{PATH}/{bob}", json=wanted, headers=signed_in(bob))).json()["email"] == "a@example.org"
    assert (await client.put(f"{PATH}/{ada}", json={"email": ""}, headers=signed_in(ada))).status_code == 200


async def test_users_change_nobody_but_themselves_and_strangers_see_nobody(client: httpx2.AsyncClient) -> None:
    ada, eve = await created(client, "ada"), await created(client, "eve")
    for refused in (
        await client.put(f"{PATH}/{ada}", json={"name": "Eve"}, headers=signed_in(eve)),
        await client.delete(f"{PATH}/{ada}", headers=signed_in(eve)),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    for stranger in (
        await client.get(PATH),
        await client.get(f"{PATH}/{ada}"),
        await client.put(f"{PATH}/{ada}", json={}),
        await client.delete(f"{PATH}/{ada}"),
    ):
        assert stranger.status_code == 401
    assert await found(client) == ["ada", "eve"]
    assert (await client.delete(f"{PATH}/{ada}", headers=SERVICE)).status_code == 204


async def test_filters_join_and_pages_follow_each_other(client: httpx2.AsyncClient) -> None:
    for number in range(3):
        await created(client, f"ada{number}", name="Ada", surname=f"No. {number}", email=f"{number}@example.org")
    last = await created(client, "zoë".replace("ë", "e"), name="Zoë")
    assert await found(client, name="Ada") == ["ada0", "ada1", "ada2"]
    assert await found(client, name="Ada", surname="No. 1") == ["ada1"]
    assert await found(client, email="2@example.org") == ["ada2"]
    assert await found(client, name="Ada", email="nobody@example.org") == []
    assert await found(client, name="Ada' OR '1'='1") == []
    assert await found(client, limit=2) == ["ada0", "ada1"]
    assert await found(client, limit=2, after=last - 2) == ["ada2", "zoe"]
    assert await found(client, after=last) == []


async def test_names_are_any_text_in_one_form(client: httpx2.AsyncClient) -> None:
    for number, name in enumerate(
        ("Zoe\u0308", "李小龍", "🦀👩‍👩‍👧", "O'Brien; DROP TABLE users", "\u0646\u06cc\u200c\u0645")
    ):
        await created(client, f"user{number}", name=name)
        assert await found(client, name=name) == [f"user{number}"]
    assert await found(client, name="Zoë") == ["user0"]


BAD: list[dict[str, Any]] = [
    {"username": ""},
    {"username": "a b"},
    {"username": "ada\n"},
    {"username": "\u0430d\u0430"},  # Cyrillic: looks like another
    {"username": "a" * (limits.NAME_CHARACTERS_MAX + 1)},
    {"password": "x" * (limits.PASSWORD_CHARACTERS_MIN - 1)},
    {"password": "x" * (limits.PASSWORD_CHARACTERS_MAX + 1)},
    {"password": "x" * 1_000_000},
    {"password": None},
    {"name": "n" * (limits.NAME_CHARACTERS_MAX + 1)},
    {"name": "two\nlines"},
    {"name": "\0"},
    {"name": "txt.exe\u202egpj"},
    {"email": "nobody"},
    {"email": "a@b@c"},
    {"email": "a\0@example.org"},
    {"email": f"{'a' * limits.EMAIL_CHARACTERS_MAX}@example.org"},
    {"isAdmin": True},
    {"id": 7},
]


async def test_bad_input_is_refused_by_field_and_not_repeated(client: httpx2.AsyncClient) -> None:
    for bad in BAD:
        answer = await client.post(PATH, json={"username": "ada", "password": PASSWORD, **bad})
        (field,) = bad
        assert answer.status_code == 422, bad
        assert [one["field"] for one in answer.json()["fields"]] == [f"body.{field}"]
        assert len(answer.content) < 1000
    lone_surrogate = b'{"username":"ada","password":"correct horse \\ud800"}'
    answer = await client.post(PATH, content=lone_surrogate, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert await found(client) == []


@pytest.mark.parametrize("id_", ["0", "-1", str(1 << 31), "9" * 40, "ada", "1.5", "%00", "1%27"])
async def test_what_is_no_number_is_no_users(client: httpx2.AsyncClient, id_: str) -> None:
    for answer in (
        await client.get(f"{PATH}/{id_}", headers=SERVICE),
        await client.delete(f"{PATH}/{id_}", headers=SERVICE),
    ):
        assert answer.status_code == 422


async def test_a_hash_is_shown_to_services_alone(client: httpx2.AsyncClient) -> None:
    id_ = await created(client, "ada")
    own = await credentials(client, "ada")
    assert own == {"id": id_, "username": "ada", "passwordHash": own["passwordHash"]}
    assert own["passwordHash"].startswith("$argon2id$")
    for headers in ({}, signed_in(id_), {"Service-Key": "guessed"}):
        assert (await client.get(CREDENTIALS, params={"username": "ada"}, headers=headers)).status_code == 401
    for answer in (await client.get(PATH, headers=SERVICE), await client.get(f"{PATH}/{id_}", headers=SERVICE)):
        assert "argon2" not in answer.text
        assert PASSWORD not in answer.text
    unknown = await client.get(CREDENTIALS, params={"username": "eve"}, headers=SERVICE)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "no_such_user")
    assert (await client.get(CREDENTIALS, params={"username": "\0"}, headers=SERVICE)).status_code == 422


async def test_a_new_password_has_a_new_hash_which_an_outdated_one_does_not_replace(client: httpx2.AsyncClient) -> None:
    id_ = await created(client, "ada")
    old = await credentials(client, "ada")
    changed = await client.put(f"{PATH}/{id_}", json={"password": "another horse"}, headers=signed_in(id_))
    assert changed.status_code == 200
    new = await credentials(client, "ada")
    assert new["passwordHash"] != old["passwordHash"]
    for replaces, expected in ((old["passwordHash"], new["passwordHash"]), (new["passwordHash"], "rehashed")):
        wanted = {"id": id_, "passwordHash": "rehashed", "replaces": replaces}
        assert (await client.put(CREDENTIALS, json=wanted, headers=signed_in(id_))).status_code == 401
        assert (await client.put(CREDENTIALS, json=wanted, headers=SERVICE)).status_code == 200
        assert (await credentials(client, "ada"))["passwordHash"] == expected


async def test_it_is_healthy_and_ready(client: httpx2.AsyncClient) -> None:
    for path in ("/users-ms/healthcheck", "/healthz", "/readyz"):
        assert ((await client.get(path)).status_code, (await client.get(path)).json()) == (200, {"status": "ok"})

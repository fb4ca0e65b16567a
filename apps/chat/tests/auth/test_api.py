"""Registering and logging in, over HTTP and on both databases."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import httpx2
import pytest

from chat import limits
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.adapters.logins import LocalLogins, UserLogin
from chat.auth.api import build
from chat.deployments import process
from chat.passwords import Passwords
from chat.problems import Refused, Unavailable, Unknown
from chat.service import application
from chat.tokens import Tokens
from chat.users.client import UsersClient
from deploy.process import free_port
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings, signed_in

REGISTER, LOGIN = "/auth-ms/auth/register", "/auth-ms/auth/login"
ADA = {"username": "Ada", "password": "correct horse battery"}
SERVICE = {"Service-Key": SERVICE_KEY}


async def registered(client: httpx2.AsyncClient, **changes: str) -> int:
    answer = await client.post(REGISTER, json={**ADA, **changes})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def test_who_registers_can_log_in_and_is_told_of_it(auth: httpx2.AsyncClient, users: httpx2.AsyncClient) -> None:
    answer = await auth.post(REGISTER, json={**ADA, "name": "Ada", "surname": "King", "email": "ada@example.org"})
    assert (answer.status_code, answer.json()) == (201, {"id": answer.json()["id"], "username": "Ada"})
    id_ = answer.json()["id"]
    at = time.time()
    answer = await auth.post(LOGIN, json={**ADA, "username": "ada"}, headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.7"})
    assert answer.status_code == 200
    login = answer.json()
    assert login == {"token": login["token"], "id": id_, "username": "Ada", "expiresAt": login["expiresAt"]}
    assert 0 <= login["expiresAt"] / 1000 - at - limits.TOKEN_SECONDS + 1 < 60

    own = {"Authorization": f"Bearer {login['token']}"}
    assert (await users.get(f"/users-ms/users/{id_}", headers=own)).json()["surname"] == "King"
    (notice,) = (await auth.get("/notifications-ms/notifications", headers=own)).json()["notifications"]
    assert "192.0.2.7" in notice["body"]
    assert 0 <= notice["at"] / 1000 - at + 1 < 60


async def test_the_short_paths_are_the_same(auth: httpx2.AsyncClient) -> None:
    assert (await auth.post("/register", json=ADA)).status_code == 201
    answer = await auth.post("/login", json=ADA)
    assert answer.status_code == 200
    await registered(auth, username="bob")
    listed = await auth.get("/users", headers={"Authorization": f"Bearer {answer.json()['token']}"})
    assert listed.json() == [[1, "Ada"], [2, "bob"]]
    assert (await auth.get("/users?after=1", headers=signed_in(1))).json() == [[2, "bob"]]
    assert (await auth.get("/users")).status_code == 401


async def test_the_list_goes_on_behind_a_page(auth: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"user{number}" for number in range(5)]
    for name in names:
        await registered(auth, username=name)
    monkeypatch.setattr(limits, "PAGE_ENTRIES_MAX", 2)
    assert [name for _, name in (await auth.get("/users", headers=signed_in(1))).json()] == names


async def test_a_taken_name_and_bad_input_are_refused_as_by_the_users_service(auth: httpx2.AsyncClient) -> None:
    await registered(auth)
    taken = await auth.post(REGISTER, json={**ADA, "username": "ADA"})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    for field, bad in (("username", "a b"), ("password", "short"), ("password", "x" * 129), ("email", "x"), ("age", 7)):
        refused = await auth.post(REGISTER, json={"username": "bob", "password": "correct horse", field: bad})
        assert (refused.status_code, refused.json()["fields"][0]["field"]) == (422, f"body.{field}")


@pytest.mark.parametrize("password", ["x" * 129, "x" * 1_000_000, None, 7])
async def test_a_password_that_cant_be_one_is_refused_before_it_is_hashed(
    auth: httpx2.AsyncClient, password: Any
) -> None:
    since = time.perf_counter()
    refused = await auth.post(LOGIN, json={**ADA, "password": password})
    assert refused.status_code == 422
    assert len(refused.content) < 500
    assert time.perf_counter() - since < 5


async def test_no_text_is_too_strange_to_be_a_wrong_password(auth: httpx2.AsyncClient) -> None:
    await registered(auth)
    for strange in ("", "\0", "\u202e", "' OR '1'='1"):
        assert (await auth.post(LOGIN, json={**ADA, "password": strange})).status_code == 401, strange
    surrogate = b'{"username":"ada","password":"\\ud800"}'
    answer = await auth.post(LOGIN, content=surrogate, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


async def test_an_unknown_user_and_a_wrong_password_are_told_the_same(auth: httpx2.AsyncClient) -> None:
    await registered(auth)
    wrong = await auth.post(LOGIN, json={**ADA, "password": "wrong horse"})
    unknown = await auth.post(LOGIN, json={**ADA, "username": "eve"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    assert wrong.json()["code"] == "wrong_credentials"
    assert {*wrong.headers} == {*unknown.headers}


async def test_an_outdated_hash_is_replaced_by_the_login_that_proves_it(
    auth: httpx2.AsyncClient, users: httpx2.AsyncClient
) -> None:
    await registered(auth)

    async def known() -> dict[str, Any]:
        answer = await users.get("/users-ms/credentials", params={"username": "ada"}, headers=SERVICE)
        return dict(answer.json())

    new = await known()
    old = bcrypt.hashpw(ADA["password"].encode(), bcrypt.gensalt(rounds=4)).decode()
    wanted = {"id": new["id"], "passwordHash": old, "replaces": new["passwordHash"]}
    assert (await users.put("/users-ms/credentials", json=wanted, headers=SERVICE)).status_code == 200
    assert (await auth.post(LOGIN, json={**ADA, "password": "wrong horse"})).status_code == 401
    assert (await known())["passwordHash"] == old
    assert (await auth.post(LOGIN, json=ADA)).status_code == 200
    replaced = (await known())["passwordHash"]
    assert replaced.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await auth.post(LOGIN, json=ADA)).status_code == 200
    assert (await known())["passwordHash"] == replaced


async def test_without_the_users_service_nobody_comes_in_for_now(database_url: str) -> None:
    away = settings(database_url=database_url, users_url=f"http://127.0.0.1:{free_port()}")
    async with served(process(away, ["auth", "notifications"])) as auth:
        for answer in (
            await auth.post(REGISTER, json=ADA),
            await auth.post(LOGIN, json=ADA),
            await auth.get("/users", headers=signed_in(1)),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["Retry-After"] == "1"


async def test_a_users_service_that_knows_another_key_is_our_fault_not_the_callers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    async with served(process(settings(database_url=url), ["users"])) as users:
        own = settings(database_url=url, users_url=str(users.base_url)).model_copy(
            update={"service_key": settings().token_secret}
        )
        async with served(process(own, ["auth", "notifications"])) as auth:
            await registered(auth)
            assert (await auth.post(LOGIN, json=ADA)).status_code == 503


@pytest.mark.parametrize("failure", [Unavailable("RabbitMQ"), Unknown()])
async def test_no_token_is_given_while_its_event_can_be_lost(
    database_url: str, users: httpx2.AsyncClient, failure: Refused
) -> None:
    logins, published = LocalLogins(), list[UserLogin]()

    async def take(login: UserLogin) -> None:
        published.append(login)
        if len(published) == 1:
            raise failure

    async with with_logins(database_url, users, logins) as auth, logins.handling(take):
        await registered(auth)
        refused = await auth.post(LOGIN, json=ADA)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "token" not in refused.text
        assert (await auth.post(LOGIN, json=ADA)).status_code == 200
    assert [(login.user_id, login.address) for login in published] == [(1, "127.0.0.1")] * 2


def with_logins(
    url: str, users: httpx2.AsyncClient, logins: LocalLogins
) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    """Serve auth alone, with this way for its events."""
    database, client = Database(url), UsersClient(str(users.base_url), SERVICE_KEY)
    tokens = Tokens(TOKEN_SECRET, SERVICE_KEY)

    @asynccontextmanager
    async def tables() -> AsyncIterator[None]:
        await database.migrate(["auth"])
        yield
        await database.close()

    service = build(database, LocalCommands(database), Passwords(), tokens, logins, client)
    return served(application([service], tokens, [tables, client.running], database.is_there))

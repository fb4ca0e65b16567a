"""The table of faults that a chat must expect, held against all services in one process, over real sockets.

Each row, and where the rest of it is tested:

- Tokens that are forged: here at every endpoint and the socket; each forgery in `test_tokens.py`.
- Guessing, and finding out who there is: here; `auth/test_guessing.py`, `auth/test_api.py`, `test_passwords.py` (time).
- Passwords too long, and many hashes at once: here; `auth/test_api.py`, `test_passwords.py`.
- Sockets of other pages, without a token, whose token expires, in others' conversations: here before the upgrade;
  `web/test_socket.py`.
- Frames too long, not UTF-8, unmasked, unknown, too many, and readers too slow: `web/test_socket.py`.
- Texts that are markup, addresses, bidirectional or huge, and messages that come twice: here through the whole chain;
  `web/test_socket.py`; how they are rendered is tested with the page.
- The key of services: here; what the gateway drops in `deploy/test_gateway.py`.
- Hostile scripts: `scripts/sandbox/test_hostile.py`. What the browser is told to refuse: `web/test_page.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from chat import limits
from chat.deployments import SERVICES, process
from chat.events import conversation_of
from chat.service import Service as ChatService
from chat.service import application
from chat.tokens import Tokens
from chat.users.contract import Credentials
from deploy.classic import Service
from deploy.process import HOST, free_port
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings, signed_in
from tests.test_openapi import serving
from tests.test_tokens import FORGED

OPEN = {"/register", "/login", "/auth-ms/auth/register", "/auth-ms/auth/login", "/users-ms/users"}
"""Where whoever POSTs needs no token: they are on their way to one."""
PASSWORD = "correct horse battery"
KEY = {"Service-Key": SERVICE_KEY}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """All services in one process, in which Ada is user 1 and Bob is user 2."""
    async with serving(tmp_path, *SERVICES) as client:
        for username in ("ada", "bob"):
            answer = await client.post("/register", json={"username": username, "password": PASSWORD})
            assert answer.status_code == 201
        yield client


async def operations(chat: httpx2.AsyncClient) -> list[tuple[str, str]]:
    """Return method and path of all that is described, with something in place of what is variable."""
    paths: dict[str, dict[str, Any]] = (await chat.get("/openapi.json")).json()["paths"]
    return [(method.upper(), re.sub(r"{\w+}", "1", path)) for path, methods in paths.items() for method in methods]


def socket_url(chat: httpx2.AsyncClient) -> str:
    return f"ws://{chat.base_url.netloc.decode()}/ws"


def protocols(token: str) -> list[Subprotocol]:
    return [Subprotocol("chat"), Subprotocol(token)]


def token_of(user: int) -> str:
    return signed_in(user)["Authorization"].removeprefix("Bearer ")


async def test_every_endpoint_but_five_wants_a_good_token(chat: httpx2.AsyncClient) -> None:
    expired = {"Authorization": f"Bearer {FORGED['expired']}"}
    unsigned = {"Authorization": f"Bearer {FORGED['alg none']}"}
    wrong_key = {"Service-Key": SERVICE_KEY[:-1]}
    bodies = set()
    closed = [(method, path) for method, path in await operations(chat) if method != "POST" or path not in OPEN]
    assert len(closed) > 15
    for method, path in closed:
        for headers in ({}, expired, unsigned, wrong_key):
            answer = await chat.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            bodies.add(answer.content)
    assert len(bodies) == 1


async def test_no_forged_token_opens_a_socket(chat: httpx2.AsyncClient) -> None:
    for name, forged in FORGED.items():
        if not re.fullmatch(r"[\w.-]{1,8000}", forged, re.ASCII):
            continue  # no name of a protocol
        with pytest.raises(InvalidStatus) as refused:
            await connect(socket_url(chat), subprotocols=protocols(forged), proxy=None)
        response = refused.value.response
        assert (response.status_code, json.loads(response.body or b"")["code"]) == (401, "unauthorized"), name


async def test_another_page_opens_no_socket_with_a_good_token(chat: httpx2.AsyncClient) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            socket_url(chat),
            subprotocols=protocols(token_of(1)),
            origin="https://evil.example",
            proxy=None,  # type: ignore[arg-type]
        )
    assert refused.value.response.status_code == 403


async def test_guessing_ends_after_five_failures_and_tells_nothing(chat: httpx2.AsyncClient) -> None:
    answers = {}
    for username in ("ada", "nobody"):
        guesses = [{"username": username, "password": f"wrong horse {number}"} for number in range(6)]
        answers[username] = [await chat.post("/login", json=guess) for guess in guesses]
        assert [answer.status_code for answer in answers[username]] == [401] * 5 + [429]
        assert 0 < int(answers[username][-1].headers["Retry-After"]) <= limits.FAILURES_PER_ACCOUNT_SECONDS
    assert answers["ada"][0].content == answers["nobody"][0].content
    assert (await chat.post("/login", json={"username": "bob", "password": PASSWORD})).status_code == 200


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_what_is_wrong_with_a_password_is_told_without_it(chat: httpx2.AsyncClient, path: str) -> None:
    for password in ("hunter2" * 20, "hunter2" * 100_000, ["hunter2"], {"hunter2": "hunter2"}):
        answer = await chat.post(path, json={"username": "eve", "password": password})
        assert answer.status_code == 422
        assert "hunter2" not in answer.text
        assert "body.password" in answer.text
    cut_short = await chat.post(path, content=b'{"username": "eve", "password": "hunter2', headers=JSON)
    assert cut_short.status_code == 422
    assert "hunter2" not in cut_short.text


async def test_no_endpoint_shows_a_hash(chat: httpx2.AsyncClient) -> None:
    for headers in (signed_in(1), KEY):
        for method, path in await operations(chat):
            if method == "GET":
                assert "argon2" not in (await chat.get(path, headers=headers)).text, path
    assert (await chat.get("/users-ms/credentials?username=ada", headers=signed_in(1))).status_code == 401


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(limits.BODY_BYTES_MAX // 65_536 + 1):
        yield b" " * 65_536


async def test_a_body_above_a_mebibyte_is_refused(chat: httpx2.AsyncClient) -> None:
    """By the size that is declared, or by what has come; up to it, it is read."""
    fits = b" " * limits.BODY_BYTES_MAX
    for path in ("/login", "/autoreply-ms/settings"):
        headers = {**JSON, **signed_in(1)}
        assert (await chat.post(path, content=fits, headers=headers)).status_code == 422
        for content in (fits + b" ", chunks()):
            answer = await chat.post(path, content=content, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
            assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await chat.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 200


async def test_a_refusal_is_much_smaller_than_what_it_refuses(chat: httpx2.AsyncClient) -> None:
    many = {f"unknown{number}": number for number in range(10_000)}
    for body in (many, {"x" * 100_000: 1}):
        answer = await chat.post("/login", json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 5000


HOSTILE = {
    "deep": b"[" * 100_000,
    "a number of 5000 digits": b'{"username": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"username": "\xff"}',
    "half a surrogate": b'{"username": "\\ud800", "password": "\\ud800", "\\ud800": 1}',
    "NUL": b'{"username": "\\u0000", "password": "\\u0000"}',
    "not a number": b'{"username": NaN, "password": Infinity}',
    "a name twice": b'{"username": "eve", "username": "ada", "password": 1}',
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_body_is_too_strange_to_be_refused(chat: httpx2.AsyncClient, name: str) -> None:
    for method, path in await operations(chat):
        if method in ("POST", "PUT", "PATCH"):
            answer = await chat.request(method, path, content=HOSTILE[name], headers={**JSON, **signed_in(1)})
            assert answer.status_code in (400, 422), (method, path)


def test_an_error_that_is_logged_holds_nothing_of_the_document() -> None:
    with pytest.raises(ValidationError) as error:
        Credentials.model_validate({"id": 1, "username": "ada", "passwordHash": ["$argon2id$"]})
    assert "passwordHash" in str(error.value)
    assert "argon2" not in str(error.value)


async def test_a_fault_of_ours_is_told_as_one_and_no_more() -> None:
    api = APIRouter()

    @api.get("/broken")
    async def broken() -> None:
        raise RuntimeError(PASSWORD)

    async def ready() -> bool:
        return True

    app = application([ChatService("broken", api)], Tokens(TOKEN_SECRET, SERVICE_KEY), [], ready)
    async with served(app) as client:
        answer = await client.get("/broken")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert PASSWORD not in answer.text


@pytest.mark.parametrize("path", ["/assets/%00", "/assets/%2e%2e/%2e%2e/settings.py", "/assets/" + "x" * 5000, "/%ff"])
async def test_no_path_leads_to_other_files(chat: httpx2.AsyncClient, path: str) -> None:
    answer = await chat.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_commands_are_taken_from_services_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy that is its own front; the key that it shows goes by no proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    port = free_port()
    own = settings(database_url=f"sqlite:///{tmp_path / 'chat.db'}", commands_url=f"http://127.0.0.1:{port}")
    async with (
        served(process(own, ["users"]), port) as client,
        httpx2.AsyncClient(base_url=client.base_url, trust_env=False) as anybody,
    ):
        new = {"username": "ada", "password": PASSWORD}
        assert (await anybody.post("/users-ms/users", json=new)).status_code == 201
        wanted = {"id": 1}
        for headers in ({}, signed_in(1), {"Service-Key": ""}, {"Service-Key": SERVICE_KEY + "x"}):
            answer = await anybody.post("/commands/users.delete", json=wanted, headers=headers)
            assert answer.status_code == 401
        assert (await anybody.post("/commands/users.delete", json={"id": "x"}, headers=KEY)).status_code == 422
        assert (await anybody.post("/commands/users.fly", json=wanted, headers=KEY)).status_code == 404
        for content in (b"x" * (limits.BODY_BYTES_MAX + 1), endless()):
            answer = await anybody.post("/commands/users.delete", content=content, headers=KEY)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert (await anybody.get("/users-ms/users/1", headers=KEY)).status_code == 200
        assert (await anybody.post("/commands/users.delete", json=wanted, headers=KEY)).status_code == 200
        assert (await anybody.get("/users-ms/users/1", headers=KEY)).status_code == 404


async def endless() -> AsyncIterator[bytes]:
    """Give more than a body may have, without saying beforehand how much."""
    for _ in range(limits.BODY_BYTES_MAX // 65536 + 1):
        yield b"x" * 65536


async def test_where_commands_are_not_ordered_there_is_no_door_for_them(chat: httpx2.AsyncClient) -> None:
    assert (await chat.post("/commands/users.delete", json={"id": 1}, headers=KEY)).status_code == 404


TEXTS = {
    "markup": "<img src=x onerror=alert(1)><script>alert(1)</script>&lt;b&gt;",
    "an address": "javascript:alert(1) https://evil.example/%0d%0aSet-Cookie:a=b",
    "SQL": "'; DROP TABLE messages; --",
    "bidirectional": "a\u202egnp.exe\u2066\u200f",
    "a huge grapheme": "e" + "\u0301" * 2047,
    "control characters": "\x01\x1b[2J\r\n\t\x7f",
    "as long as can be": "x" * limits.MESSAGE_BYTES_MAX,
}


async def answer_to(socket: ClientConnection, uid: str) -> dict[str, Any]:
    """Return what is said of the message."""
    async with asyncio.timeout(30):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if frame["type"] in ("Accepted", "Refused") and frame["messageUid"] == uid:
                return frame


async def test_any_text_is_kept_as_it_is_and_once(chat: httpx2.AsyncClient) -> None:
    history = f"/messages-ms/conversations/{conversation_of((1, 2))}/messages"
    async with connect(socket_url(chat), subprotocols=protocols(token_of(1)), proxy=None) as socket:
        for text in TEXTS.values():
            uid = str(uuid.uuid4())
            for _ in range(2):
                say = {"type": "SendMessage", "messageUid": uid, "message": text, "destinationUsers": [2]}
                await socket.send(json.dumps(say))
                assert (await answer_to(socket, uid))["type"] == "Accepted"
        uid = str(uuid.uuid4())
        await socket.send(json.dumps({**say, "messageUid": uid, "message": "x" * (limits.MESSAGE_BYTES_MAX + 1)}))
        assert (await answer_to(socket, uid))["type"] == "Refused"

    async with asyncio.timeout(30):
        while len(kept := (await chat.get(history, headers=signed_in(2))).json()["messages"]) < len(TEXTS):
            await asyncio.sleep(0.05)
    assert [message["body"] for message in kept] == list(TEXTS.values())
    assert (await chat.get(history, headers=signed_in(3))).status_code == 403


@pytest.fixture
def running(tmp_path: Path) -> Service:
    """A process of all services, as operators start it."""

    def environment(_: str) -> dict[str, str]:
        url = f"http://{HOST}:{service.port}"
        return {
            "CHAT_TOKEN_SECRET": TOKEN_SECRET,
            "CHAT_SERVICE_KEY": SERVICE_KEY,
            "CHAT_DATABASE_URL": f"sqlite:///{tmp_path / 'chat.db'}",
            **{f"CHAT_{name}_URL": url for name in ("USERS", "MESSAGES", "SCRIPTS")},
        }

    service = Service(tmp_path / "all", "all", environment)
    return service


async def test_no_secret_is_logged(running: Service) -> None:
    async with running, httpx2.AsyncClient(base_url=f"http://{HOST}:{running.port}", trust_env=False) as client:
        good = {"username": "ada", "password": PASSWORD}
        assert (await client.post("/register", json=good)).status_code == 201
        token = (await client.post("/login", json=good)).json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        for bad in ({**good, "password": PASSWORD + "!"}, {**good, "password": [PASSWORD]}, {"password": PASSWORD}):
            assert (await client.post("/login", json=bad)).status_code in (401, 422)
        assert (await client.get("/users-ms/credentials?username=ada", headers=KEY)).status_code == 200
        assert (await client.get("/", headers=bearer)).status_code in (200, 503)
        assert (await client.get("/web-ms/people", headers=bearer)).status_code == 200
        async with connect(f"ws://{HOST}:{running.port}/ws", subprotocols=protocols(token), proxy=None):
            pass
    lines = running.log.read_text().splitlines()
    assert all(json.loads(line)["event"] for line in lines)
    for secret in (PASSWORD, TOKEN_SECRET, SERVICE_KEY, token, "argon2", "HTTP Request"):
        assert not [line for line in lines if secret in line], secret

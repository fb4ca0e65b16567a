"""Who is calling, over HTTP: one token is good, and all others fare alike (RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chat import limits
from chat.deployments import process
from chat.problems import Refused
from chat.tokens import AUDIENCE, ISSUER, Tokens
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings

NOW = int(time.time())
DAY = 24 * 3600
"""What is made when the tests are collected has to last until they run."""
GOOD = {"id": 1, "username": "ada", "iat": NOW, "exp": NOW + DAY, "iss": ISSUER, "aud": AUDIENCE}
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD9\n-----END PUBLIC KEY-----\n"
OTHER_KEY = "a key that is somebody else's, and long enough"
PATH = "/users-ms/users"


def part(content: str | dict[str, Any]) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def token(claims: str | dict[str, Any] = GOOD, key: str = TOKEN_SECRET, alg: str = "HS256", **header: Any) -> str:
    signed = f"{part({'typ': 'JWT', 'alg': alg, **header})}.{part(claims)}"
    method = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(alg, hashlib.sha256)
    signature = hmac.digest(key.encode(), signed.encode(), method)
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def without(claim: str) -> str:
    return token({name: value for name, value in GOOD.items() if name != claim})


FORGED = {
    "alg none": token(alg="none").rpartition(".")[0] + ".",
    "alg None, signed": token(alg="None"),
    "alg HS384": token(alg="HS384"),
    "alg HS512": token(alg="HS512"),
    "alg RS256": token(alg="RS256"),
    "signed with a public key": token(key=PUBLIC_KEY),
    "signed with another key": token(key=OTHER_KEY),
    "signed with nothing": token(key=""),
    "kid of an empty file": token(key="", kid="../../../../dev/null"),
    "kid with SQL": token(key=OTHER_KEY, kid=f"x' UNION SELECT '{OTHER_KEY}' -- "),
    "jku": token(key=OTHER_KEY, jku="https://attacker.example/keys"),
    "x5u": token(key=OTHER_KEY, x5u="https://attacker.example/certificate"),
    "jwk": token(key=OTHER_KEY, jwk={"kty": "oct", "k": part(OTHER_KEY)}),
    "critical extension": token(crit=["unheard-of"], **{"unheard-of": True}),
    "expired": token({**GOOD, "exp": NOW - 1}),
    "not yet valid": token({**GOOD, "nbf": NOW + DAY}),
    "other audience": token({**GOOD, "aud": "shop"}),
    "other issuer": token({**GOOD, "iss": "chat-auth.attacker.example"}),
    **{f"no {claim}": without(claim) for claim in GOOD},
    "id is text": token({**GOOD, "id": "1"}),
    "id is true": token({**GOOD, "id": True}),
    "username is a number": token({**GOOD, "username": 1}),
    "expiry is text": token({**GOOD, "exp": "never"}),
    "a claim twice": token(json.dumps(GOOD).replace('"id": 1', '"id": 1, "id": 2')),
    "a claim twice, further in": token(json.dumps(GOOD)[:-1] + ', "more": {"a": 1, "a": 2}}'),
    "claims are a list": token("[]"),
    "claims are deep": token("[" * 3000 + "]" * 3000),
    "claims are no JSON": token("{"),
    "too long": token({**GOOD, "padding": "x" * limits.TOKEN_BYTES_MAX}),
    "tampered": token()[:-2] + ("AA" if not token().endswith("AA") else "BB"),
    "two parts": token().rpartition(".")[0],
    "four parts": token() + ".x",
    "no token": "x",
    "not ASCII": token() + "\xe9",
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(process(settings(database_url=f"sqlite:///{tmp_path / 'chat.db'}"), ["users"])) as client:
        yield client


async def ask(client: httpx2.AsyncClient, authorization: str | None) -> httpx2.Response:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    return await client.get(PATH, headers=headers)


async def test_our_own_tokens_are_good(client: httpx2.AsyncClient) -> None:
    issued, expires_at = Tokens(TOKEN_SECRET, SERVICE_KEY).issue(1, "ada")
    assert NOW + limits.TOKEN_SECONDS <= expires_at <= time.time() + limits.TOKEN_SECONDS
    for good in (issued, token(), token({**GOOD, "iat": NOW + 60})):
        assert (await ask(client, f"Bearer {good}")).status_code == 200


async def test_all_others_are_refused_alike(client: httpx2.AsyncClient) -> None:
    nobody = await ask(client, None)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "unauthorized")
    for name, forged in FORGED.items():
        answer = await ask(client, f"Bearer {forged}")
        assert answer.status_code == 401, name
        assert (answer.content, answer.headers["WWW-Authenticate"]) == (nobody.content, "Bearer"), name


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic YWRhOmFkYQ==", token(), f"Token {token()}"])
async def test_a_token_is_a_bearer_token(client: httpx2.AsyncClient, authorization: str) -> None:
    assert (await ask(client, authorization)).status_code == 401


@pytest.mark.parametrize("forged", ["\ud800", "a.\udfff.c", "\0"])
def test_a_token_that_came_as_json_may_hold_anything(forged: str) -> None:
    with pytest.raises(Refused):
        Tokens(TOKEN_SECRET, SERVICE_KEY).verify(forged)


async def test_only_the_whole_key_opens_what_is_for_services(client: httpx2.AsyncClient) -> None:
    for key, status in (
        (SERVICE_KEY, 200),
        (SERVICE_KEY[:-1], 401),
        (SERVICE_KEY + "x", 401),
        ("", 401),
        ("\xe9", 401),
    ):
        answer = await client.get(PATH, headers={"Service-Key": key.encode("latin-1")})
        assert answer.status_code == status, key

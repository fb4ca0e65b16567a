"""Who is calling: JSON web tokens of users, and the key that services show to each other.

Tokens are HS256 alone (the algorithm is ours to name, not the token's), with all of exp, iat, iss and aud, and no claim
twice. Keys that a token names or points to are never looked for. Whatever is wrong with one, the refusal is the same.
"""

from __future__ import annotations

import hmac
import json
import time
from typing import Annotated, Any, NamedTuple

import jwt
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from chat import limits
from chat.problems import Refused

ISSUER = "chat-auth"
AUDIENCE = "chat"
SERVICE_KEY = "Service-Key"

_bearer = HTTPBearer(auto_error=False, description="the token of a login")
_service_key = APIKeyHeader(name=SERVICE_KEY, auto_error=False, description="for services among themselves")


class Caller(NamedTuple):
    """A signed-in user."""

    id: int
    username: str
    expires_at: int
    """Unix seconds."""


class _Strict(jwt.PyJWT):
    """Reads claims of which none is there twice: readers would differ on which one holds."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            claims = json.loads(decoded["payload"], object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError):
            raise jwt.DecodeError from None
        if not isinstance(claims, dict):
            raise jwt.DecodeError
        return claims


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


class Tokens:
    """Issues and verifies tokens with `secret`, and knows the services' `service_key`."""

    def __init__(self, secret: str, service_key: str) -> None:
        self._secret = secret
        self._service_key = service_key.encode()
        self._jwt = _Strict()

    def issue(self, user_id: int, username: str) -> tuple[str, int]:
        """Return a token and when it expires, in Unix seconds."""
        now = int(time.time())
        expires_at = now + limits.TOKEN_SECONDS
        claims = {"id": user_id, "username": username, "iat": now, "exp": expires_at, "iss": ISSUER, "aud": AUDIENCE}
        return jwt.encode(claims, self._secret, "HS256"), expires_at

    def verify(self, token: str) -> Caller:
        """Return whose token it is; raises Refused (401)."""
        try:
            if len(token) > limits.TOKEN_BYTES_MAX or not token.isascii():
                raise jwt.InvalidTokenError
            claims = self._jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["exp", "iat", "iss", "aud", "id", "username"],
                    "verify_iat": False,  # it may be ahead of us, by the clock of another copy
                },
            )
            user_id, username = claims["id"], claims["username"]
            if type(user_id) is not int or not isinstance(username, str):
                raise jwt.InvalidTokenError
        except jwt.InvalidTokenError:
            raise unauthorized() from None
        return Caller(user_id, username, int(claims["exp"]))

    def is_service(self, key: str | None) -> bool:
        """Say whether `key` is the services' own."""
        return key is not None and hmac.compare_digest(key.encode(), self._service_key)


def unauthorized() -> Refused:
    """Return the one refusal of every token that is no good."""
    return Refused(401, "unauthorized", "Sign in first", headers={"WWW-Authenticate": "Bearer"})


def _tokens(request: Request) -> Tokens:
    tokens = request.app.state.tokens
    assert isinstance(tokens, Tokens)
    return tokens


# Dependencies that are no coroutines would each be run by a thread: dearer than all that they do.
async def _user(request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if bearer is None:
        raise unauthorized()
    return _tokens(request).verify(bearer.credentials)


async def _service(request: Request, key: Annotated[str | None, Depends(_service_key)]) -> None:
    if not _tokens(request).is_service(key):
        raise unauthorized()


async def _user_or_service(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    key: Annotated[str | None, Depends(_service_key)],
) -> Caller | None:
    return None if key is not None and _tokens(request).is_service(key) else await _user(request, bearer)


SignedIn = Annotated[Caller, Depends(_user)]
"""A parameter of an endpoint that only users may call."""
ServiceOnly = Depends(_service)
"""A dependency of an endpoint that only services may call."""
SignedInOrService = Annotated[Caller | None, Depends(_user_or_service)]
"""The user, or None for a service."""

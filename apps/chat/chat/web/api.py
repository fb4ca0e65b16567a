"""The edge of the web service: sockets before they are accepted, the list of people, and the page."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from chat import limits
from chat.adapters.bus import Bus
from chat.adapters.presence import Presence
from chat.models import Document
from chat.problems import Refused, problem
from chat.service import Service
from chat.settings import Settings
from chat.tokens import SignedIn, Tokens, unauthorized
from chat.users.client import UsersClient
from chat.web.frames import Closing
from chat.web.hub import Hub
from chat.web.neighbours import Neighbours
from chat.web.page import page
from chat.web.people import People, Person
from chat.web.publisher import Publisher
from chat.web.session import Session

PROTOCOL = "chat"
LAST_SEQ: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0, lt=1 << 53)])
"""A number that a browser can count to."""


class Everybody(Document):
    """All users."""

    people: tuple[Person, ...]


def build(settings: Settings, tokens: Tokens, users: UsersClient, presence: Presence, bus: Bus) -> Service:
    """Return the service."""
    neighbours = Neighbours(settings)
    people = People(users, presence)
    publisher = Publisher(bus)
    hub = Hub(presence, neighbours, settings.socket_seconds)
    api = APIRouter()

    @api.get("/web-ms/people")
    async def everybody(caller: SignedIn) -> Everybody:
        return Everybody(people=await people.all())

    @api.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        try:
            _check_origin(websocket, settings.origins)
            token = _token(websocket)
            last_seq = _last_seq(websocket)
            session = Session(websocket, token, tokens, neighbours, people, publisher, settings.socket_seconds)
            if hub.is_full:
                raise Refused(503, "busy", "There are too many sockets", "Try again shortly.", {"Retry-After": "2"})
        except Refused as refused:
            await websocket.send_denial_response(problem(refused))
            return
        await websocket.accept(PROTOCOL)
        async with hub.holding(session):
            closing = await session.run(last_seq)
        if closing is not None:
            await _close(websocket, closing)

    api.include_router(page(settings.page))
    background = (
        neighbours.running,
        publisher.running,
        hub.running,
        lambda: bus.receiving(settings.instance, hub.pushed),
    )
    return Service("web", api, background=background)


def _check_origin(websocket: WebSocket, allowed: tuple[str, ...]) -> None:
    """Refuse the pages of others, which would speak in the name of the browser's user; no browser, no origin."""
    origin = websocket.headers.get("origin")
    if origin is None or origin in allowed:
        return
    if urlsplit(origin).netloc.lower() != websocket.headers.get("host", "").lower():
        raise Refused(403, "bad_origin", "Sockets are for this page alone")


def _token(websocket: WebSocket) -> str:
    """Return what stands beside the protocol's name: `chat, <token>`."""
    offered = [one for one in websocket.scope["subprotocols"] if one != PROTOCOL]
    if len(offered) != 1 or PROTOCOL not in websocket.scope["subprotocols"]:
        raise unauthorized()
    return str(offered[0])


async def _close(websocket: WebSocket, closing: Closing) -> None:
    # Who reads nothing can't be told; who is gone, or was closed by the protocol (RuntimeError), needn't be.
    with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(limits.SLOW_SECONDS_MAX):
            await websocket.close(closing.code, closing.reason)


def _last_seq(websocket: WebSocket) -> int | None:
    given = websocket.query_params.get("last_seq")
    try:
        return None if given is None else LAST_SEQ.validate_strings(given)
    except ValidationError:
        raise Refused(422, "invalid", "last_seq is the number of an inbox entry") from None

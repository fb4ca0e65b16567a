"""A web instance with its router and users service behind it, and clients that speak to it over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from fastapi import APIRouter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import LocalCommands
from chat.adapters.database import Database
from chat.adapters.presence_ordered import OrderedPresence
from chat.events import Event, Topic
from chat.passwords import Passwords
from chat.presence.apply import REPORT
from chat.router.api import build as build_router
from chat.service import Service, application
from chat.tokens import Tokens
from chat.users.api import build as build_users
from chat.users.apply import CREATE, CreateUser
from chat.users.client import UsersClient
from chat.web.api import build as build_web
from tests.conftest import SERVICE_KEY, TOKEN_SECRET, served, settings

ANNA, BERT, CARA = 1, 2, 3
USERS = range(1, 9)
DEADLINE_SECONDS = 30.0
"""For what takes milliseconds when the machine is idle."""
TOKENS = Tokens(TOKEN_SECRET, SERVICE_KEY)


class Chat:
    """The parts of a running chat: those behind it at `back`, the web instance at `http`."""

    def __init__(self, directory: Path, bus: LocalBus) -> None:
        self.database = Database(f"sqlite:///{directory / 'chat.db'}")
        self.commands = LocalCommands(self.database)
        self.presence = OrderedPresence(self.database, self.commands, "local")
        self.bus = bus
        self.page = directory / "page"
        self.back: httpx2.AsyncClient
        self.http: httpx2.AsyncClient
        self.scripts: httpx2.AsyncClient

    @property
    def url(self) -> str:
        return str(self.http.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"

    @asynccontextmanager
    async def running_back(self, *more: Service) -> AsyncIterator[None]:
        await self.database.migrate(["users", "router", "presence"])
        services = [
            build_users(self.database, self.commands, Passwords()),
            build_router(self.database, self.commands, self.presence, self.bus),
            Service("presence", APIRouter(), (REPORT,)),
            *more,
        ]
        stations = dict.fromkeys(Topic, None) | {t: h for service in services for t, h in service.topics.items()}
        chain = [partial(self.bus.handling, topic, handler or passing(topic)) for topic, handler in stations.items()]
        app = application(services, TOKENS, [self.presence.running, *chain], self.database.is_there)
        async with served(app) as self.back:
            for user in USERS:
                await self.commands.submit(CREATE, a_user(user))
            yield
        await self.database.close()

    @asynccontextmanager
    async def running_web(self, **changes: Any) -> AsyncIterator[None]:
        url = str(self.back.base_url)
        urls = {"users_url": url, "messages_url": url, "scripts_url": url, "page": self.page}
        set_ = settings(**{**urls, **changes})
        users = UsersClient(set_.users_url, SERVICE_KEY)
        web = build_web(set_, TOKENS, users, self.presence, self.bus)
        async with served(application([web], TOKENS, [users.running], self.database.is_there)) as self.http:
            yield

    def connect(self, user: int, last_seq: int | None = None, **options: Any) -> Client:
        return Client(self.url, user, last_seq, options)


def passing(topic: Topic) -> Callable[[Sequence[Event]], Any]:
    """A station of the chain at which nothing happens."""

    async def handle(events: Sequence[Event]) -> Sequence[Event]:
        return [event.taken(topic) for event in events]

    return handle


def a_user(number: int) -> CreateUser:
    name = f"user{number}"
    return CreateUser(username=name, name=name, surname="", email=None, password_hash="none", created_at=0)


def token(user: int, seconds: int = 3600) -> str:
    """A token that expires after so long."""
    now = int(time.time())
    claims = {
        "id": user,
        "username": f"user{user}",
        "iat": now,
        "exp": now + seconds,
        "iss": "chat-auth",
        "aud": "chat",
    }
    return jwt.encode(claims, TOKEN_SECRET, "HS256")


class Client:
    """A user's page: an asynchronous context that begins when it is welcome."""

    socket: ClientConnection
    last_seq: int

    def __init__(self, url: str, user: int, last_seq: int | None, options: dict[str, Any]) -> None:
        self._url = url if last_seq is None else f"{url}?last_seq={last_seq}"
        self.user = user
        self._options = {
            "subprotocols": ["chat", token(user)],
            "compression": None,
            "proxy": None,
            "max_queue": None,
            **options,
        }

    async def __aenter__(self) -> Client:
        self.socket = await connect(self._url, **self._options)
        assert self.socket.subprotocol == Subprotocol("chat")
        welcome = await self.next("Welcome")
        assert welcome["userId"] == self.user
        self.last_seq = welcome["lastSeq"]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()

    async def next(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types; others are passed over."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if frame["type"] in types:
                    return frame

    async def texts(self, count: int) -> list[tuple[int, str]]:
        """Numbers and texts of the next messages."""
        frames = [await self.next("ReceiveMessage") for _ in range(count)]
        return [(frame["seq"], frame["msg"]) for frame in frames]

    async def say(self, frame: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(frame))

    async def write(self, *to: int, text: str = "hello", uid: str | None = None, **more: Any) -> str:
        """Send a message; return its identifier."""
        uid = uid or str(uuid.uuid4())
        message = {"type": "SendMessage", "messageUid": uid, "message": text, "destinationUsers": to, **more}
        await self.say(message)
        return uid

    async def closed(self) -> int:
        """The code with which the server closes the socket."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        return self.socket.close_code or 0


@pytest.fixture
def bus() -> LocalBus:
    return LocalBus()


@pytest.fixture
async def chat(tmp_path: Path, bus: LocalBus) -> AsyncIterator[Chat]:
    chat = Chat(tmp_path, bus)
    async with chat.running_back(), chat.running_web():
        yield chat

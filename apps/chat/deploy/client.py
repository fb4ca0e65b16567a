"""A client of the chat that doesn't give up, as the chaos tests and the load tool need it.

It finds another address when its own fails, resumes after the last number it saw, and sends again, under the same
identifier, whatever was not accepted. It keeps a record of what it received, and of every number that came out of turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

RETRY_SECONDS = (0.05, 0.5)
"""Pause before another address is tried, drawn from between these."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
LOST = (OSError, TimeoutError, WebSocketException)


class Refused(Exception):
    """The chat doesn't take a message; another try would be refused again."""


class Client:
    """One user at one device; `urls` are the addresses where the chat may be found, the first to be tried first."""

    def __init__(self, urls: Sequence[str], username: str, password: str) -> None:
        self.username = username
        self.id = 0
        self.token = ""
        self.received: list[dict[str, Any]] = []
        """Stored messages, in the order of the inbox: one's own too."""
        self.out_of_turn: list[str] = []
        """What must never come: a number twice, or one too early."""
        self.reconnects = -1
        self.on_message: Callable[[dict[str, Any]], None] = lambda message: None
        self._urls = list(urls)
        self._password = password
        self._last_seq: int | None = None
        self._socket: ClientConnection | None = None
        self._unaccepted: dict[str, tuple[str, asyncio.Future[None]]] = {}
        """Frames by messageUid, and who waits for their acceptance."""
        self._connected = asyncio.Event()

    async def register(self) -> None:
        """Make the user; one that is there already will do."""
        answer = await self._ask("/register")
        assert answer.status_code in (201, 409), answer.text

    async def log_in(self) -> None:
        """Get a token."""
        answer = await self._ask("/login")
        assert answer.status_code == 200, answer.text
        self.id, self.token = answer.json()["id"], answer.json()["token"]

    @asynccontextmanager
    async def online(self) -> AsyncIterator[None]:
        """Hold a socket, one after the other, as long as the context lasts; enters once the first is open."""
        task = asyncio.create_task(self._hold())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connected.wait()
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def send(self, text: str, *recipients: int) -> str:
        """Return the messageUid once the message is accepted, which may take several sockets; raises Refused."""
        uid = str(uuid.uuid4())
        frame = json.dumps(
            {"type": "SendMessage", "messageUid": uid, "message": text, "destinationUsers": list(recipients)}
        )
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unaccepted[uid] = frame, accepted
        await self._write(frame)
        await accepted
        return uid

    async def _hold(self) -> None:
        while True:
            with contextlib.suppress(*LOST):
                await self._session()
            self._socket = None
            self._connected.clear()
            self._urls.append(self._urls.pop(0))
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))

    async def _session(self) -> None:
        resume = "" if self._last_seq is None else f"?last_seq={self._last_seq}"
        url = self._urls[0].replace("http", "ws", 1) + "/ws" + resume
        async with connect(
            url, subprotocols=["chat", self.token], open_timeout=CONNECT_SECONDS, compression=None, proxy=None
        ) as socket:
            async for frame in socket:
                await self._take(socket, json.loads(frame))

    async def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "Welcome":
            await self._welcome(socket, frame)
        elif kind == "ReceiveMessage":
            self._receive(frame)
        elif kind == "Ping":
            await self._write('{"type": "Pong"}')
        elif kind == "Accepted":
            self._settle(frame["messageUid"], None)
        elif kind == "Refused" and frame["code"] in ("unavailable", "outcome_unknown"):
            await self._write(self._unaccepted[frame["messageUid"]][0])
        elif kind == "Refused":
            self._settle(frame["messageUid"], Refused(f"{frame['code']}: {frame['title']}"))

    async def _welcome(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        self.reconnects += 1
        self._last_seq = frame["lastSeq"] if self._last_seq is None else self._last_seq
        self._socket = socket
        self._connected.set()
        for again, _ in list(self._unaccepted.values()):
            await self._write(again)

    def _receive(self, frame: dict[str, Any]) -> None:
        assert self._last_seq is not None
        if frame["seq"] != self._last_seq + 1:
            self.out_of_turn.append(f"{self.username}: {frame['seq']} after {self._last_seq}")
        self._last_seq = frame["seq"]
        self.received.append(frame["message"])
        self.on_message(frame["message"])

    def _settle(self, uid: str, error: Exception | None) -> None:
        _, accepted = self._unaccepted.pop(uid, ("", None))
        if accepted is None or accepted.done():
            return
        if error is None:
            accepted.set_result(None)
        else:
            accepted.set_exception(error)

    async def _write(self, frame: str) -> None:
        """Send on the present socket; what gets lost with it is sent on the next."""
        if self._socket is not None:
            with contextlib.suppress(*LOST):
                await self._socket.send(frame)

    async def _ask(self, path: str) -> httpx2.Response:
        """POST one's name and password to one address after the other, until one answers with other than 5xx."""
        body = {"username": self.username, "password": self._password}
        async with asyncio.timeout(ANSWER_SECONDS), httpx2.AsyncClient(timeout=ANSWER_SECONDS) as http:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    answer = await http.post(self._urls[0] + path, json=body)
                    if answer.status_code < 500:
                        return answer
                self._urls.append(self._urls.pop(0))
                await asyncio.sleep(random.uniform(*RETRY_SECONDS))

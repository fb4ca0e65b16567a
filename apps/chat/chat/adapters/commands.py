"""Where commands are applied: here (`LocalCommands`), or at every copy in one order (`OrderedCommands`).

The front door that orders is Quorate's, and this is all we know of it: what is POSTed there reaches every copy, in the
same order, at most once per `Idempotency-Key`; 503 says that it did not come about, 504 that nobody can tell.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chat import limits, observe
from chat.adapters.database import Database
from chat.bodies import Bounded
from chat.commands import AnyCommand, Command
from chat.models import Document
from chat.problems import CODES, Refused, Unavailable, Unknown, problem
from chat.tokens import SERVICE_KEY, Tokens, unauthorized

C = TypeVar("C", bound=Document)
A = TypeVar("A", bound=Document)
PATH = "/commands/"


class LocalCommands:
    """Applies commands in this process, one transaction each, one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        """Commands are applied in the order in which they came: the lock is first come, first served."""

    async def submit(self, command: Command[C, A], payload: C) -> A:
        """Apply one command, and return its answer; raises Refused, Unavailable."""
        async with self._turn:
            try:
                answer = await self._database.change(command.apply, payload)
            except Refused as refused:
                observe.COMMANDS.labels(command.name, refused.status).inc()
                raise
            observe.COMMANDS.labels(command.name, 200).inc()
            await command.committed(payload, answer)
        return answer


class OrderedCommands:
    """Brings commands to the front door at `url`, which gives them to every copy: this one included."""

    def __init__(self, url: str, service_key: str) -> None:
        headers = {SERVICE_KEY: service_key, "Content-Type": "application/json"}
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=limits.COMMAND_SECONDS_MAX,
            trust_env=False,  # the key is no proxy's business
        )

    async def submit(self, command: Command[C, A], payload: C) -> A:
        """Return the answer once a majority has the command on disk; raises Refused, Unavailable, Unknown.

        What did not come about, or nobody can tell of, is sent again under the same key: it comes about once.
        """
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body, pause = payload.json_bytes(), limits.RETRY_SECONDS_MIN
        failure: Refused = Unknown()
        try:
            async with asyncio.timeout(limits.COMMAND_SECONDS_MAX):
                while True:
                    try:
                        response = await self._http.post(PATH + command.name, content=body, headers=key)
                    except httpx2.TransportError:
                        failure = Unknown()
                    else:
                        if not _may_come_yet(response):
                            return _answer(command, response)
                        failure = Unavailable("the cluster") if response.status_code == 503 else Unknown()
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, limits.RETRY_SECONDS_MAX)
        except TimeoutError:
            raise failure from None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections as long as the context lasts."""
        async with self._http:
            yield


def _may_come_yet(response: httpx2.Response) -> bool:
    """Say whether the same command may still come about, or be told of, when it is sent again."""
    return response.status_code in (503, 504) or (
        response.status_code == 409 and response.json().get("code") == "key_in_flight"
    )


def _answer(command: Command[C, A], response: httpx2.Response) -> A:
    if response.status_code == 200:
        return command.answer.model_validate_json(response.content)
    told = response.json()
    raise Refused(response.status_code, told.get("code", "refused"), told.get("title", ""), told.get("hint", ""))


class Door:
    """Middleware: the door by which ordered commands come back to each copy.

    It stands before all other middleware and the routes, since every copy takes every command: what these do for a
    request takes longer than most commands.
    """

    def __init__(self, app: ASGIApp, local: LocalCommands, commands: Sequence[AnyCommand], tokens: Tokens) -> None:
        self._app = app
        self._bounded = Bounded(self._serve)
        self._local = local
        self._by_name: Mapping[str, AnyCommand] = {command.name: command for command in commands}
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply a command, or pass on what is none."""
        is_command = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(PATH)
        await (self._bounded if is_command else self._app)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._applied(Request(scope, receive))
        except Refused as refused:
            response = problem(refused)
        except HTTPException as error:  # by `Bounded`
            response = problem(Refused(error.status_code, CODES[error.status_code], error.detail))
        await response(scope, receive, send)

    async def _applied(self, request: Request) -> Response:
        if not self._tokens.is_service(request.headers.get(SERVICE_KEY)):
            raise unauthorized()
        name = request.scope["path"].removeprefix(PATH)
        if name not in self._by_name:
            raise Refused(404, "unknown_command", f"There is no command {name}")
        command: Command[Any, Any] = self._by_name[name]
        try:
            payload = command.payload.model_validate_json(await request.body())
        except ValidationError:
            raise Refused(422, "invalid_command", "The command makes no sense") from None
        answer = await self._local.submit(command, payload)
        return Response(answer.json_bytes(), media_type="application/json")

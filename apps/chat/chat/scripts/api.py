"""The edge of the scripts service: users upload, switch, delete and try their own scripts, one for each direction.

A source is checked before it is kept: size, text, language, syntax. A trial runs one on a message that its user makes
up; nothing comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, Self

from fastapi import APIRouter
from pydantic import Field, model_validator
from sqlalchemy import select
from starlette.responses import Response

from chat import limits
from chat.adapters.database import Database
from chat.adapters.sources import Sources, digest_of
from chat.commands import Commands
from chat.events import Topic
from chat.models import Document
from chat.problems import Refused, problem
from chat.scripts.apply import (
    DELETE,
    SWITCH,
    UPLOAD,
    DeleteScript,
    Language,
    Script,
    SwitchScript,
    UploadScript,
    no_such_script,
    script_of,
)
from chat.scripts.chain import Chain
from chat.scripts.contract import Given, Result
from chat.scripts.running import Program, Running
from chat.scripts.sandbox import Direction, ErrorKind, SourceError
from chat.scripts.source_cache import SourceCache
from chat.scripts.tables import scripts
from chat.service import Service
from chat.tokens import SignedIn

SAME_DICE = bytes(16)
"""The randomness of a trial: what failed once can be tried again."""


class Scripts(Document):
    """All scripts of a user."""

    scripts: tuple[Script, ...]


class ScriptAndSource(Script):
    """A script with its source."""

    source: str


class Upload(Document):
    """A script to be."""

    language: Language
    source: str


class Switch(Document):
    """Whether a script is to run."""

    enabled: bool


class Trial(Upload):
    """A script to try, and the message to try it on."""

    direction: Direction
    input: Given

    @model_validator(mode="after")
    def _somebody_sent_what_comes_in(self) -> Self:
        if (self.direction == "incoming") != (self.input.sender_id is not None):
            raise ValueError("an incoming message has a senderID, an outgoing one has none")
        return self


class Worked(Document):
    """What a script gave back in a trial."""

    ok: Literal[True] = True
    result: Result
    output: str
    """What it printed."""
    fuel_used: int


class Failed(Document):
    """Why a script gave nothing back."""

    ok: Literal[False] = False
    error: ErrorKind
    detail: str
    line: Annotated[int | None, Field(exclude_if=lambda line: line is None)] = None
    """Where in the source, if that is known; from 1."""


class Turns:
    """Lets each user have one script checked or tried at a time, and all of them together only so many."""

    def __init__(self) -> None:
        self._users: set[int] = set()

    @contextmanager
    def one(self, user: int) -> Iterator[None]:
        """Have a turn; raises Refused (429, 503) if it isn't one's turn."""
        if user in self._users:
            raise Refused(429, "one_at_a_time", "Another script of yours is running", "Wait.", {"Retry-After": "1"})
        if len(self._users) >= limits.SCRIPTS_AT_ONCE:
            raise Refused(503, "busy", "Too many scripts are running", "Try again shortly.", {"Retry-After": "2"})
        self._users.add(user)
        try:
            yield
        finally:
            self._users.remove(user)


def build(database: Database, commands: Commands, store: Sources | None, running: Running) -> Service:
    """Return the service; without a store, sources lie in its table."""
    api = APIRouter(prefix="/scripts-ms")
    cache = SourceCache(database, store)
    turns = Turns()

    @api.get("/scripts")
    async def every(caller: SignedIn) -> Scripts:
        statement = select(scripts).where(scripts.c.user_id == caller.id).order_by(scripts.c.direction)
        return Scripts(scripts=tuple(map(script_of, await database.rows(statement))))

    @api.get("/scripts/{direction}")
    async def read(direction: Direction, caller: SignedIn) -> ScriptAndSource:
        theirs = scripts.c.user_id == caller.id, scripts.c.direction == direction
        row = await database.row(select(scripts).where(*theirs))
        if row is None:
            raise no_such_script()
        source = row["source"] if row["source"] is not None else await cache.get(row["digest"])
        return ScriptAndSource(**script_of(row).model_dump(), source=source)

    @api.put("/scripts/{direction}", response_model=Script)
    async def upload(direction: Direction, wanted: Upload, caller: SignedIn) -> Script | Response:
        with turns.one(caller.id):
            if error := await running.check(wanted.language, wanted.source):
                return _unfit(error)
        source = wanted.source.encode()
        return await commands.submit(
            UPLOAD,
            UploadScript(
                user_id=caller.id,
                direction=direction,
                language=wanted.language,
                size=len(source),
                digest=digest_of(source),
                updated_at=_now_ms(),
                source=await cache.put(wanted.source),
            ),
        )

    @api.patch("/scripts/{direction}")
    async def switch(direction: Direction, wanted: Switch, caller: SignedIn) -> Script:
        return await commands.submit(
            SWITCH, SwitchScript(user_id=caller.id, direction=direction, enabled=wanted.enabled)
        )

    @api.delete("/scripts/{direction}", status_code=204)
    async def remove(direction: Direction, caller: SignedIn) -> None:
        await commands.submit(DELETE, DeleteScript(user_id=caller.id, direction=direction))

    @api.post("/trials", response_model=Worked | Failed)
    async def attempt(trial: Trial, caller: SignedIn) -> Worked | Failed | Response:
        with turns.one(caller.id):
            if error := await running.check(trial.language, trial.source):
                return _unfit(error)
            program = Program(trial.direction, trial.language, trial.source)
            result, verdict = await running.run(program, trial.input, _now_ms(), SAME_DICE)
        if result is None:
            return Failed(error=verdict.error, detail=verdict.detail, line=verdict.line)
        return Worked(result=result, output=verdict.output, fuel_used=verdict.fuel_used)

    chain = Chain(database, cache, running)
    topics = {Topic.SCRIPTS_OUTGOING: chain.outgoing, Topic.SCRIPTS_INCOMING: chain.incoming}
    return Service("scripts", api, (UPLOAD, SWITCH, DELETE), topics)


def _unfit(error: SourceError) -> Response:
    """Return why a source is refused, and where."""
    refused = Refused(413 if error.code == "too_large" else 422, error.code, error.detail)
    return problem(refused) if error.line is None else problem(refused, line=error.line)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""One door to all that runs scripts: the sandbox for Python and Lua, the machine's `jolie` command if it has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog
from prometheus_client import Counter
from pydantic import ValidationError

from chat import limits, observe
from chat.problems import Refused, Unavailable
from chat.scripts.apply import Language
from chat.scripts.contract import RESULTS, Given, Result
from chat.scripts.jolie import Jolie
from chat.scripts.sandbox import Direction, Sandbox, SandboxError, SourceError, Task, Verdict

NO_JOLIE = "There is no Jolie on this machine"
log = structlog.get_logger()
RUNS = Counter(
    "chat_script_runs_total",
    "Runs of scripts, by language, direction and what came of them.",
    ("language", "direction", "outcome"),
    registry=observe.REGISTRY,
)


@dataclass(frozen=True)
class Program:
    """What is to run."""

    direction: Direction
    language: Language
    source: str


class Running:
    """Checks and runs programs, so many at once as S3 has it; the others wait."""

    def __init__(self, sandbox: Sandbox, jolie: Jolie | None) -> None:
        self._sandbox = sandbox
        self._jolie = jolie
        self._slots = asyncio.Semaphore(limits.SCRIPTS_AT_ONCE)

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Have the sandbox's workers as long as the context lasts; raises SandboxError if it can't be walled in."""
        async with self._sandbox:
            yield

    async def check(self, language: Language, source: str) -> SourceError | None:
        """Return why a source is no program, or None; raises Unavailable, and Refused if nothing here can run it."""
        async with self._slots:
            if language == "jolie":
                if self._jolie is None:
                    raise Refused(422, "language_unavailable", NO_JOLIE, "Use Python or Lua.")
                return await self._jolie.check(source)
            try:
                return await self._sandbox.check(language, source)
            except SandboxError:
                raise Unavailable("the sandbox") from None

    async def run(self, program: Program, message: Given, now_ms: int, seed: bytes) -> tuple[Result | None, Verdict]:
        """Return what a program makes of a message, or None if it fails, and all that is known of the run.

        A crash is this machine's doing, so it is tried again; a program that crashes each time is one that fails.
        """
        for _ in range(limits.SCRIPT_ATTEMPTS_MAX):
            async with self._slots:
                result, verdict = _judged(program, await self._verdict(program, message, now_ms, seed))
            RUNS.labels(program.language, program.direction, verdict.error or "ok").inc()
            if verdict.error != "crash":
                break
        if result is None:
            log.info("script failed", user=message.own_id, error=verdict.error, line=verdict.line)
        return result, verdict

    async def _verdict(self, program: Program, message: Given, now_ms: int, seed: bytes) -> Verdict:
        if program.language == "jolie":
            if self._jolie is None:  # uploaded where there was one
                return Verdict(error="forbidden", detail=NO_JOLIE)
            return await self._jolie.run(program.source, program.direction, message.as_input())
        task = Task(program.language, program.source, program.direction, message.as_input(), now_ms, seed)
        try:
            return await self._sandbox.run(task)
        except SandboxError as error:
            return Verdict(error="crash", detail=str(error))


def _judged(program: Program, verdict: Verdict) -> tuple[Result | None, Verdict]:
    """Return the result as what it is, or the verdict that a text in it can't be stored."""
    if verdict.result is None:
        return None, verdict
    try:
        return RESULTS[program.direction].model_validate(verdict.result), verdict
    except ValidationError as error:
        return None, replace(verdict, result=None, error="bad_result", detail=error.errors()[0]["msg"])

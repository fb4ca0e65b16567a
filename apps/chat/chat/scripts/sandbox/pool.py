"""The sandbox as the service sees it: a few workers, a bounded queue before them, and a verdict for every task.

A worker that dies, hangs past the wall clock or answers nonsense is ended and replaced, and its task has the verdict
`crash`. Refuses with SandboxBusyError what would wait behind too many others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import chat
from chat.scripts.sandbox.interpreters import MissingInterpreterError, is_prepared
from chat.scripts.sandbox.limits import (
    FRAME_BYTES_MAX,
    RUN_SECONDS_MAX,
    RUNS_MAX,
    START_SECONDS_MAX,
    WAITING_MAX,
    WORKERS_MAX,
)
from chat.scripts.sandbox.tasks import Language, SourceError, Task, Verdict, text_of

_ROOT = Path(str(chat.__file__)).parent.parent
_PYTHON = (sys.executable, "-s", "-B", "-m")
_CHECK_MS = 1_600_000_000_000
"""The time in which sources are checked: some day in 2020."""


class SandboxError(RuntimeError):
    """The sandbox can't do its work on this machine."""


class SandboxBusyError(SandboxError):
    """Too many tasks wait already: come again."""


class Sandbox:
    """Runs tasks in at most `workers` workers at once. `cache` is a directory of its own, for compiled interpreters."""

    def __init__(self, cache: Path, *, workers: int = 2, insecure: bool = False) -> None:
        assert 1 <= workers <= WORKERS_MAX, f"1 to {WORKERS_MAX} workers"
        self.cache = cache.resolve()
        self._insecure = insecure
        self._size = workers
        self._idle: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue(workers)
        self._waiting = 0

    async def __aenter__(self) -> Self:
        """Compile the interpreters if need be, and start the workers. Raises SandboxError if that can't be done."""
        await self._prepare()
        started: list[_Worker] = []
        try:
            while len(started) < self._size:
                started.append(await self._start())
        except BaseException:
            await asyncio.gather(*(worker.end() for worker in started))
            raise
        for worker in started:
            self._idle.put_nowait(worker)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the runs under way, and end the workers."""
        for _ in range(self._size):
            if (worker := await self._idle.get()) is not None:
                await worker.end()

    async def run(self, task: Task) -> Verdict:
        """Run `task`. Raises SandboxBusyError."""
        return await self._serve(task, only_check=False)

    async def check(self, language: Language, source: str | bytes) -> SourceError | None:
        """Tell what is wrong with `source`: how it is written, or what its first run gives.

        Raises SandboxBusyError, SandboxError if the run crashed.
        """
        text = text_of(source)
        if isinstance(text, SourceError):
            return text
        verdict = await self._serve(Task(language, text, "outgoing", {}, _CHECK_MS, bytes(16)), only_check=True)
        if verdict.error == "crash":
            raise SandboxError(verdict.detail)
        if verdict.error is None:
            return None
        code = "syntax" if verdict.detail.startswith("syntax error") else verdict.error
        return SourceError(code, verdict.detail, verdict.line)

    async def _serve(self, task: Task, *, only_check: bool) -> Verdict:
        wrong = text_of(task.source)
        if isinstance(wrong, SourceError):
            return Verdict(error="script_error", detail=wrong.detail, line=wrong.line)
        async with self._worker() as worker:
            return await worker.run(task, only_check=only_check)

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        """Lend a worker; one that is spent comes back as None, and is replaced by whoever takes it next."""
        if self._waiting >= WAITING_MAX:
            raise SandboxBusyError(f"{WAITING_MAX} scripts are waiting already")
        self._waiting += 1
        try:
            worker = await self._idle.get()
        finally:
            self._waiting -= 1
        try:
            worker = worker or await self._start()
            yield worker
        finally:
            if worker is not None and worker.spent:
                await asyncio.shield(worker.end())
                worker = None
            self._idle.put_nowait(worker)

    async def _prepare(self) -> None:
        try:
            if await asyncio.to_thread(is_prepared, self.cache):
                return
        except (MissingInterpreterError, OSError) as error:
            raise SandboxError(str(error)) from error
        compiling = await asyncio.create_subprocess_exec(
            *_PYTHON, "chat.scripts.sandbox", str(self.cache), cwd=_ROOT, env={}
        )
        try:
            if await compiling.wait() != 0:
                raise SandboxError("the interpreters of scripts can't be compiled; what it said is above")
        finally:
            if compiling.returncode is None:
                compiling.kill()
                await compiling.wait()

    async def _start(self) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *_PYTHON,
            "chat.scripts.sandbox.worker",
            str(self.cache),
            *(["insecure"] if self._insecure else []),
            cwd=_ROOT,
            env={},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        worker = _Worker(process)
        try:
            await worker.ready()
        except BaseException:
            await worker.end()
            raise
        return worker


class _Worker:
    """A worker's process, which serves one request at a time. It is `spent` from the moment a request has failed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._runs = 0
        self.spent = False

    async def ready(self) -> None:
        """Wait until it has shut itself in. Raises SandboxError."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                said = await self._read()
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise SandboxError(f"a worker for scripts did not start: {error!r}") from error
        if "refused" in said:
            raise SandboxError(f"a worker for scripts has not all its walls: {said['refused']}")

    async def run(self, task: Task, *, only_check: bool) -> Verdict:
        """Return the verdict on `task`."""
        request = {"task": {**asdict(task), "seed": task.seed.hex()}, "onlyCheck": only_check}
        self._runs += 1
        # Spent until it has answered: also when whoever waits is cancelled.
        self.spent = True
        try:
            async with asyncio.timeout(RUN_SECONDS_MAX):
                await self._write(request)
                verdict = Verdict(**await self._read())
        except (OSError, EOFError, ValueError, TypeError, TimeoutError) as error:
            return Verdict(error="crash", detail=f"its worker failed: {error!r}")
        self.spent = verdict.error == "crash" or self._runs >= RUNS_MAX
        return verdict

    async def end(self) -> None:
        """Kill the process and its runs, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.communicate()

    async def _write(self, content: dict[str, Any]) -> None:
        encoded = json.dumps(content).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(len(encoded).to_bytes(4) + encoded)
        await self._process.stdin.drain()

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        size = int.from_bytes(await self._process.stdout.readexactly(4))
        if size > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {size} bytes")
        content: dict[str, Any] = json.loads(await self._process.stdout.readexactly(size))
        return content

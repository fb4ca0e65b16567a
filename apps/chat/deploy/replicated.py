"""The replicated deployment on one machine, for tests and measurements: `quorate run` and what it says of itself.

All that is known of Quorate is its command line, which `QUORATE` names, or else lies where `make` puts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.process import START_SECONDS, STOP_SECONDS, ServerFailed

ROOT = Path(__file__).parents[3]
QUORATE = os.environ.get("QUORATE", str(ROOT / ".venv/bin/quorate"))
ANY_PORTS = ("--port", "0", "--admin-port", "0", "--app-port", "0")
POLL_SECONDS = 0.2


class Replicated:
    """Three copies of the chat; an asynchronous context manager, entered once all of them serve."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "replicated"
        self.log = directory / "replicated.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.secrets = {name: secrets.token_hex(32) for name in ("CHAT_TOKEN_SECRET", "CHAT_SERVICE_KEY")}
        """What all parts share."""

    @property
    def urls(self) -> Sequence[str]:
        """Return the front of each copy."""
        return [replica["client_url"] for replica in self.replicas()]

    @property
    def url(self) -> str:
        """Return the front that all copies share."""
        return str(self._status()["url"])

    def replicas(self) -> Sequence[dict[str, Any]]:
        """Return what is known of each copy; raises ServerFailed if the run doesn't answer."""
        found: Sequence[dict[str, Any]] = self._status()["replicas"]
        return found

    def database(self, name: str) -> Path:
        """Return the file that holds a copy's tables."""
        return self.data / name / "app" / "chat.db"

    async def kill(self, name: str, *what: str) -> None:
        """SIGKILL the processes of a copy: its `--app`, its `--sidecar`, or both; they are started again."""
        await asyncio.to_thread(self._run, "kill", name, *what)

    async def settled(self) -> None:
        """Return once all copies serve, and have applied the same; raises TimeoutError."""
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(self._is_settled):
                await asyncio.sleep(POLL_SECONDS)

    async def dumps(self) -> Sequence[str]:
        """Return the tables of each copy as SQL, all of them at one place in the order; raises TimeoutError."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                await self.settled()
                before = {one["applied"] for one in self.replicas()}
                found = [_dump(self.database(one["name"])) for one in self.replicas()]
                if len(before) == 1 and before == {one["applied"] for one in self.replicas()}:
                    return found

    async def __aenter__(self) -> Self:
        own = {"CHAT_PYTHON": sys.executable, **self.secrets}
        command = [QUORATE, "run", "--file", "apps/chat/replicated.toml", *ANY_PORTS, "--data-dir", str(self.data)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **own}
            )
        try:
            await self.settled()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, STOP_SECONDS)

    def _is_settled(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f"the run ended with status {self._process.returncode}; its log is {self.log}")
        try:
            replicas = self.replicas()
        except ServerFailed:
            return False
        applied = {(one["applied"], one["digest"]) for one in replicas if one["state"] == "ready"}
        return len(applied) == 1 and all(one["state"] == "ready" for one in replicas)

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run("status", "--output", "json"))
        return found

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [QUORATE, *words, "--data-dir", str(self.data)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ServerFailed(f"quorate {words[0]}: {done.stderr.strip()}")
        return done.stdout


def _dump(database: Path) -> str:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())

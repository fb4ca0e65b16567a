"""One sidecar process under supervision: started, watched, restarted, paused, killed, drained.

A sidecar that dies is started again after a wait that doubles from BACKOFF_SECONDS_MIN and is forgotten after
BACKOFF_RESET_SECONDS of life. Two ends are final, because another try cannot help: wrong usage (exit 2) and a refused
identity (exit 3). The sidecar gets a session of its own, so that Ctrl-C reaches the supervisor alone and requests in
flight can be finished; it asks the kernel to be told when the supervisor dies (`procs.die_with_parent`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import psutil

from quorate import limits
from quorate.config import child_environment
from quorate.errors import IdentityRefused, Misuse
from quorate.ops.output import LineSplitter, LogFile
from quorate.ops.view import Display

FINAL_CODES = {Misuse.exit_code: "it refused its settings", IdentityRefused.exit_code: "it was refused its identity"}
LAST_WORDS_SECONDS_MAX = 1.0
"""A service that outlives its sidecar may hold the pipe open; its words are not waited for any longer than this."""
What = Literal["app", "sidecar", "both"]


class Child:
    """The sidecar process of one replica, and through it the service."""

    def __init__(self, name: str, config: Path, display: Display) -> None:
        self.name = name
        self.state: Literal["starting", "running", "restarting", "stopped"] = "starting"
        self.paused = False
        self.restarts = 0
        self.exit_code: int | None = None
        self._config = config
        self._display = display
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Pid of the living sidecar."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def supervise(self) -> None:
        """Keep the sidecar alive until it is drained or ends for good."""
        log = LogFile(self._config.with_name("log"))
        pipe, transport, splitter = await self._open_pipe(log)
        try:
            wait = limits.BACKOFF_SECONDS_MIN
            while not self._stopping.is_set():
                started = time.monotonic()
                self.exit_code = await self._run_once(pipe)
                if self._stopping.is_set() or self.exit_code in FINAL_CODES:
                    break
                if time.monotonic() - started >= limits.BACKOFF_RESET_SECONDS:
                    wait = limits.BACKOFF_SECONDS_MIN
                self._say(f"sidecar ended ({_end(self.exit_code)}), starts again in {wait:.2g} s")
                await self._restart_wait(wait)
                wait = min(wait * 2, limits.BACKOFF_SECONDS_MAX)
            self.state = "stopped"
            self._say(f"stopped ({FINAL_CODES.get(self.exit_code or 0, _end(self.exit_code))})")
        finally:
            self._signal(signal.SIGKILL)
            os.close(pipe)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(splitter.ended.wait(), LAST_WORDS_SECONDS_MAX)
            transport.close()
            log.close()

    def drain(self) -> None:
        """Have the sidecar finish what it has in flight and end, and start it no more."""
        self._stopping.set()
        self.resume()
        self._signal(signal.SIGTERM)

    def kill(self, what: What) -> None:
        """SIGKILL the sidecar, its service, or both."""
        family = _descendants(self.pid) if self.pid and what != "sidecar" else []
        if what != "app":
            self._signal(signal.SIGKILL)
        for process in family:
            _send_signal(process, signal.SIGKILL)
        self._say(f"killed {'sidecar and app' if what == 'both' else what} (SIGKILL)")

    def pause(self) -> None:
        """SIGSTOP sidecar and service: they keep their state and connections, and do nothing."""
        self._signal_family(signal.SIGSTOP)
        self.paused = self.pid is not None

    def resume(self) -> None:
        """SIGCONT sidecar and service."""
        self._signal_family(signal.SIGCONT)
        self.paused = False

    async def _run_once(self, pipe: int) -> int:
        # -P: a module of that name in the user's directory must not shadow one of ours.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "quorate", "sidecar", "--config", str(self._config)),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            env=child_environment({"QUORATE_SUPERVISED": str(os.getpid())}),
            start_new_session=True,
        )
        self.state, self.paused = "running", False
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        return await self._process.wait()

    async def _restart_wait(self, seconds: float) -> None:
        self.state = "restarting"
        self.restarts += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _open_pipe(self, log: LogFile) -> tuple[int, asyncio.ReadTransport, LineSplitter]:
        def on_line(line: bytes) -> None:
            log.write(line)
            self._display.line(self.name, line)

        reading, writing = os.pipe()
        transport, splitter = await asyncio.get_running_loop().connect_read_pipe(
            lambda: LineSplitter(on_line), os.fdopen(reading, "rb", buffering=0)
        )
        return writing, transport, splitter

    def _say(self, text: str) -> None:
        self._display.note(f"{self.name} {text}")

    def _signal_family(self, number: signal.Signals) -> None:
        """The sidecar before its service, so that it does not see its service stop."""
        family = _descendants(self.pid) if self.pid else []
        self._signal(number)
        for process in family:
            _send_signal(process, number)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _end(code: int | None) -> str:
    if code is None:
        return "never started"
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _descendants(pid: int) -> list[psutil.Process]:
    """All living children of `pid` and theirs; empty when there is no such process."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _send_signal(process: psutil.Process, number: signal.Signals) -> None:
    """Signal a process, unless it has ended or its pid now belongs to another."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)

"""A server's process: started, seen to answer, stopped, killed, and started again where it was and with what it had.

All a server writes lies in its own directory, its output in the file `log` there. It counts as started when it
answers a first message in its own protocol. It dies with us, even if we are killed; start servers from the main
thread only, for the kernel ties their lives to the thread. Refused: a port that is taken, a program that isn't
installed, a server that ends or stays silent at its start.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import psutil

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below those that the kernel gives to outgoing connections: a server that was stopped finds its port free again."""
START_SECONDS = 90.0
"""Until a server answers: Kafka takes 5 on an idle machine, many times that on a busy one."""
STOP_SECONDS = 30.0
"""Until a server has ended that was asked to, or killed."""
ANSWER_SECONDS = 1.0
"""For the answer to one first message; after that another is sent, over a new connection."""
PROBE_SECONDS = 0.05
"""Pause between first messages."""
LOG_LINES = 12
"""Of the log, shown when a server fails: Java's and Erlang's reports of one error are about as long."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_given: set[int] = set()


class ServerFailed(Exception):
    """A server that can't be started or stopped: one line says why, and the end of its log may follow."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that was not returned before."""
    while True:
        port = random.choice(PORTS)
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def is_free(port: int) -> bool:
    """Say whether a server could listen on that port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Yield an empty directory, removed in the end, that servers may enter which don't run as the user we are."""
    with tempfile.TemporaryDirectory(prefix="chat-servers-") as directory:
        os.chmod(directory, 0o711)  # noqa: S103 - that is to enter it, not to see what is in it
        yield Path(directory)


def find_program(name: str, *places: str, word: str) -> str:
    """Return the path of a program, sought on PATH and then in `places`; raises ServerFailed, naming `.ci/ensure`."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *places)))
    if found is None:
        raise ServerFailed(f"{name} is not installed: run `.ci/ensure {word}`")
    return found


class Server(ABC):
    """One server on loopback; `directory` is its own, made if need be, and may hold the data of an earlier one.

    An asynchronous context manager: starts it, and stops it in the end. What a kind of server is, it says in these
    attributes, in `_command` and in `_prepare`.
    """

    name: ClassVar[str]
    hello: ClassVar[bytes]
    """A first message of its protocol; while it isn't ready, the server doesn't answer it, or otherwise."""
    answer: ClassVar[bytes]
    """How the answer of a server that is ready begins."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """Has it end in good order, without waiting for its clients to go."""
    orphan_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """Sent by the kernel when we die."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.port = free_port()
        self.user: str | None = None
        """Whom it runs as, if not as the user we are."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that holds its output."""
        return self.directory / "log"

    @property
    def pid(self) -> int | None:
        """The number of its main process, while that runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self) -> None:
        """Return once it answers; raises ServerFailed, and then nothing of it runs."""
        assert self.pid is None, f"{self.name} runs already"
        self._claim()
        await asyncio.to_thread(self._prepare)
        self._process = self._spawn(self._command())
        try:
            await self._wait_ready()
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Have it end in good order, and return once all of it has; raises ServerFailed if it had to be killed."""
        if self.pid is None:
            return
        if not await self._end(self.stop_signal):
            raise ServerFailed(f"{self.name} did not end within {STOP_SECONDS:g} s of being asked to, and was killed")

    async def kill(self) -> None:
        """Kill it, as a crash would, and return once all of it is gone."""
        if self.pid is not None:
            await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it if it runs, and start it where it was, with what it had."""
        await self.stop()
        await self.start()

    async def ended(self) -> int:
        """Return its exit status once it has ended, of its own accord or not."""
        assert self._process is not None, f"{self.name} was never started"
        while (status := self._process.poll()) is None:
            await asyncio.sleep(PROBE_SECONDS)
        return status

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return what is to be started."""

    def _environment(self) -> Mapping[str, str]:
        """What is added to our own environment."""
        return {}

    def _claim(self) -> None:
        """See that address and directory can be ours; raises ServerFailed."""
        if not is_free(self.port):
            raise ServerFailed(f"{self.name} can't listen on {HOST}:{self.port}: somebody else does")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerFailed(f"{self.name} can't have {self.directory} as its directory: {error.strerror}") from error

    def _prepare(self) -> None:
        """Lay out the directory where that hasn't been done; runs in a thread, before each start."""
        return  # most kinds of server do that themselves

    def _run(self, command: Sequence[str], stdin: str = "") -> None:
        """Run one of its tools to the end; raises ServerFailed."""
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                input=stdin.encode(),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                check=False,
                **self._identity(),
            )
        if done.returncode != 0:
            raise ServerFailed(f"{Path(command[0]).name} failed for {self.name}{self._log_end()}")

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        us = os.getpid()

        def tie() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(self.orphan_signal), 0, 0, 0)
            if os.getppid() != us:
                os._exit(1)

        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self._environment()},
                preexec_fn=tie,
                start_new_session=True,  # Ctrl-C at our terminal is for us: we stop servers in their order
                **self._identity(),
            )

    def _identity(self) -> Mapping[str, Any]:
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": ()}

    async def _wait_ready(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():
                    if (status := self._process.poll()) is not None:
                        raise ServerFailed(f"{self.name} ended at its start with status {status}{self._log_end()}")
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            raise ServerFailed(f"{self.name} did not answer within {START_SECONDS:g} s{self._log_end()}") from None

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                try:
                    writer.write(self.hello)
                    return await reader.readexactly(len(self.answer)) == self.answer
                finally:
                    writer.close()
        return False

    async def _end(self, number: signal.Signals) -> bool:
        """Send the main process a signal and wait for all of the server to go; False if it had to be killed."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            _kill(children)
        if await self._gone(children):
            return True
        self._process.kill()
        _kill(children)
        await self._gone(children)
        return False

    async def _gone(self, children: Sequence[psutil.Process]) -> bool:
        """Wait for the main process, then for those that it had started: they may outlive it for a moment."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.ended()
                while any(_lives(child) for child in children):
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            return False
        return True

    def _log_end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "".join((f"; {self.log} ends:", *(f"\n  {line}" for line in lines))) if lines else ""


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()

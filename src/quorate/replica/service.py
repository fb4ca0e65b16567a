"""The service's process: started, watched and restarted as our child, or merely watched as a neighbour.

A child dies with its sidecar. What it may have started itself is killed as its process group, by the next sidecar if
need be, for whoever still listens on the port could be taken for the fresh service. A neighbour (a container beside
ours) can't be restarted from here: `restart_wanted` is shown at the admin listener, where a liveness probe of the
neighbour's container finds it, and the neighbour counts as fresh once it was seen not to listen and then to listen
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from quorate import limits
from quorate.errors import Misuse, NetworkRefused, StorageBroken

PROBE_SECONDS = 0.02
"""Pause between looks whether a starting service listens."""

Prepare = Callable[[], Awaitable[None]]
"""Puts the service's directory in order while nothing of the service runs."""


class Service(Protocol):
    """The process behind the upstream connections."""

    pid: int | None
    restarts: int
    restart_wanted: bool

    async def start_fresh(self, prepare: Prepare | None = None) -> None:
        """Return once the service runs, knows nothing of the past but what `prepare` left it, and listens.

        What `prepare` raises is passed on.
        """
        ...

    async def wait_listening(self) -> None:
        """Return once a service listens, fresh or not."""
        ...

    async def has_ended(self) -> bool:
        """Say whether the process has died, waiting a moment for a death in progress to show."""
        ...

    async def wait_ended(self) -> None:
        """Return once the process has died."""
        ...

    async def end(self) -> None:
        """Return once the process runs no more: whatever it was sent, it will not execute."""
        ...

    async def close(self) -> None:
        """Let go of the process; a child ends with us."""
        ...


async def listens(host: str, port: int) -> bool | None:
    """Say whether somebody accepts connections there; None when it can't be told (no descriptors left, no route)."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    answers = [await _accepts(str(address[0]), port) for *_, address in found]
    return True if True in answers else None if None in answers else False


async def _accepts(address: str, port: int) -> bool | None:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class ChildService:
    """A service started by `command`; `before_exec` runs in the child and ties its life to ours.

    Args: `state_dir` is the service's own directory, emptied before each start when `wipe` is set; `group_file`
    remembers the process group for the sidecar that comes after us.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        address: str,
        before_exec: Callable[[], None],
        state_dir: Path | None,
        group_file: Path,
        *,
        wipe: bool,
    ) -> None:
        self.pid: int | None = None
        self.restarts = 0
        self.restart_wanted = False
        self._started_at: float | None = None
        self._backoff = limits.BACKOFF_SECONDS_MIN
        self._command = command
        self._env = dict(env)
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._before_exec = before_exec
        self._state_dir = state_dir
        self._group_file = group_file
        self._wipe = wipe
        self._process: asyncio.subprocess.Process | None = None

    async def start_fresh(self, prepare: Prepare | None = None) -> None:
        """Start the process anew, ever later while it keeps dying or does not come to listen."""
        while True:
            await self._back_off()
            await self._start(prepare)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.SERVICE_START_SECONDS_MAX):
                    if await self._comes_up():
                        return

    async def _back_off(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._started_at is not None:
            self.restarts += 1
            if now - self._started_at > limits.BACKOFF_RESET_SECONDS:
                self._backoff = limits.BACKOFF_SECONDS_MIN
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, limits.BACKOFF_SECONDS_MAX)
        self._started_at = asyncio.get_running_loop().time()

    async def wait_listening(self) -> None:
        """Start the process if it does not run; return once it listens."""
        if self._process is None or self._process.returncode is not None:
            await self.start_fresh()

    async def has_ended(self) -> bool:
        """Say whether the process has died, waiting a moment for a death in progress to show."""
        if self._process is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), limits.SERVICE_EXIT_GRACE_SECONDS)
        return self._process.returncode is not None

    async def wait_ended(self) -> None:
        """Return once the process has died."""
        if self._process is not None:
            await self._process.wait()

    async def end(self) -> None:
        """Kill the process group and reap the child."""
        if self._process is not None:
            # The group may outlive its leader: a service may have started helpers of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        self._process, self.pid = None, None

    async def close(self) -> None:
        """End the process."""
        await self.end()

    async def _start(self, prepare: Prepare | None) -> None:
        await self.end()
        _kill_group_of(self._group_file)
        await self._wait_port_free()
        await asyncio.to_thread(self._clear_state_dir)
        if prepare is not None:
            await prepare()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                preexec_fn=self._before_exec,
                start_new_session=True,
            )
        except OSError as error:
            raise Misuse(f"the service can't be started: {error}", f"check the command {self._command[0]!r}") from error
        self.pid = self._process.pid
        _remember_group(self._group_file, self.pid)

    def _clear_state_dir(self) -> None:
        """See that the directory is there, and empty where the service must know nothing of the past."""
        if self._state_dir is None:
            return
        try:
            if self._wipe and self._state_dir.exists():
                shutil.rmtree(self._state_dir)
            self._state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the service's directory can't be emptied: {error}"
            raise StorageBroken(
                what, "a service that still holds old state would differ from the other copies"
            ) from error

    async def _wait_port_free(self) -> None:
        """Return once nobody listens where the service will: a process that was killed may take a moment to go."""
        try:
            async with asyncio.timeout(limits.SERVICE_PORT_SECONDS_MAX):
                while await listens(self._host, self._port) is not False:
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            what = f"somebody else listens on {self._host}:{self._port}, the address of the service"
            raise NetworkRefused(what, "end that process") from None

    async def _comes_up(self) -> bool:
        """Wait until the process listens; False if it ends before that."""
        assert self._process is not None
        while self._process.returncode is None:
            if await listens(self._host, self._port):
                return True
            await asyncio.sleep(PROBE_SECONDS)
        return False


def _remember_group(file: Path, pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        file.write_text(f"{pid} {psutil.Process(pid).create_time()}")


def _kill_group_of(file: Path) -> None:
    """Kill what is left of a process group of an earlier sidecar, unless its number belongs to somebody else by now.

    A process group outlives its leader, and its number is not given away before its last member is gone.
    """
    if not file.exists():
        return
    pid, _, created = file.read_text().partition(" ")
    if not created or (psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).create_time() != float(created)):
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int(pid), signal.SIGKILL)
    file.unlink()


class NeighbourService:
    """A service that somebody else starts, at `address`; `presumed_fresh` when there is no past it could know of."""

    def __init__(self, address: str, *, presumed_fresh: bool) -> None:
        self.pid: int | None = None
        self.restarts = 0
        self.restart_wanted = False
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._fresh = presumed_fresh
        """It was seen not to listen since we last worked with it: whoever listens now has been started since."""

    async def start_fresh(self, prepare: Prepare | None = None) -> None:
        """Return once a neighbour listens that knows nothing of the past; its restart is asked for if need be."""
        if prepare is not None:
            what = "the directory of a service that somebody else starts can't be exchanged while it does not run"
            raise Misuse(what, "let the sidecar start the service, or take another snapshot driver")
        await self.end()
        await self.wait_listening()

    async def wait_listening(self) -> None:
        """Return once a neighbour listens."""
        while not await listens(self._host, self._port):
            await asyncio.sleep(PROBE_SECONDS)
        self._fresh = False

    async def has_ended(self) -> bool:
        """Say whether the neighbour no longer listens."""
        self._fresh = self._fresh or await listens(self._host, self._port) is False
        return self._fresh

    async def wait_ended(self) -> None:
        """Return once the neighbour no longer listens."""
        while not await self.has_ended():
            await asyncio.sleep(limits.NEIGHBOUR_WATCH_SECONDS)

    async def end(self) -> None:
        """Ask for the neighbour's restart unless it has ended, and return once it has."""
        self.restart_wanted = not self._fresh
        await self.wait_ended()
        self.restarts += self.restart_wanted
        self.restart_wanted = False

    async def close(self) -> None:
        """Leave the neighbour alone."""

"""The service's process: real children, killed and restarted, and neighbours that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.replica.parts import TinyService, free_address, until

from quorate import limits
from quorate.errors import Misuse, NetworkRefused, StorageBroken
from quorate.replica.service import PROBE_SECONDS, ChildService, NeighbourService, listens

LISTEN = """
import os, socket
server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    server.accept()[0].close()
"""
WITH_HELPER = (
    """
import os, subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open(os.environ["HELPER"], "w").write(str(helper.pid))
"""
    + LISTEN
)
DIES_AT_FIRST = (
    """
import os, pathlib
starts = pathlib.Path(os.environ["STARTS"])
starts.open("a").write("x")
if len(starts.read_text()) < 3:
    raise SystemExit(1)
"""
    + LISTEN
)
DEAF = "import time; time.sleep(1000)"


def nothing() -> None:
    """Leave the child as it is."""


class Children:
    """Starts services in a directory of their own; all end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = free_address()
        self.state_dir = directory / "state"
        self.group_file = directory / "service.group"
        self.made: list[ChildService] = []

    def make(self, program: str = LISTEN, *, wipe: bool = True, **env: str) -> ChildService:
        environment = {**os.environ, "PORT": self.address.rpartition(":")[2], **env}
        command = (sys.executable, "-c", program)
        child = ChildService(command, environment, self.address, nothing, self.state_dir, self.group_file, wipe=wipe)
        self.made.append(child)
        return child

    async def listens(self) -> bool | None:
        host, _, port = self.address.partition(":")
        return await listens(host, int(port))


@pytest.fixture
async def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Children]:
    monkeypatch.setattr(limits, "BACKOFF_SECONDS_MIN", 0.01)
    children = Children(tmp_path)
    yield children
    for child in children.made:
        await child.close()


async def test_a_fresh_child_listens_when_it_is_said_to(children: Children) -> None:
    child = children.make()
    await child.start_fresh()
    assert await children.listens()
    assert child.pid is not None
    assert psutil.Process(child.pid).is_running()
    assert child.restarts == 0


async def test_a_child_ends_with_us(children: Children) -> None:
    child = children.make()
    await child.start_fresh()
    pid = child.pid
    await child.close()
    assert child.pid is None
    assert not psutil.pid_exists(pid or 0)
    assert not await children.listens()


async def test_a_killed_child_is_seen_to_have_ended(children: Children) -> None:
    child = children.make()
    await child.start_fresh()
    assert not await child.has_ended()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await child.wait_ended()
    assert await child.has_ended()


async def test_a_fresh_start_replaces_the_process(children: Children) -> None:
    child = children.make()
    await child.start_fresh()
    first = child.pid
    await child.start_fresh()
    assert child.pid != first
    assert not psutil.pid_exists(first or 0)
    assert child.restarts == 1


async def test_a_child_that_dies_at_its_start_is_started_again(children: Children) -> None:
    starts = children.directory / "starts"
    child = children.make(DIES_AT_FIRST, STARTS=str(starts))
    await child.start_fresh()
    assert starts.read_text() == "xxx"
    assert child.restarts == 2


async def test_a_crash_loop_slows_down_and_a_long_life_is_forgiven(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BACKOFF_SECONDS_MIN", 0.011)
    monkeypatch.setattr(limits, "BACKOFF_SECONDS_MAX", 0.044)
    waited: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    child = children.make()
    await child.start_fresh()
    monkeypatch.setattr(asyncio, "sleep", note)
    for _ in range(4):
        await child.start_fresh()
    monkeypatch.setattr(limits, "BACKOFF_RESET_SECONDS", 0.0)
    await child.start_fresh()
    assert [seconds for seconds in waited if seconds != PROBE_SECONDS] == [0.011, 0.022, 0.044, 0.044, 0.011]


async def test_a_child_that_never_listens_is_started_again(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVICE_START_SECONDS_MAX", 0.1)
    child = children.make(DEAF)
    starting = asyncio.create_task(child.start_fresh())
    await until(lambda: child.restarts >= 2)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting


async def test_what_a_child_started_dies_with_it(children: Children) -> None:
    helper = children.directory / "helper"
    child = children.make(WITH_HELPER, HELPER=str(helper))
    await child.start_fresh()
    pid = int(helper.read_text())
    await child.end()
    await until(lambda: not runs(pid))


async def test_what_an_earlier_sidecars_service_left_is_killed(children: Children) -> None:
    """The service outlived its sidecar, which could not end it."""
    old = children.make()
    await old.start_fresh()
    left = old.pid
    new = children.make()
    await new.start_fresh()
    assert left is not None
    assert not runs(left)
    assert await children.listens()


async def test_a_process_that_only_has_the_remembered_number_is_left_alone(children: Children) -> None:
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", DEAF, start_new_session=True)
    children.group_file.write_text(f"{stranger.pid} 1.0")
    await children.make().start_fresh()
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_an_address_that_somebody_else_holds_is_refused(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVICE_PORT_SECONDS_MAX", 0.1)
    stranger = TinyService(children.address)
    await stranger.start()
    with pytest.raises(NetworkRefused, match="somebody else listens"):
        await children.make().start_fresh()
    await stranger.stop()


async def test_a_command_that_does_not_exist_is_misuse(children: Children) -> None:
    child = ChildService(("/no/such/program",), {}, children.address, nothing, None, children.group_file, wipe=True)
    with pytest.raises(Misuse, match="can't be started"):
        await child.start_fresh()


@pytest.mark.parametrize("wipe", [True, False])
async def test_the_state_directory_is_emptied_where_the_log_rebuilds_it(children: Children, wipe: bool) -> None:
    children.state_dir.mkdir()
    (children.state_dir / "old").write_text("state")
    await children.make(wipe=wipe).start_fresh()
    assert (children.state_dir / "old").exists() is not wipe


async def test_the_directory_is_prepared_before_every_attempt_while_nothing_runs(children: Children) -> None:
    """An attempt that died may have written to it."""
    starts = children.directory / "starts"
    child = children.make(DIES_AT_FIRST, STARTS=str(starts))
    prepared: list[tuple[list[str], int | None]] = []

    async def prepare() -> None:
        prepared.append(([path.name for path in children.state_dir.iterdir()], child.pid))
        (children.state_dir / "restored").write_text("state")

    await child.start_fresh(prepare)
    assert prepared == [([], None)] * 3
    assert (children.state_dir / "restored").exists()


async def test_a_neighbours_directory_can_not_be_prepared(service: TinyService) -> None:
    async def prepare() -> None:
        raise AssertionError

    with pytest.raises(Misuse, match="somebody else starts"):
        await NeighbourService(service.address, presumed_fresh=True).start_fresh(prepare)


async def test_a_running_child_is_not_started_again_to_be_waited_for(children: Children) -> None:
    child = children.make()
    await child.wait_listening()
    pid = child.pid
    await child.wait_listening()
    assert child.pid == pid


def runs(pid: int) -> bool:
    try:
        status: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return status != str(psutil.STATUS_ZOMBIE)


# --- whether somebody listens ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_only_a_refused_connection_proves_that_nobody_listens(service: TinyService) -> None:
    host, _, port = service.address.partition(":")
    assert await listens(host, int(port)) is True
    with no_descriptors_left():
        assert await listens(host, int(port)) is None
    await service.stop()
    assert await listens(host, int(port)) is False


async def test_a_port_of_which_nothing_can_be_told_is_not_taken_for_free(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVICE_PORT_SECONDS_MAX", 0.1)
    child = children.make()
    with no_descriptors_left(), pytest.raises(NetworkRefused):
        await child.start_fresh()


# --- neighbours ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NEIGHBOUR_WATCH_SECONDS", 0.01)


@contextlib.asynccontextmanager
async def waiting(for_: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """Await something in the background, which must be done when the block ends."""

    async def wait() -> None:
        await for_()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    yield task
    async with asyncio.timeout(10):
        await task


async def test_a_neighbour_without_a_past_is_fresh_once_it_listens() -> None:
    tiny = TinyService()
    neighbour = NeighbourService(tiny.address, presumed_fresh=True)
    async with waiting(neighbour.start_fresh):
        await tiny.start()
    assert neighbour.restarts == 0
    assert not await neighbour.has_ended()
    await tiny.stop()
    assert await neighbour.has_ended()


async def test_a_neighbour_with_a_past_has_to_restart_first(service: TinyService) -> None:
    neighbour = NeighbourService(service.address, presumed_fresh=False)
    async with waiting(neighbour.start_fresh) as starting:
        await until(lambda: neighbour.restart_wanted)
        assert not starting.done()
        await service.stop()
        await until(lambda: not neighbour.restart_wanted)
        assert not starting.done()
        await service.start()
    assert neighbour.restarts == 1


async def test_a_neighbour_that_ended_by_itself_need_not_be_asked(service: TinyService) -> None:
    neighbour = NeighbourService(service.address, presumed_fresh=True)
    await neighbour.start_fresh()
    async with waiting(neighbour.wait_ended):
        await service.stop()
    async with waiting(neighbour.start_fresh):
        await service.start()
    assert (neighbour.restarts, neighbour.restart_wanted) == (0, False)


async def test_a_neighbour_of_which_nothing_can_be_told_has_not_ended(service: TinyService) -> None:
    neighbour = NeighbourService(service.address, presumed_fresh=True)
    await neighbour.start_fresh()
    with no_descriptors_left():
        assert not await neighbour.has_ended()
    assert not await neighbour.has_ended()
    await service.stop()
    assert await neighbour.has_ended()


async def test_a_neighbour_is_left_alone_at_the_end(service: TinyService) -> None:
    neighbour = NeighbourService(service.address, presumed_fresh=True)
    await neighbour.start_fresh()
    await neighbour.close()
    assert not await neighbour.has_ended()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_that_refuses_everywhere_has_no_listener(host: str) -> None:
    assert await listens(host, int(free_address().rpartition(":")[2])) is False


async def test_a_service_is_not_started_on_a_directory_that_cannot_be_emptied(tmp_path: Path) -> None:
    not_a_directory = tmp_path / "state"
    not_a_directory.write_text("old")
    command = [sys.executable, "-c", LISTEN]
    service = ChildService(
        command, dict(os.environ), free_address(), nothing, not_a_directory, tmp_path / "service.group", wipe=True
    )
    with pytest.raises(StorageBroken, match="can't be emptied"):
        await service.start_fresh()
    assert service.pid is None

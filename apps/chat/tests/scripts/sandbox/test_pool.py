"""Workers that die or hang, the bound on what waits, and what the cache of compiled interpreters refuses."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from chat.scripts.sandbox import Sandbox, SandboxBusyError, SandboxError, Verdict, interpreters, limits, pool
from chat.scripts.sandbox.worker import _frame

from .conftest import CACHE, handler, task

GOOD = handler("python", "return {'messageBody': 'fine'}")
LONG = handler("lua", "while true do end")


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if any("sandbox.worker" in word for word in child.cmdline())]


def proc_status(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/status").read_text()


class UnderWay(NamedTuple):
    """A run that is not about to end, its worker, and who waits for its verdict."""

    run: psutil.Process
    worker: psutil.Process
    verdict: asyncio.Task[Verdict]


async def under_way(sandbox: Sandbox) -> UnderWay:
    """Return a run, held up: it lasts no longer than its fuel, so one that was over before we saw it is repeated."""
    async with asyncio.timeout(30):
        while True:
            [worker] = workers()
            verdict = asyncio.create_task(sandbox.run(task("lua", LONG)))
            while not verdict.done():
                for run in worker.children():
                    if is_held_up(run):
                        return UnderWay(run, worker, verdict)
                await asyncio.sleep(0)


def is_held_up(run: psutil.Process) -> bool:
    """Stop it, unless it is over."""
    try:
        run.suspend()
        return bool(run.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("whom", ["worker", "run"])
async def test_a_killed_process_is_a_crash_and_the_next_program_runs(sandbox: Sandbox, whom: str) -> None:
    run, worker, running = await under_way(sandbox)
    (run if whom == "run" else worker).send_signal(signal.SIGKILL)
    verdict = await running
    assert (verdict.error, verdict.result) == ("crash", None)
    assert (await sandbox.run(task("python", GOOD))).result == {"messageBody": "fine"}
    assert workers() != [worker]


async def test_a_run_ends_with_its_worker(sandbox: Sandbox) -> None:
    run, worker, running = await under_way(sandbox)
    worker.send_signal(signal.SIGKILL)
    await running
    async with asyncio.timeout(30):
        while run.is_running() and run.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


async def test_a_worker_that_hangs_is_ended_by_the_wall_clock(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    [worker] = workers()
    monkeypatch.setattr(pool, "RUN_SECONDS_MAX", 0.3)
    worker.send_signal(signal.SIGSTOP)
    verdict = await sandbox.run(task("python", GOOD))
    assert verdict.error == "crash"
    assert not worker.is_running()
    monkeypatch.undo()
    assert (await sandbox.run(task("python", GOOD))).error is None


async def test_who_no_longer_waits_leaves_no_answer_for_the_next(sandbox: Sandbox) -> None:
    _, _, running = await under_way(sandbox)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await sandbox.run(task("python", GOOD))).result == {"messageBody": "fine"}


async def test_a_worker_is_replaced_after_its_runs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RUNS_MAX", 2)
    [first] = workers()
    for _ in range(3):
        assert (await sandbox.run(task("python", GOOD))).error is None
    assert workers() != [first]


async def test_at_most_so_many_run_and_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WAITING_MAX", 3)
    async with Sandbox(CACHE, workers=2) as sandbox:
        runs = [asyncio.create_task(sandbox.run(task("python", GOOD))) for _ in range(10)]
        answers = await asyncio.gather(*runs, return_exceptions=True)
        assert len(workers()) == 2
    refused = [answer for answer in answers if isinstance(answer, SandboxBusyError)]
    assert len(refused) == 5
    assert workers() == []


async def test_a_worker_has_nothing_of_its_parents(sandbox: Sandbox) -> None:
    [worker] = workers()
    assert worker.environ() == {}
    assert 0 not in worker.uids()
    assert worker.num_fds() <= 3
    status = proc_status(worker)
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert os.stat(f"/proc/{worker.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino or os.geteuid() != 0


def test_what_lies_in_the_cache_is_verified(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    for compiled in CACHE.iterdir():
        content = bytearray(compiled.read_bytes())
        content[-1] ^= 1
        (cache / compiled.name).write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        interpreters.load(cache)


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError):
        interpreters.prepare(tmp_path)


async def test_without_its_interpreters_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "_ROOM", tmp_path)
    with pytest.raises(SandboxError, match="run apps/chat/interpreters/build"):
        await Sandbox(tmp_path / "cache").__aenter__()


def test_a_full_answer_fits_its_frame() -> None:
    worst = {"result": "\x01" * 11 * limits.BODY_BYTES_MAX, "output": "\x01" * limits.OUTPUT_BYTES_MAX}
    assert len(_frame(worst)) < limits.FRAME_BYTES_MAX
    assert len(_frame({"source": "\x01" * limits.SOURCE_BYTES_MAX, "input": "\x01" * 4096})) < limits.FRAME_BYTES_MAX

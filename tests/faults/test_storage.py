"""Disks that fail, fill up, slow down or rot under a running replica: it ends rather than vouch for what it lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.harness import eventually
from tests.faults.damage import flip, places
from tests.faults.judge import PROGRESS_SECONDS_MAX, judge, judge_disks
from tests.faults.lab import Lab
from tests.faults.load import Load
from tests.faults.network import run
from tests.faults.strace import COMMIT, FAILS, FULL, KILLS, sabotage, slowed

from quorate.errors import IdentityRefused, StorageBroken
from quorate.storage.environment import DATA_NAME
from quorate.storage.identity import STORE_NAME

CLIENTS = 6
THINK_SECONDS = 0.02
VICTIM = 1
REFUSED = (IdentityRefused.exit_code, StorageBroken.exit_code)
DISK_BYTES = 16 * 1024 * 1024
LITTLE_ROOM_BYTES = 3 * 1024 * 1024
"""Of that: too little to take new commands, enough for what was promised already."""


def load_of(lab: Lab) -> Load:
    return Load(lab.urls(), CLIENTS, 1, THINK_SECONDS)


def data_file(lab: Lab) -> Path:
    return lab.data(VICTIM) / STORE_NAME / DATA_NAME


@pytest.mark.parametrize(
    ("calls", "what"), [("fdatasync", FAILS), ("pwrite64,pwritev", FAILS), ("pwrite64,pwritev", FULL)]
)
def test_a_commit_that_fails_ends_the_process_and_loses_nothing(lab: Lab, calls: str, what: str) -> None:
    """LMDB itself would go on after a failed fsync, and vouch for what is not there (FAULTS.md §0.3)."""
    lab.kill(VICTIM)
    lab.start(VICTIM, under=sabotage(calls, what, "20"))
    with load_of(lab) as load:
        assert lab.exit_code(VICTIM) == StorageBroken.exit_code
        load.wait_progress(PROGRESS_SECONDS_MAX)
        lab.start(VICTIM)
        load.wait_progress(PROGRESS_SECONDS_MAX)
    judge(lab, load)
    judge_disks(lab)


@pytest.mark.parametrize("call", [1, 2, 7, 40, 61])
def test_a_replica_killed_at_a_persistence_call_comes_back(lab: Lab, call: int) -> None:
    lab.kill(VICTIM)
    lab.start(VICTIM, under=sabotage(COMMIT, KILLS, str(call)))
    with load_of(lab) as load:
        assert lab.exit_code(VICTIM) == -signal.SIGKILL
        lab.start(VICTIM)
        load.wait_progress(PROGRESS_SECONDS_MAX)
    judge(lab, load)
    judge_disks(lab)


def test_a_slow_disk_slows_nobody_else(lab: Lab) -> None:
    """Whatever role it has: a leader's own vote is not needed for a quorum."""
    slow = lab.leader()
    lab.kill(slow)
    lab.start(slow, under=slowed("fdatasync", 0.5))
    with load_of(lab) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=300)
    judge(lab, load)


def test_a_log_cut_short_under_a_running_replica_ends_it_and_is_refused(lab: Lab) -> None:
    """A page past the end of a mapped file is a SIGBUS (FAULTS.md §0.2)."""
    with load_of(lab) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=100)
        os.truncate(data_file(lab), 4 * 4096)
        code = lab.exit_code(VICTIM)
        assert code in (StorageBroken.exit_code, -signal.SIGBUS), code
        assert refuses(lab, VICTIM)
        load.wait_progress(PROGRESS_SECONDS_MAX)
    judge(lab, load)
    judge_disks(lab)


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_log_is_refused(lab: Lab, kept: float) -> None:
    with load_of(lab) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=100)
        lab.kill(VICTIM)
        os.truncate(data_file(lab), int(data_file(lab).stat().st_size * kept))
        assert refuses(lab, VICTIM)
        load.wait_progress(PROGRESS_SECONDS_MAX)
    judge(lab, load)


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_is_refused_or_makes_no_difference(lab: Lab, seed: int) -> None:
    """One in LMDB's own pages may come to light only when the page is written anew, or at the next start."""
    draw = random.Random(seed)
    with load_of(lab) as load:
        load.wait_progress(PROGRESS_SECONDS_MAX, writes=100)
    lab.kill(VICTIM)
    by_class = places(lab.data(VICTIM))
    flip(lab.data(VICTIM), draw.choice(by_class[draw.choice(sorted(by_class))]), draw)
    refuses(lab, VICTIM)
    judge(lab, load)
    judge_disks(lab, VICTIM)


def refuses(lab: Lab, number: int) -> bool:
    """Start a replica, and say whether it refuses what it finds; if not, it answers."""
    lab.start(number)
    eventually(lambda: number not in lab.running() or lab.status(number), 10, "the replica starts or refuses to")
    if number in lab.running():
        return False
    assert lab.exit_code(number) in REFUSED
    return True


def test_a_full_disk_ends_a_replica_and_loses_nothing(lab: Lab) -> None:
    """Filled at one stroke by something else, so that there was no time to refuse writes."""
    lab.kill(VICTIM)
    with small_disk(lab.data(VICTIM)) as filler, load_of(lab) as load:
        lab.start(VICTIM)
        lab.ready(VICTIM)
        fill(filler, 0)
        assert lab.exit_code(VICTIM) == StorageBroken.exit_code
        load.wait_progress(PROGRESS_SECONDS_MAX)
        filler.unlink()
        lab.start(VICTIM)
        load.wait_progress(PROGRESS_SECONDS_MAX)
        judge(lab, load)
        judge_disks(lab)


def test_disks_that_fill_up_stop_writes_early_and_only_until_there_is_room(lab: Lab) -> None:
    lab.kill(*lab.numbers)
    with ExitStack() as disks, load_of(lab) as load:
        fillers = [disks.enter_context(small_disk(lab.data(number))) for number in lab.numbers]
        lab.start()
        load.wait_progress(PROGRESS_SECONDS_MAX)
        for filler in fillers:
            fill(filler, LITTLE_ROOM_BYTES)
        eventually(lambda: load.tally["507 disk_full"], 10, "writes are refused")
        assert lab.running() == [*lab.numbers]
        for filler in fillers:
            filler.unlink()
        load.wait_progress(PROGRESS_SECONDS_MAX)
        assert lab.running() == [*lab.numbers]
        judge(lab, load)
        judge_disks(lab)


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Have `directory`, contents included, on a disk of a few megabytes; yields the name of a file to fill it with."""
    aside = directory.with_name("aside")
    directory.rename(aside)
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory))
    try:
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        yield directory / "filler"
    finally:
        run("umount", "--lazy", str(directory))


def fill(filler: Path, left_bytes: int) -> None:
    """Leave so much room, at most, on the disk that holds `filler`; its replica takes what it can meanwhile."""
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(filler.parent).free - left_bytes))

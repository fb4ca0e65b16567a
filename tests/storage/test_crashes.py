"""Processes that die at any moment: nothing that was acknowledged is lost, in either durable mode."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.spoiling import BALLOT, IDENTITY, value

from quorate.consensus.core import Persist
from quorate.errors import IdentityRefused
from quorate.storage.identity import MARKER_NAME, Mode
from quorate.storage.lmdb import LmdbStore
from quorate.types import Slot

OPEN = """
import sys
from pathlib import Path
from quorate.consensus.core import Persist
from quorate.storage import Identity
from quorate.storage.identity import Mode
from quorate.storage.lmdb import LmdbStore
from quorate.types import Ballot, Base, Batch, Vote

store = LmdbStore(Path(sys.argv[1]), Identity("bank", 1, 1), Mode(sys.argv[2]))
recovered = store.recover()
"""
COMMIT = """
    first = slot + 1
    slot += 1 + first % 7
    chosen = max(recovered.chosen, slot - 12)
    base = Base(max(recovered.base.slot, chosen - 80), 0, Ballot(1, 1))
    votes = [(n, Vote(Ballot(1, 1), Batch(1, b"%d;" % n * (n % 50)))) for n in range(first, slot + 1)]
    store.commit([Persist(slot, Ballot(1, 1), [vote], chosen, base=base) for vote in votes])
    print(slot, flush=True)
"""
WRITE = OPEN + "slot = max(recovered.votes, default=recovered.chosen)\nwhile True:" + COMMIT

durable = pytest.mark.parametrize("mode", [Mode.SYNC, Mode.ASYNC])


def running(program: str, directory: Path, mode: Mode) -> list[str]:
    return [sys.executable, "-c", program, str(directory), mode]


def check_acknowledged(directory: Path, mode: Mode, acknowledged: Slot) -> None:
    store = LmdbStore(directory, IDENTITY, mode)
    recovered = store.recover()
    assert max(recovered.votes, default=0) >= acknowledged
    assert store.damaged == ()
    first = recovered.base.slot + 1
    votes = store.read(first, acknowledged, 1 << 30)
    assert [vote.batch.payload for vote in votes] == [b"%d;" % n * (n % 50) for n in range(first, acknowledged + 1)]
    store.close()


@durable
def test_kill_9_loses_no_acknowledged_commit(tmp_path: Path, mode: Mode) -> None:
    rng = random.Random(9)
    acknowledged = 0
    for _ in range(15):
        with subprocess.Popen(running(WRITE, tmp_path, mode), stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            for _ in range(rng.randrange(1, 60)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            for line in writer.stdout.read().splitlines(keepends=True):
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        check_acknowledged(tmp_path, mode, acknowledged)
    assert acknowledged > 500


@durable
def test_kill_at_each_write_and_sync_loses_no_acknowledged_commit(tmp_path: Path, mode: Mode) -> None:
    """Deterministic crash points: strace kills the writer at its nth write or sync, from the first start on."""
    for nth in range(1, 41, 3):
        directory = tmp_path / str(nth)
        calls = "pwrite64,pwritev,writev,fdatasync,fsync,rename"
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        command = [*strace, "-e", f"inject={calls}:signal=SIGKILL:when={nth}", *running(WRITE, directory, mode)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
        check_acknowledged(directory, mode, int((done.stdout.splitlines() or ["0"])[-1]))


class TestAsync:
    def test_commits_wait_for_no_disk_and_a_clean_close_does(self, tmp_path: Path) -> None:
        log = tmp_path / "strace"
        write = WRITE.replace("while True:", "for _ in range(300):") + "store.close()"
        strace = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=fsync,fdatasync,pwrite64"]
        command = [*strace, *running(write, tmp_path / "data", Mode.ASYNC)]
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=True)
        calls = re.findall("fsync|fdatasync|pwrite64", log.read_text())
        assert calls.count("pwrite64") > 300
        assert calls.count("fdatasync") < 60
        assert "fdatasync" in calls[-10:]
        assert b'"boot": ""' in (tmp_path / "data" / MARKER_NAME).read_bytes()

    def test_they_reach_the_disk_in_time_and_a_disk_that_refuses_fences(self, tmp_path: Path) -> None:
        LmdbStore(tmp_path, IDENTITY, Mode.ASYNC).close()
        watch = OPEN + (
            "import time\n"
            "store.commit([Persist(1, Ballot(1, 1), [], 0)])\n"
            "print('committed', flush=True)\n"
            "while True: store.room(); time.sleep(0.05)"
        )
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
        command = [*strace, "-e", "inject=fdatasync:error=EIO:when=1+", *running(watch, tmp_path, Mode.ASYNC)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout == "committed\n"
        assert "StorageBroken: log: " in done.stderr
        assert b'"boot": ""' not in (tmp_path / MARKER_NAME).read_bytes()

    def test_a_machine_that_went_down_takes_the_log_with_it(self, tmp_path: Path) -> None:
        with subprocess.Popen(running(WRITE, tmp_path, Mode.ASYNC), stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            writer.kill()
        marker = tmp_path / MARKER_NAME
        marker.write_bytes(re.sub(rb'"boot": "[^"]+"', b'"boot": "before"', marker.read_bytes()))
        with pytest.raises(IdentityRefused, match="the machine went down before all votes were on disk"):
            LmdbStore(tmp_path, IDENTITY, Mode.ASYNC)

    def test_a_clean_close_survives_it(self, tmp_path: Path) -> None:
        store = LmdbStore(tmp_path, IDENTITY, Mode.ASYNC)
        store.commit([Persist(1, BALLOT, [(1, value(1))], 1)])
        store.close()
        assert b'"boot": ""' in (tmp_path / MARKER_NAME).read_bytes()

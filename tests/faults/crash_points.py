"""Kills a process that commits at its nth persistence system call, for every n, and looks at what the disk holds then.

What was acknowledged must be there; beyond it there may be the one commit that was under way, whole or not at all.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.faults.known_log import IDENTITY, Known, known_after
from tests.faults.lab import ROOT
from tests.faults.strace import KILLS, PERSISTENCE, sabotage

from quorate.storage.lmdb import LmdbStore

SECONDS_MAX = 60.0


def die_at(call: int, directory: Path, seed: int, commits: int) -> int | None:
    """Carry out the script until the process dies at that call; returns the commits it acknowledged.

    None if it came to the end of the script alive.
    """
    ours, its = socket.socketpair()
    with ours, its:
        under = sabotage(PERSISTENCE, KILLS, str(call), threads=False)
        arguments = [str(directory), str(seed), str(commits), str(its.fileno())]
        done = subprocess.run(
            [*under, sys.executable, "-B", "-m", "tests.faults.known_log", *arguments],
            cwd=ROOT,
            pass_fds=[its.fileno()],
            timeout=SECONDS_MAX,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), f"ended with {done.returncode}"
        its.close()
        acknowledged = sum(map(len, iter(lambda: ours.recv(4096), b"")))
    return acknowledged if done.returncode else None


def examine(directory: Path, seed: int, acknowledged: int) -> None:
    """Open what a dead process left: it holds what was acknowledged, or one commit more."""
    allowed = known_after(seed, acknowledged), known_after(seed, acknowledged + 1)
    store = LmdbStore(directory, IDENTITY)
    try:
        assert Known.told_by(store, {}) in allowed, f"not what {acknowledged} commits left"
    finally:
        store.close()

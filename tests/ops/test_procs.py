"""A child whose parent ends gets the signal it asked for, however the parent ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

CHILD = """
import os, signal, sys
from quorate.ops.procs import die_with_parent
die_with_parent(signal.SIGTERM, int(sys.argv[1]))
print("ready", os.getpid(), flush=True)
signal.pause()
"""
PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
signal.pause()
"""


def test_a_child_ends_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        ready, pid = parent.stdout.readline().split()
        child = psutil.Process(int(pid))
        assert ready == "ready"
        assert child.ppid() == parent.pid
        parent.kill()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_comes_too_late_gets_it_at_once() -> None:
    orphan = subprocess.run([sys.executable, "-c", CHILD, "1"], stdout=subprocess.PIPE, text=True, timeout=10)
    assert (orphan.returncode, orphan.stdout) == (-signal.SIGTERM, "")

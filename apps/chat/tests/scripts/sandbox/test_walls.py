"""The second wall: what native code inside a confined process can't do. Each attempt has a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLED = -signal.SIGSYS
CONFINED = """
import ctypes, os, socket, sys, resource, signal
from chat.scripts.sandbox import walls
libc = ctypes.CDLL(None, use_errno=True)
"""


def attempt(code: str, *, before: str = "cell = walls.confine()") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-s", "-B", "-c", f"{CONFINED}\n{before}\n{code}"],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ATTEMPTS = {
    "read a file": "libc.open(b'/etc/passwd', 0)",
    "write a file": "libc.open(b'/var/tmp/written', 0o101, 0o600)",
    "read a file, openat": "libc.openat(-100, b'/etc/passwd', 0)",
    "list a directory": "os.listdir('/')",
    "stat": "os.stat('/etc/passwd')",
    "remove": "os.unlink('/var/tmp/nothing')",
    "tcp": "socket.socket()",
    "udp": "socket.socket(type=socket.SOCK_DGRAM)",
    "unix": "socket.socket(socket.AF_UNIX)",
    "exec": "libc.execve(b'/bin/true', None, None)",
    "signal": "os.kill(os.getppid(), signal.SIGTERM)",
    "ptrace": "libc.ptrace(16, os.getppid(), None, None)",
    "become root": "os.setuid(0)",
    "unshare": "libc.unshare(0x10000000)",
    "executable memory": "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "mount": "libc.mount(None, b'/', None, 0, None)",
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_confined_process_dies_of(name: str) -> None:
    done = attempt(f"print('confined', flush=True)\n{ATTEMPTS[name]}\nprint('done')")
    assert (done.returncode, done.stdout) == (KILLED, "confined\n"), done.stderr


@pytest.mark.parametrize("code", ["os.fork()", "os.pipe()", "libc.read(0, b' ', 1)", "libc.prctl(1, 0, 0, 0, 0)"])
def test_the_process_of_a_run_dies_of(code: str) -> None:
    done = attempt(f"cell.enter()\nprint('confined', flush=True)\n{code}\nprint('done')")
    assert (done.returncode, done.stdout) == (KILLED, "confined\n"), done.stderr


def test_files_stay_closed_even_without_seccomp() -> None:
    """Landlock alone, for a kernel whose seccomp has a hole."""
    before = "walls._WALLS.pop('seccomp'); walls.confine()"
    done = attempt("try: open('/etc/passwd')\nexcept PermissionError: print('denied')", before=before)
    assert done.stdout == "denied\n", done.stderr


def test_nobody_is_root_in_there() -> None:
    before = "walls._WALLS.pop('seccomp'); walls.confine()"
    done = attempt("print(*os.getresuid(), *os.getresgid(), *os.getgroups())", before=before)
    assert done.stdout, done.stderr
    assert "0" not in done.stdout.split()


def test_too_much_memory_is_not_to_be_had() -> None:
    done = attempt("try: bytearray(3 << 30)\nexcept MemoryError: print('denied')")
    assert done.stdout == "denied\n", done.stderr


BROKEN = "def fail(): raise OSError('not on this machine')\nwalls._WALLS['Landlock'] = fail\n"


def test_without_a_wall_it_refuses() -> None:
    done = attempt("print('done')", before=BROKEN + "walls.confine()")
    assert done.returncode == 1
    assert "WallError: no Landlock here: not on this machine" in done.stderr


def test_without_a_wall_it_goes_on_only_if_told_to_be_insecure() -> None:
    done = attempt("print('done', flush=True)\nsocket.socket()", before=BROKEN + "walls.confine(insecure=True)")
    assert (done.returncode, done.stdout) == (KILLED, "done\n"), done.stderr


def test_an_ordinary_user_can_put_up_the_walls_too() -> None:
    before = "import os\nif os.getuid() == 0: os.setresuid(1234, 1234, 1234)\ncell = walls.confine()\ncell.enter()"
    done = attempt("print('confined', flush=True)\nsocket.socket()", before=before)
    assert (done.returncode, done.stdout) == (KILLED, "confined\n"), done.stderr

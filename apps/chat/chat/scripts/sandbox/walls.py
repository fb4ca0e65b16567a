"""The walls around a worker: what they keep is kept even from a program that broke out of WebAssembly.

`confine` shuts a process in: no rights but an ordinary user's, bounded resources, no network, no file (Landlock), and
only the system calls that running a program takes (seccomp: any other ends the process). `Cell` is the second, smaller
room for the process of one run: it can no longer fork, read or open, but only compute, write its answer and end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Callable

import pyseccomp as seccomp  # it ships no types

from chat.scripts.sandbox.limits import ADDRESS_SPACE_BYTES_MAX, CPU_SECONDS_MAX

NOBODY = 65534
_PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG, _SIGKILL = 38, 1, 9
_CLONE_NEWNET = 0x40000000
_PROT_EXEC = 4
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION = 1
# How many kinds of access to files each version of Landlock knows of; a version that is newer knows all of these.
_FILE_ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_VERSION, _TCP = 4, 0b11
_SCOPE_VERSION, _SCOPES = 6, 0b11

_COMPUTE = (
    "brk", "clock_gettime", "exit", "exit_group", "futex", "getpid", "getrandom", "gettid", "madvise", "mremap",
    "munmap", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "sigaltstack", "write",
)  # fmt: skip
_FORK = (
    "clone", "clone3", "close", "fork", "pipe2", "pipe", "prlimit64", "setrlimit", "prctl", "read", "rseq", "seccomp",
    "set_robust_list", "set_tid_address", "tgkill", "wait4",
)  # fmt: skip
_NOT_EXECUTABLE = ("mmap", "mprotect")

_libc = ctypes.CDLL(None, use_errno=True)


class WallError(RuntimeError):
    """A wall can't be put up here."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class Cell:
    """The room of one run's process. Made before the fork, which then only has to enter."""

    def __init__(self) -> None:
        self._filter = _filter(_COMPUTE)

    def enter(self) -> None:
        """Give up for good what the process that forked still may."""
        # Its CPU time starts at zero with the fork. Whoever forked it is waited for, and ends it when it ends.
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")
        self._filter.load()


def confine(*, insecure: bool = False) -> Cell:
    """Put up all walls around this process, which has one thread, and return the room for its runs.

    Raises WallError if one can't be put up; `insecure` goes on without it.
    """
    for name, wall in _WALLS.items():
        try:
            wall()
        except (OSError, ValueError) as error:
            if not insecure:
                raise WallError(f"no {name} here: {error}") from error
    return Cell()


def _limits() -> None:
    for limit, value in {
        resource.RLIMIT_AS: ADDRESS_SPACE_BYTES_MAX,
        resource.RLIMIT_NOFILE: 8,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        # Of all of the user's processes together: a fork bomb ends at the cell's filter, this is the second line.
        resource.RLIMIT_NPROC: 512,
    }.items():
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))


def _own_network() -> None:
    """Leave the network where that is permitted (to root); elsewhere the other walls alone deny every socket."""
    if _libc.unshare(_CLONE_NEWNET) != 0 and ctypes.get_errno() != errno.EPERM:
        raise OSError(ctypes.get_errno(), "unshare")


def _ordinary_user() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _no_new_privileges() -> None:
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _landlock() -> None:
    """Deny every access to files, TCP ports, abstract sockets and other processes, as far as this kernel knows them."""
    version = _checked(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION), "landlock")
    rules = _Ruleset(
        files=(1 << _FILE_ACCESSES.get(version, 16)) - 1,
        tcp=_TCP if version >= _TCP_VERSION else 0,
        scopes=_SCOPES if version >= _SCOPE_VERSION else 0,
    )
    ruleset = _checked(
        _libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.sizeof(rules), 0), "landlock"
    )
    _checked(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _system_calls() -> None:
    _filter(_COMPUTE + _FORK).load()


def _filter(allowed: tuple[str, ...]) -> seccomp.SyscallFilter:
    """Return a filter that ends the process at any system call but those `allowed`, and memory without code."""
    made = seccomp.SyscallFilter(defaction=seccomp.KILL_PROCESS)
    for name in allowed:
        made.add_rule(seccomp.ALLOW, name)
    for name in _NOT_EXECUTABLE:
        made.add_rule(seccomp.ALLOW, name, seccomp.Arg(2, seccomp.MASKED_EQ, _PROT_EXEC, 0))
    return made


def _checked(result: int, name: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


# In this order: each takes away what those before it need.
_WALLS: dict[str, Callable[[], None]] = {
    "resource limits": _limits,
    "network of its own": _own_network,
    "unprivileged user": _ordinary_user,
    "no_new_privs": _no_new_privileges,
    "Landlock": _landlock,
    "seccomp": _system_calls,
}

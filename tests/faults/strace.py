"""strace(1) as a saboteur: it makes the nth system call of a kind fail, wait, or be the process's last.

The tracer detaches itself (`-D`), so that the traced process keeps its parent, its process id and its signals. Calls
are counted for each thread on its own; a replica persists from one thread. strace's filter in the kernel
(`--seccomp-bpf`) would be quicker, but with it a thread that is killed leaves its process hanging.
"""

from __future__ import annotations

PERSISTENCE = "write,pwrite64,pwritev,fdatasync,fsync,ftruncate,mkdir,rename,unlink"
"""The calls by which a store changes what a power cut leaves."""
COMMIT = "pwrite64,pwritev,fdatasync,fsync"
"""Those of them that a running replica makes on nothing but its store."""

FAILS = "error=EIO"
FULL = "error=ENOSPC"
KILLS = "signal=SIGKILL"


def sabotage(calls: str, what: str, when: str, *, threads: bool = True) -> list[str]:
    """Return the command line that runs another, and does `what` to those of its `calls` that `when` names.

    `when` is strace's: "3" for the third, "3+" for the third and all after it. Without `threads` nothing but the main
    thread is traced.
    """
    whom = ["-f"] if threads else []
    tracing = ["-e", f"trace={calls}", "-e", f"inject={calls}:{what}:when={when}"]
    return ["strace", "-D", *whom, "-qq", "-o", "/dev/null", *tracing]


def slowed(calls: str, seconds: float) -> list[str]:
    """Return the command line that runs another and delays each of its `calls`."""
    return sabotage(calls, f"delay_enter={round(seconds * 1_000_000)}", "1+")

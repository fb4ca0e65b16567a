"""Children that cannot outlive their parent.

The kernel's parent-death signal (prctl(2), PR_SET_PDEATHSIG) is used rather than a heartbeat: it also works when the
parent got SIGKILL. It is bound to the parent's thread, so children are started from main threads only, and it is lost
when a set-user-id program is executed.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send `number` to this process when `parent`, which must be its parent, ends.

    Where the parent is gone already, the signal is sent at once. Safe between fork and exec. Raises OSError.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)

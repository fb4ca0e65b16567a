"""Runs programs that strangers wrote, and trusts none of them.

A program is interpreted inside WebAssembly (`interpreters`, `wasi`, `guest`), and that inside a process without rights
(`walls`, `worker`), which is forked for one run and then ends. `pool` is what the service uses; `tasks` are its nouns.

- The same task gives the same verdict everywhere, fuel included: time and randomness are the task's own.
- Fuel ends a program, never a clock; the wall clock only ends a worker that hangs, and that is a `crash`.
- A crash tells of this machine, not of the program: it must never be ordered as a result.

Refuses to start without all its walls, unless it is told to be insecure.
"""

from chat.scripts.sandbox.pool import Sandbox, SandboxBusyError, SandboxError
from chat.scripts.sandbox.tasks import Direction, ErrorKind, Language, SourceError, Task, Verdict

__all__ = [
    "Direction",
    "ErrorKind",
    "Language",
    "Sandbox",
    "SandboxBusyError",
    "SandboxError",
    "SourceError",
    "Task",
    "Verdict",
]

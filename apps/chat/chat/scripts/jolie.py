"""Jolie programs: run by the machine's own `jolie` command, where there is one.

A program finds the message as JSON on its standard input and prints its result as JSON. What S3 gave it holds here:
15 s, 6 GiB of address space (its virtual machine reserves far more than it uses), no network. Each run is a process
group of its own, in namespaces where it sees no network and no process but its own, as nobody if this service is root,
in a directory that goes with it; how much it may write and how many threads it may start is limited.

These walls are lower than the sandbox's: a program can read what everybody on the machine can, and the time. So a rerun
may have another result, of which the router takes the first. Where namespaces aren't permitted there is no Jolie,
unless the operator says that it may run without.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from chat import limits
from chat.scripts.sandbox import Direction, SourceError, Verdict
from chat.scripts.sandbox.tasks import checked_result, text_of

NAMESPACES = ("unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
NOBODY = "65534"
LIMITS = (
    "prlimit",
    f"--as={limits.JOLIE_BYTES_MAX}",
    f"--cpu={limits.JOLIE_SECONDS_MAX}",
    f"--fsize={limits.JOLIE_OUTPUT_BYTES_MAX}",
    f"--nproc={limits.JOLIE_THREADS_MAX}",
    "--nofile=256",
    "--core=0",
)
HEAP = "-Xmx512m -XX:+UseSerialGC -XX:-UsePerfData"
"""For Java itself, which otherwise takes a quarter of the machine."""
PROGRAM = "script.ol"
DETAIL_CHARACTERS = 400
"""Of what Jolie says of an error."""
ERROR = re.compile(rf"{re.escape(PROGRAM)}:(\d+): error: (.*)")


class Ended(NamedTuple):
    """How a run of the command ended."""

    code: int | None
    """None if it took too long."""
    output: str
    errors: str


class Jolie:
    """The command at the path `command`, behind `walls`: commands that run a command."""

    def __init__(self, command: str, walls: Sequence[str]) -> None:
        self._command = command
        self._walls = walls

    async def check(self, source: str) -> SourceError | None:
        """Return why a source is no program, or None."""
        if isinstance(text := text_of(source), SourceError):
            return text
        ended = await self._ended(text, "--check")
        if ended.code == 0:
            return None
        found = ERROR.search(ended.errors)
        return SourceError("syntax", found[2], int(found[1])) if found else SourceError("syntax", "Jolie refuses it")

    async def run(self, source: str, direction: Direction, message: dict[str, Any]) -> Verdict:
        """Return what came of a run."""
        ended = await self._ended(source, given=json.dumps(message))
        if len(ended.output) >= limits.JOLIE_OUTPUT_BYTES_MAX:
            return Verdict(error="output_limit", detail=f"it wrote more than {limits.JOLIE_OUTPUT_BYTES_MAX} bytes")
        if ended.code is None:
            return Verdict(error="fuel_exhausted", detail=f"it took longer than {limits.JOLIE_SECONDS_MAX} s")
        if ended.code != 0 or not ended.output:  # a fault that nobody handles ends with 0, too
            return Verdict(error="script_error", detail=ended.errors[-DETAIL_CHARACTERS:])
        try:
            return Verdict(result=checked_result(direction, message, json.loads(ended.output)))
        except (ValueError, RecursionError) as error:
            return Verdict(error="bad_result", detail=str(error)[:DETAIL_CHARACTERS])

    async def _ended(self, source: str, *options: str, given: str = "") -> Ended:
        with tempfile.TemporaryDirectory(prefix="jolie-") as name:
            directory = Path(name)
            _lay_out(directory, source, given)
            code = await _code_of((*self._walls, self._command, *options, PROGRAM), directory)
            return Ended(code, _read(directory / "output"), _read(directory / "errors"))


def _lay_out(directory: Path, source: str, given: str) -> None:
    directory.chmod(0o755)  # nobody is to find its program there
    for name, content in ((PROGRAM, source), ("given", given)):
        (directory / name).write_text(content, encoding="utf-8")
        (directory / name).chmod(0o644)


def _read(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


async def _code_of(command: Sequence[str], directory: Path) -> int | None:
    """Run a command to its end in a directory, and return its exit code, or None if it took too long.

    Files take what it writes: their size has a limit, and nobody has to read along.
    """
    names = ("PATH", "JOLIE_HOME", "JAVA_HOME")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"HOME": str(directory), "LANG": "C.UTF-8", "JDK_JAVA_OPTIONS": HEAP}
    with (
        (directory / "given").open("rb") as given,
        (directory / "output").open("wb") as output,
        (directory / "errors").open("wb") as errors,
    ):
        process = await asyncio.create_subprocess_exec(
            *command, stdin=given, stdout=output, stderr=errors, cwd=directory, env=environment, start_new_session=True
        )
    try:
        return await asyncio.wait_for(process.wait(), limits.JOLIE_SECONDS_MAX)
    except TimeoutError:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind, too
        await process.wait()


def found(*, insecure: bool) -> Jolie | None:
    """Return this machine's Jolie, if there is one and it can be walled in."""
    command = shutil.which("jolie")
    around = command and _walls(insecure=insecure)
    return Jolie(command, around) if command and around else None


def _walls(*, insecure: bool) -> Sequence[str] | None:
    """Return the walls that this machine permits: all of them, or None; with `insecure`, the limits at least."""
    as_root = os.geteuid() == 0
    nobody = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups") if as_root else ("setpriv",)
    unprivileged = (*nobody, "--no-new-privs", *LIMITS)
    all_of_them = (*NAMESPACES, *(() if as_root else ("--map-root-user",)), *unprivileged)
    if subprocess.run([*all_of_them, "true"], capture_output=True, check=False).returncode == 0:
        return all_of_them
    return unprivileged if insecure else None

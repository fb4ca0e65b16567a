"""Entry point of the command `quorate`: one line per error, an exit code that says which kind, and no traceback.

`quorate sidecar --config FILE` is dispatched here before the rest of the command line is loaded: a sidecar runs for
months beside every replica and needs none of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from quorate.errors import Misuse, QuorateError


def main() -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    try:
        if not __debug__:
            raise Misuse("python -O leaves out the checks that keep replicas equal", "run quorate without it")
        code = _dispatch(arguments)
    except QuorateError as error:
        if debug:
            raise
        code = _tell(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; the interpreter must not try to flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["sidecar", "--config", file]:
            from quorate.ops.sidecar import main as be_sidecar

            return be_sidecar(Path(file))
        case _:
            from quorate.ops.commands import run_command

            return run_command(arguments)


def _tell(error: QuorateError) -> int:
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return error.exit_code

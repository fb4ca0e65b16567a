"""One `quorate run` in a process of its own, as the tests of this room see it from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from quorate.errors import QuorateError
from quorate.ops.client import ask
from quorate.ops.rundir import RunDirectory

SERVICE = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}")
START_SECONDS_MAX = 30.0
Rows = dict[str, dict[str, Any]]


class Running:
    """One `quorate run` in a process of its own."""

    def __init__(self, path: Path, *options: str, command: Sequence[str] = SERVICE) -> None:
        self.directory = RunDirectory(path / "d")
        self.log = path / "run.log"
        free = ["--port", "0", "--admin-port", "0", "--app-port", "0", "--data-dir", str(self.directory.path)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quorate", "run", *free, *options, "--", *command],
                stdout=log,
                stderr=log,
                cwd=path,
            )

    def rows(self) -> Rows:
        return {row["name"]: row for row in self.ask("/status")["replicas"]}

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        return ask(self.directory.living().admin_url + path, method, seconds=5)

    def wait(self, condition: Callable[[Rows], object]) -> Rows:
        """Poll until `condition` holds of the replicas; fails with the run's log."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                rows = self.rows()
            except QuorateError:
                rows = {}
            if rows and condition(rows):
                return rows
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """End it and all that it started: what is paused would not notice by itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()


def all_in(state: str) -> Callable[[Rows], bool]:
    return lambda rows: all(row["state"] == state for row in rows.values())

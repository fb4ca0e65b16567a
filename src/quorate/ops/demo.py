"""`quorate demo`: three copies of an ordinary counter lose their leader to kill -9, and nothing is lost.

It needs no answers, no network and no configuration: free ports, a temporary directory, real processes, and the same
`quorate run` that everybody uses. Everything it claims it has checked; a claim that fails makes the exit code 1, and
the replicas' logs are kept.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources, util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from quorate import limits
from quorate.errors import Broken, Misuse, NetworkRefused, QuorateError
from quorate.ops import client
from quorate.ops.rundir import RunDirectory
from quorate.ops.view import table
from quorate.ops.writers import Writers

START_SECONDS_MAX = 20.0
RECOVERY_SECONDS_MAX = 20.0
WARM_UP_SECONDS = 2.0
WRITES_AFTER_A_KILL = 100
OUTAGE_SECONDS_MAX = 2.0
"""P5: the loss of a leader costs at most this."""
_POLL_SECONDS = 0.05


class Demo:
    """The story, from start to verdict."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._home = Path(tempfile.mkdtemp(prefix="quorate-demo-"))
        self._admin = ""
        self._failures: list[str] = []

    def run(self) -> int:
        """Tell the story; returns 0 when every claim held."""
        started = time.monotonic()
        command = counter_command()
        process = self._start(command)
        try:
            self._tell_story(command)
        except QuorateError as error:
            self._check(False, str(error))
        finally:
            self._check(_end(process) == 0, "the whole cluster drained and ended with exit code 0")
        self._say("")
        if self._failures:
            self._say(f"Failed: {len(self._failures)} of the claims above. Logs are in {self._home}", "bold red")
            return 1
        shutil.rmtree(self._home)
        self._say(
            f"All of it held, in {time.monotonic() - started:.0f} s. Try it: quorate run -- YOUR SERVICE", "bold green"
        )
        return 0

    def _tell_story(self, command: list[str]) -> None:
        self._say(
            f"Starting three copies of an ordinary HTTP counter ({Path(command[-1]).name}), each behind a sidecar."
        )
        self._wait("three replicas ready", START_SECONDS_MAX, lambda rows: all(row["state"] == "ready" for row in rows))
        rows = self._rows()
        writers = Writers([row["client_url"] for row in rows])
        self._say("Three clients write through all three of them: +1, +1, +1 ... each under an Idempotency-Key.")
        writers.start()
        try:
            time.sleep(WARM_UP_SECONDS)
            self._show(f"{writers.acknowledged} writes so far; all copies execute the same ones in the same order:")
            leader = next(row["name"] for row in self._rows() if row["role"] == "leader")
            self._hurt(writers, leader, "sidecar", "the leader's sidecar")
            other = next(row["name"] for row in rows if row["name"] != leader)
            self._hurt(writers, other, "app", "another replica's service, and with it all its state")
        finally:
            writers.stop()
        self._judge(writers)

    def _hurt(self, writers: Writers, name: str, what: str, words: str) -> None:
        """Kill one process, watch the writes go on, and wait until the replica is whole again."""
        before = self._row(name)
        writers.longest_gap()
        count = writers.acknowledged
        self._say(f"kill -9: {words}, on {name} ...", "bold yellow")
        client.ask(f"{self._admin}/replicas/{name}/kill?what={what}", "POST")
        killed = time.monotonic()
        key = f"{what}_pid"

        def is_back(rows: list[dict[str, Any]]) -> bool:
            row = next(row for row in rows if row["name"] == name)
            return row["state"] == "ready" and row[key] not in (None, before[key])

        self._wait(f"{name} back in service", RECOVERY_SECONDS_MAX, is_back)
        back, applied = time.monotonic() - killed, self._row(name)["applied"]
        self._wait("writes", RECOVERY_SECONDS_MAX, lambda _: writers.acknowledged - count >= WRITES_AFTER_A_KILL)
        gap, since = writers.longest_gap(), writers.acknowledged - count
        self._check(True, f"the clients went on: {since} writes acknowledged since, with a gap of at most {gap:.2f} s")
        self._check(gap <= OUTAGE_SECONDS_MAX, f"that is no more than {OUTAGE_SECONDS_MAX:.0f} s")
        self._say(
            f"  {name} came back by itself after {back:.1f} s, its service rebuilt from {applied} requests of the log"
        )

    def _judge(self, writers: Writers) -> None:
        self._say(
            f"The clients stop. {writers.acknowledged} writes acknowledged, {writers.retried} retries on the way."
        )
        self._wait(
            "equal replicas", RECOVERY_SECONDS_MAX, lambda rows: _agree(rows, "applied") and _agree(rows, "digest")
        )
        self._show("Every copy on its own:")
        rows = self._rows()
        values = [counter_value(row["client_url"]) for row in rows]
        self._check(len(set(values)) == 1, f"the three values are equal: {', '.join(map(str, values))}")
        self._check(
            _agree(rows, "applied"), f"all have applied the same {rows[0]['applied']} requests, retries included"
        )
        self._check(
            _agree(rows, "digest"), f"equal digests over every request and answer: {str(rows[0]['digest'])[:16]}"
        )
        self._check(writers.abandoned == 0, "every write was acknowledged in the end")
        self._check(
            set(values) == {writers.acknowledged},
            f"the value is the number of acknowledged writes, {writers.acknowledged}: none was lost, none done twice",
        )

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        options = ["--replicas", "3", "--port", "0", "--admin-port", "0", "--app-port", "0", "--storage", "sync"]
        with (self._home / "run.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "quorate", "run", *options, "--data-dir", self._home, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self, what: str, seconds: float, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Return once `condition` holds of the replicas; raises NetworkRefused when it does not in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition(self._rows()):
                    return
            except QuorateError:
                if self._admin and time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise NetworkRefused(f"no {what} within {seconds:.0f} s", "read the logs")
            time.sleep(_POLL_SECONDS)

    def _rows(self) -> list[dict[str, Any]]:
        self._admin = self._admin or RunDirectory(self._home).living().admin_url
        rows: list[dict[str, Any]] = client.ask(f"{self._admin}/status", seconds=2 * limits.STATUS_SECONDS_MAX + 1)[
            "replicas"
        ]
        return rows

    def _row(self, name: str) -> dict[str, Any]:
        return next(row for row in self._rows() if row["name"] == name)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    def _show(self, text: str) -> None:
        self._say(text)
        self._console.print(table(self._rows()))

    def _check(self, held: bool, claim: str) -> None:
        self._console.print(Text.assemble(("  ✓ ", "green") if held else ("  ✗ ", "bold red"), claim), soft_wrap=True)
        if not held:
            self._failures.append(claim)


def counter_command() -> list[str]:
    """How to start the counter: in Python where uvicorn is installed, else in Node; raises Misuse without either."""
    if util.find_spec("uvicorn") is not None:
        return [sys.executable, str(_app("counter/app.py"))]
    if node := shutil.which("node"):
        return [node, str(_app("counter/app.js"))]
    raise Misuse("the demo's counter needs uvicorn - this Python has none", "install it: pip install uvicorn")


def counter_value(url: str) -> int:
    """The counter as one replica's front tells it; raises Broken when it does not."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", "/integer")
        return int(json.loads(connection.getresponse().read())["value"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise Broken(f"no counter value from {url}: {error!r}", "read the logs") from error
    finally:
        connection.close()


def _app(name: str) -> Path:
    """An example service: inside the installed package, or beside its sources."""
    packaged = Path(str(resources.files("quorate"))) / "_apps" / name
    return packaged if packaged.exists() else Path(__file__).parents[3] / "apps" / name


def _agree(rows: list[dict[str, Any]], key: str) -> bool:
    return rows[0][key] is not None and len({row[key] for row in rows}) == 1


def _end(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(limits.DRAIN_SECONDS_MAX + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()

"""A cluster of real processes, started as an operator starts it, and clients that talk to it over sockets.

Everything is learnt from the outside: the run file, the admin listener, the process table. Whatever was started is
ended with the cluster, even what lost its parent: each process carries a mark in its environment.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import psutil
from tests.apps.service import COMMANDS

COUNTERS = ("counter-python", "counter-node")

READY_SECONDS_MAX = 30.0
DRAIN_SECONDS_MAX = 20.0
ANSWER_SECONDS_MAX = 15.0
"""Longer than the deadline of a request: past it, the cluster hangs."""
LOG_LINES_SHOWN = 150
MARK = "TEST_CLUSTER_MARK"

T = TypeVar("T")


class Answer(NamedTuple):
    """An HTTP response; field names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The `code` of a problem document, or an empty string."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(json.loads(self.body)["code"])

    @property
    def value(self) -> int:
        """The counter's value."""
        return int(json.loads(self.body)["value"])


class NotSent(Exception):
    """The connection was refused: the request did not leave this machine."""


LOST = (OSError, http.client.HTTPException)
"""What a client sees when a connection breaks: the request may have been executed."""


class Client:
    """A client that keeps one connection to one address; a broken one is replaced with the next request."""

    def __init__(self, url: str, seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        address = urllib.parse.urlsplit(url)
        assert address.hostname is not None
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=seconds_max)

    def ask(self, method: str, path: str, body: object = None, **fields: str) -> Answer:
        """Send one request; underscores in names of `fields` stand for hyphens. Raises NotSent, or one of LOST."""
        self.connect()
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            self.connection.request(method, path, content, headers)
            response = self.connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, received, response.read())
        except LOST:
            self.close()
            raise

    def connect(self) -> None:
        if self.connection.sock is None:
            try:
                self.connection.connect()
            except OSError as error:
                self.close()
                raise NotSent from error

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class PersistentClient:
    """A client that wants its write done: it sends the same Idempotency-Key, on the next replica, until answered."""

    def __init__(self, urls: Sequence[str], first: int = 0) -> None:
        self.clients = [Client(url) for url in urls]
        self.at = first
        self.retries = 0
        self.replayed = 0

    def write(self, path: str, body: object, seconds_max: float = 60.0) -> Answer:
        """Return the service's answer. Raises TimeoutError without one in time."""
        key = f'"{uuid.uuid4()}"'
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            with suppress(NotSent, *LOST):
                answer = self.clients[self.at].ask("POST", path, body, Idempotency_Key=key)
                if answer.status not in (409, 503, 504):
                    self.replayed += "idempotency-replayed" in answer.headers
                    return answer
            self.retries += 1
            self.at = (self.at + 1) % len(self.clients)
            time.sleep(0.02)
        raise TimeoutError(f"no answer within {seconds_max} s")

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def __enter__(self) -> PersistentClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Replica(msgspec.Struct, frozen=True):
    """What the supervisor's admin listener says of one replica."""

    name: str
    state: str
    role: str | None = None
    applied: int | None = None
    digest: str | None = None
    client_url: str = ""
    admin_url: str = ""
    app_url: str = ""
    app_pid: int | None = None
    sidecar_pid: int | None = None
    proposed: int | None = None
    lag: int | None = None


class Status(msgspec.Struct, frozen=True):
    cluster: str
    url: str
    admin_url: str
    pid: int
    replicas: list[Replica]


class Cluster:
    """`quorate run` of three replicas on free ports, and what a test wants from it."""

    def __init__(self, command: Sequence[str], directory: Path, *options: str) -> None:
        self.mark = uuid.uuid4().hex
        self.directory = directory
        self.data_dir = directory / "data"
        self.log_file = directory / "run.log"
        ports = ("--port", "0", "--admin-port", "0", "--app-port", "0")
        run = [sys.executable, "-m", "quorate", "run", "--replicas", "3", *ports, "--data-dir", str(self.data_dir)]
        directory.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*run, *options, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, MARK: self.mark},
                start_new_session=True,
            )
        self.admin_url = ""

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> Status:
        """Wait until every replica is ready. Raises TimeoutError, or AssertionError when the supervisor ended."""

        def ready() -> Status | None:
            assert self.process.poll() is None, f"quorate run ended with {self.process.returncode}"
            status = self.status() if self.find_admin() else None
            return status if status and all(replica.state == "ready" for replica in status.replicas) else None

        return eventually(ready, seconds_max, "all replicas are ready")

    def find_admin(self) -> bool:
        """Learn the admin address from the run file, once it is there and of this run."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            run = json.loads((self.data_dir / "run.json").read_text())
            if run["pid"] == self.process.pid:
                self.admin_url = run["admin_url"]
        return bool(self.admin_url)

    def status(self) -> Status:
        with Client(self.admin_url) as admin:
            return msgspec.json.decode(admin.ask("GET", "/status").body, type=Status)

    def replica(self, name: str) -> Replica:
        return next(replica for replica in self.status().replicas if replica.name == name)

    def leader(self) -> Replica:
        """Wait for a leader and return it."""

        def leading() -> Replica | None:
            return next((replica for replica in self.status().replicas if replica.role == "leader"), None)

        return eventually(leading, 10, "there is a leader")

    def urls(self) -> list[str]:
        """The replicas' own fronts, which keep their addresses as long as the cluster runs."""
        return [replica.client_url for replica in self.status().replicas]

    def command(self, name: str, verb: str) -> None:
        """Have the supervisor pause, resume or stop a replica."""
        with Client(self.admin_url) as admin:
            answer = admin.ask("POST", f"/replicas/{name}/{verb}")
        assert answer.status < 300, answer

    def kill(self, name: str, *parts: str) -> None:
        """SIGKILL a replica's `app`, its `sidecar`, or both; return when the supervisor has noticed."""
        before = self.replica(name)
        pids = [before.app_pid if part == "app" else before.sidecar_pid for part in parts]
        assert None not in pids, before
        for pid in pids:
            kill(pid)
        eventually(
            lambda: not {self.replica(name).app_pid, self.replica(name).sidecar_pid} & {*pids}, 10, "death noticed"
        )

    def kill_everything(self) -> None:
        """SIGKILL the supervisor, every sidecar and every app at one moment."""
        marked = [process.pid for process in self.marked()]
        for pid in marked:
            kill(pid)
        self.process.wait()
        eventually(lambda: not self.marked(), 5, "no process is left")

    def settled(self, seconds_max: float = 60.0) -> Status:
        """Wait until all replicas are ready at one applied index, and assert that they agree on the digest."""

        def agreed() -> Status | None:
            status = self.status()
            still = all(replica.state == "ready" for replica in status.replicas)
            return status if still and len({replica.applied for replica in status.replicas}) == 1 else None

        status = eventually(agreed, seconds_max, "all replicas are ready at one index")
        assert len({replica.digest for replica in status.replicas}) == 1, status
        return status

    def app_values(self) -> list[int]:
        """Ask every copy of the counter itself, past its sidecar."""
        values = []
        for replica in self.status().replicas:
            with Client(replica.app_url) as app:
                values.append(app.ask("GET", "/integer").value)
        return values

    def marked(self) -> list[psutil.Process]:
        """Every living process that this cluster started, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def stop(self) -> int:
        """Have it drain, end what is left, and return the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DRAIN_SECONDS_MAX)
        finally:
            for process in self.marked():
                kill(process.pid)
            self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_LINES_SHOWN:])


class Clusters:
    """Starts clusters for one test, or one module, and stops them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Cluster] = []

    def start(self, command: str | Sequence[str], *options: str, directory: str = "cluster") -> Cluster:
        """Start three replicas of an app, given by name or command line, and wait until they are ready.

        A directory used before holds the data of the earlier cluster.
        """
        command = COMMANDS[command] if isinstance(command, str) else command
        cluster = Cluster(command, self.directory / directory, *options)
        self.started.append(cluster)
        cluster.wait_ready()
        return cluster

    def stop(self) -> None:
        """Stop them all; no process of theirs may ever have shown a traceback."""
        for cluster in self.started:
            if cluster.process.poll() is None:
                cluster.stop()
        for cluster in self.started:
            assert "Traceback" not in cluster.log(), cluster.log()


def kill(pid: int | None) -> None:
    """SIGKILL a process that may have ended already."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def eventually(look: Callable[[], T | None], seconds_max: float, what: str) -> T:
    """Poll until `look` returns something true, and return that. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds_max
    for pause in itertools.chain((0.01, 0.02), itertools.repeat(0.05)):
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds_max} s: {what}")
        time.sleep(pause)
    raise AssertionError("unreachable")


def add(amount: int) -> dict[str, object]:
    """Return the body of the counter request that adds `amount`, which may be negative."""
    return {"op": "INC" if amount >= 0 else "DEC", "value": abs(amount)}

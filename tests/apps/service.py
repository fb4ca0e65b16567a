"""Starts one of the apps as a process of its own and talks to it over a socket."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

APPS = Path(__file__).parents[2] / "apps"
COMMANDS = {
    "counter-python": (sys.executable, str(APPS / "counter" / "app.py")),
    "counter-node": ("node", str(APPS / "counter" / "app.js")),
    "log": (sys.executable, str(APPS / "log" / "app.py")),
}
START_SECONDS_MAX = 15.0


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]


class Service:
    """One running copy of an app."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; underscores in field names stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), fields)
        finally:
            connection.close()


@contextmanager
def running(name: str, **environment: str) -> Iterator[Service]:
    """Run the app called `name` on a free port until the block ends."""
    port = free_port()
    environment = {**os.environ, "PORT": str(port), **environment}
    process = subprocess.Popen(COMMANDS[name], env=environment)
    try:
        wait_listening(port, process)
        yield Service(port)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"the app does not listen on port {port}")

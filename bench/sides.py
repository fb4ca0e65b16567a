"""The four things that are measured, running side by side: a bare app, nginx before it, three bare copies, Quorate."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from bench.load import Target

from quorate.errors import Broken
from quorate.ops.client import ask

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python": [sys.executable, str(ROOT / "apps/counter/app.py")],
    "node": ["node", str(ROOT / "apps/counter/app.js")],
}
REPLICAS = 3
START_SECONDS_MAX = 30.0
DRAIN_SECONDS_MAX = 20.0

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  upstream app {{ server {app}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Side(NamedTuple):
    """One of the four: where the load goes, and whose CPU it costs."""

    name: str
    fronts: tuple[str, ...]
    spread: bool
    """Connections are divided among the fronts; otherwise each front gets all of them, and the figure is a mean."""
    processes: Mapping[str, tuple[psutil.Process, ...]]

    def targets(self, connections: int) -> list[Target]:
        """Return who gets how many connections."""
        if not self.spread:
            return [Target(url, connections) for url in self.fronts]
        shares = [len(range(number, connections, len(self.fronts))) for number in range(len(self.fronts))]
        return [Target(url, share) for url, share in zip(self.fronts, shares, strict=True) if share]

    @property
    def copies(self) -> int:
        """By how much the sum over all fronts is divided."""
        return 1 if self.spread else len(self.fronts)

    def cpu_seconds(self) -> dict[str, float]:
        """Return user and system time spent so far, by kind of process."""
        return {kind: sum(sum(p.cpu_times()[:2]) for p in processes) for kind, processes in self.processes.items()}


class Quorate:
    """Three replicas under `quorate run`."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url

    def replicas(self) -> list[dict[str, Any]]:
        """Return the status of each."""
        with urlopen(f"{self.admin_url}/status", timeout=5) as answer:
            replicas: list[dict[str, Any]] = json.load(answer)["replicas"]
            return replicas

    def is_ready(self) -> bool:
        return all(replica["state"] == "ready" for replica in self.replicas())

    def backlog(self) -> int:
        """Return by how many requests the slowest copy trails the fastest."""
        applied = [replica["applied"] for replica in self.replicas()]
        return int(max(applied) - min(applied))

    def row(self, name: str) -> dict[str, Any]:
        """Return the status of one."""
        return next(replica for replica in self.replicas() if replica["name"] == name)

    def do(self, name: str, verb: str) -> None:
        """Have a replica paused or resumed."""
        ask(f"{self.admin_url}/replicas/{name}/{verb}", "POST")

    def leader(self) -> str:
        """Return the name of the leader."""
        return next((str(replica["name"]) for replica in self.replicas() if replica["role"] == "leader"), "nobody")

    def memory_mib(self) -> float:
        """Return the resident memory of the largest sidecar."""
        pids = [replica["sidecar_pid"] for replica in self.replicas()]
        return max(float(psutil.Process(pid).memory_info().rss) for pid in pids) / 2**20

    def side(self) -> Side:
        replicas = self.replicas()
        processes = {
            "sidecars": tuple(psutil.Process(replica["sidecar_pid"]) for replica in replicas),
            "apps": tuple(psutil.Process(replica["app_pid"]) for replica in replicas),
        }
        return Side("quorate", tuple(replica["client_url"] for replica in replicas), True, processes)


@contextmanager
def all_sides(app: str, options: Iterable[str], directory: Path) -> Iterator[tuple[list[Side], Quorate]]:
    """Run everything for the length of the block; `options` go to `quorate run`, `directory` takes logs and data."""
    with ExitStack() as stack:
        bare = [stack.enter_context(bare_app(app)) for _ in range(REPLICAS)]
        urls = tuple(url for url, _ in bare)
        copies = tuple(process for _, process in bare)
        nginx_url, nginx_processes = stack.enter_context(nginx(urls[0], directory))
        quorate = stack.enter_context(cluster(app, options, directory))
        yield (
            [
                Side("direct", urls[:1], True, {"apps": copies[:1]}),
                Side("nginx", (nginx_url,), True, {"nginx": nginx_processes, "apps": copies[:1]}),
                Side("limit", urls, False, {"apps": copies}),
                quorate.side(),
            ],
            quorate,
        )


@contextmanager
def bare_app(app: str) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    with process(COMMANDS[app], PORT=str(port)) as running:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/integer"), "the bare app answers")
        yield f"http://127.0.0.1:{port}", psutil.Process(running.pid)


@contextmanager
def nginx(app_url: str, directory: Path) -> Iterator[tuple[str, tuple[psutil.Process, ...]]]:
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, port=port, app=app_url.removeprefix("http://")))
    with process(["nginx", "-p", str(directory), "-e", str(directory / "nginx.log"), "-c", str(config)]) as running:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/integer"), "nginx answers")
        yield f"http://127.0.0.1:{port}", tuple(psutil.Process(running.pid).children())


def run_options(options: argparse.Namespace) -> tuple[str, ...]:
    """Return what `quorate run` is told of how to replicate."""
    return ("--consensus", options.consensus, "--pipeline", str(options.pipeline))


@contextmanager
def cluster(app: str, options: Iterable[str], directory: Path) -> Iterator[Quorate]:
    ports = ("--port", "0", "--admin-port", "0", "--app-port", "0")
    run = [sys.executable, "-m", "quorate", "run", "--replicas", str(REPLICAS), *ports]
    data = directory / "data"
    with (
        (directory / "quorate.log").open("wb") as log,
        process([*run, "--data-dir", str(data), *options, "--", *COMMANDS[app]], log=log.fileno()) as running,
    ):
        wait_until(lambda: running.poll() is not None or (data / "run.json").exists(), "quorate run starts")
        if running.poll() is not None:
            raise Broken(f"quorate run ended: {(directory / 'quorate.log').read_text()}")
        quorate = Quorate(json.loads((data / "run.json").read_text())["admin_url"])
        wait_until(quorate.is_ready, "all replicas are ready")
        yield quorate


@contextmanager
def process(command: list[str], log: int | None = None, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends; SIGTERM first, so that it can end its children."""
    running = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(DRAIN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    with suppress(URLError, ConnectionError), urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


def wait_until(is_so: Callable[[], object], what: str, seconds_max: float = START_SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds_max
    while not is_so():
        if time.monotonic() > deadline:
            raise Broken(f"not within {seconds_max:.0f} s: {what}")
        time.sleep(0.05)

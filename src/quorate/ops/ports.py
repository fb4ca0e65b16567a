"""Ports of a run: which listener gets which, and who holds one that is taken.

From the three bases P, A and S, replica i gets its own front P+i, its admin listener A+i and its service S+i; P itself
is the front shared by all ready replicas, and A the admin listener of the whole. A base of 0 has free ports picked
instead, and so does a replica that comes later. Peer listeners are always picked: nobody but the replicas needs to know
them, and each start writes them anew.

Ports are picked below the kernel's ephemeral range: a port inside it may be taken as the near end of some outgoing
connection while its replica is down, and the replica could not come back.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from quorate.config import RunConfig
from quorate.errors import NetworkRefused

HOST = "127.0.0.1"
_PICK_FROM = 10_000
_PICKS_MAX = 1000


class ReplicaPorts(NamedTuple):
    """The listeners of one replica and its service."""

    client: int
    admin: int
    app: int
    peer: int


class PortPlan(NamedTuple):
    """The listeners of a whole run."""

    front: int
    admin: int
    replicas: dict[int, ReplicaPorts]
    """By number."""


def plan(run: RunConfig, numbers: Sequence[int]) -> PortPlan:
    """Give every listener of the replicas of these numbers its port.

    Raises NetworkRefused naming each port that is taken, and its holder.
    """
    fixed = [base + i for base in (run.port, run.admin_port) if base for i in (0, *numbers)]
    fixed += [run.app_port + i for i in numbers if run.app_port]
    _refuse_taken(fixed, run)
    free = iter(_free_ports(2 + 4 * len(numbers), avoid=set(fixed)))

    def port(base: int, i: int) -> int:
        return base + i if base else next(free)

    return PortPlan(
        port(run.port, 0),
        port(run.admin_port, 0),
        {
            i: ReplicaPorts(port(run.port, i), port(run.admin_port, i), port(run.app_port, i), next(free))
            for i in numbers
        },
    )


def pick() -> ReplicaPorts:
    """Pick free ports for one more replica. Raises NetworkRefused."""
    return ReplicaPorts(*_free_ports(4, avoid=set()))


def reserve(port: int) -> socket.socket:
    """Hold a shared port without listening on it, so that no stranger takes it while no replica is ready."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        holder.bind((HOST, port))
    except OSError as error:
        holder.close()
        raise NetworkRefused(f"port {port} is taken by {holder_of(port)} - --port", "choose another") from error
    return holder


def holder_of(port: int) -> str:
    """Name and pid of the process that listens on a TCP port, as far as we may see it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "a process of another user"


def _refuse_taken(ports: Iterable[int], run: RunConfig) -> None:
    options = {run.port: "--port", run.admin_port: "--admin-port", run.app_port: "--app-port"}
    problems = []
    for port in ports:
        if not _is_free(port):
            option = options[max(base for base in options if base and base <= port)]
            problems.append(f"port {port} is taken by {holder_of(port)} - {option} - end it, choose another, or give 0")
    if problems:
        raise NetworkRefused("\n".join(problems))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise NetworkRefused(f"port {port}: {error.strerror}", "choose another port") from error
    return True


def _free_ports(count: int, avoid: set[int]) -> list[int]:
    found: set[int] = set()
    for _ in range(_PICKS_MAX):
        port = random.randrange(_PICK_FROM, _ephemeral_start())
        if port not in avoid and port not in found and _is_free(port):
            found.add(port)
        if len(found) == count:
            return list(found)
    raise NetworkRefused("too few free ports", "end some listeners, or set --port, --admin-port and --app-port")


def _ephemeral_start() -> int:
    """First port the kernel gives to outgoing connections; a machine without a gap below it gets the usual one."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
    return first if first > _PICK_FROM + 1000 else 32_768

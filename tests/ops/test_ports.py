"""Who listens where, and what happens when somebody does already."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from quorate.config import RunConfig
from quorate.errors import NetworkRefused
from quorate.ops import ports


def run_of(replicas: int, port: int = 0, admin_port: int = 0, app_port: int = 0) -> RunConfig:
    return RunConfig(replicas=replicas, port=port, admin_port=admin_port, app_port=app_port)


def plan(run: RunConfig) -> ports.PortPlan:
    return ports.plan(run, range(1, run.replicas + 1))


def listeners(planned: ports.PortPlan) -> list[int]:
    return [planned.front, planned.admin, *(port for replica in planned.replicas.values() for port in replica)]


def free_span(length: int) -> int:
    """First of `length` ports in a row that nobody has."""
    for base in range(20_000, 30_000, length):
        run = run_of(length - 1, port=base)
        try:
            return plan(run).front
        except NetworkRefused:
            continue
    raise AssertionError("no free span of ports")


def test_bases_give_each_replica_its_own() -> None:
    base = free_span(9)
    planned = plan(run_of(3, port=base, admin_port=base + 4))
    assert (planned.front, planned.admin) == (base, base + 4)
    assert [(replica.client, replica.admin) for replica in planned.replicas.values()] == [
        (base + 1, base + 5),
        (base + 2, base + 6),
        (base + 3, base + 7),
    ]
    assert [replica.app for replica in plan(run_of(3, app_port=base)).replicas.values()] == [
        base + 1,
        base + 2,
        base + 3,
    ]


def test_numbers_may_have_gaps_and_a_newcomer_gets_picked_ports() -> None:
    base = free_span(9)
    planned = ports.plan(run_of(3, port=base), [1, 4, 7])
    assert [(number, each.client) for number, each in planned.replicas.items()] == [
        (1, base + 1),
        (4, base + 4),
        (7, base + 7),
    ]
    assert len(set(ports.pick())) == 4


def test_picked_ports_are_distinct_and_out_of_the_way_of_outgoing_connections() -> None:
    picked = listeners(plan(run_of(9)))
    assert len(set(picked)) == len(picked) == 2 + 4 * 9
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(picked) < first_ephemeral


def test_every_taken_port_is_named_with_its_holder_and_its_option() -> None:
    base = free_span(4)
    with (
        socket.create_server(("127.0.0.1", base)),
        socket.create_server(("127.0.0.1", base + 2)),
        pytest.raises(NetworkRefused) as refused,
    ):
        plan(run_of(3, port=base))
    lines = str(refused.value).splitlines()
    assert [line.split(" is ")[0] for line in lines] == [f"port {base}", f"port {base + 2}"]
    assert all(f"(pid {os.getpid()}) - --port - " in line for line in lines)
    assert refused.value.exit_code == 5


def test_a_reserved_port_is_shared_by_those_who_ask_for_sharing() -> None:
    front = plan(run_of(1)).front
    with ports.reserve(front), socket.socket() as sharer, socket.socket() as stranger:
        with pytest.raises(OSError, match="Address already in use"):
            stranger.bind(("127.0.0.1", front))
        sharer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharer.bind(("127.0.0.1", front))
        sharer.listen()
        with socket.create_connection(("127.0.0.1", front), timeout=5):
            sharer.accept()[0].close()


def test_a_front_that_is_taken_cannot_be_reserved() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as holder,
        pytest.raises(NetworkRefused, match=rf"\(pid {os.getpid()}\)"),
    ):
        ports.reserve(holder.getsockname()[1])

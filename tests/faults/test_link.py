"""The laboratory's own instruments: a fault that did nothing would prove everything."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.faults.link import Proxy, Shape
from tests.faults.network import CLIENTS, PLACES, Fault, Network, host, inside

PORT = 7100
LINK = (CLIENTS, 1)
BACK = (1, CLIENTS)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(1)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def echo(network: Network) -> Iterator[socket.socket]:
    """Connect to a server at node 1 that sends back what it gets; the connection waits a second at most."""
    with inside(network.place(1)):
        server = socket.create_server((host(1), PORT))
    with server:
        serving = threading.Thread(target=serve_one, args=(server,))
        serving.start()
        with inside(network.place(CLIENTS)):
            connection = socket.create_connection((host(1), PORT), timeout=1)
        with connection:
            yield connection
    serving.join()


def serve_one(server: socket.socket) -> None:
    accepted, _ = server.accept()
    with accepted:
        accepted.settimeout(3)
        try:
            while data := accepted.recv(65536):
                accepted.sendall(data)
        except OSError:
            return  # cut off, as the test wanted


def exchange(connection: socket.socket, size: int = 4) -> float:
    """Send so many bytes and wait for them to come back; returns how long that took."""
    started = time.monotonic()
    connection.sendall(bytes(size))
    while size:
        size -= len(connection.recv(65536))
    return time.monotonic() - started


@pytest.mark.parametrize("link", [LINK, BACK])
def test_what_is_dropped_does_not_arrive_until_healed(network: Network, link: tuple[int, int]) -> None:
    with echo(network) as connection:
        exchange(connection)
        network.impose(Fault.DROP, [link])
        with pytest.raises(TimeoutError):
            exchange(connection)
        assert network.hits(Fault.DROP)
        network.heal()
        connection.settimeout(5)
        assert connection.recv(4)


def test_what_is_refused_is_reset(network: Network) -> None:
    with echo(network) as connection:
        exchange(connection)
        network.impose(Fault.REFUSE, [LINK])
        with pytest.raises(ConnectionResetError):
            exchange(connection)
        assert network.hits(Fault.REFUSE)


def test_loss_slows_and_loses_nothing(network: Network) -> None:
    with echo(network) as connection:
        connection.settimeout(30)
        network.impose(Fault.LOSE, [LINK, BACK])
        while not network.hits(Fault.LOSE):
            exchange(connection)


@pytest.fixture
def proxy(network: Network) -> Iterator[Proxy]:
    network.impose(Fault.SHAPE, [LINK])
    made = Proxy(network)
    try:
        yield made
    finally:
        network.close()
        made.close()


def test_a_link_without_a_shape_carries(network: Network, proxy: Proxy) -> None:
    with echo(network) as connection:
        exchange(connection, 1_000_000)
        assert network.hits(Fault.SHAPE)


def test_each_way_has_its_own_delay(network: Network, proxy: Proxy) -> None:
    with echo(network) as connection:
        proxy.shape(LINK, Shape(delay_seconds=0.1))
        assert exchange(connection) >= 0.1
        proxy.shape(BACK, Shape(delay_seconds=0.2))
        assert exchange(connection) >= 0.3


def test_a_narrow_link_takes_its_time(network: Network, proxy: Proxy) -> None:
    with echo(network) as connection:
        proxy.shape(LINK, Shape(bytes_per_second=100_000))
        assert exchange(connection, 30_000) >= 0.3


def test_a_stalled_link_takes_bytes_and_gives_none_until_healed(network: Network, proxy: Proxy) -> None:
    with echo(network) as connection:
        proxy.shape(LINK, Shape(stalled=True))
        with pytest.raises(TimeoutError):
            exchange(connection)
        proxy.shape(LINK, Shape())
        assert connection.recv(4)


def test_a_closed_network_leaves_nothing(network: Network) -> None:
    assert list(PLACES.glob(f"{network.name}-*"))
    network.close()
    assert not list(PLACES.glob(f"{network.name}-*"))

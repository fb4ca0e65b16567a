"""Routes of mode pass carry a live application: WebSockets, and requests that come back through the front door."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from tests.e2e.harness import Client, Cluster, Clusters
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

SOCKETS = (sys.executable, str(Path(__file__).parent / "apps" / "sockets.py"))
ROUTES = """
[[routes]]
path = "/ordered"
mode = "ordered"

[[routes]]
path = "/echo"
mode = "pass"

[[routes]]
path = "/refused"
mode = "pass"

[[routes]]
path = "/edge"
mode = "pass"
"""
TUNNELS = 200
EDGES = 64
MEGABYTE = 1 << 20
SLOW_MESSAGES = 64
HELD_BYTES_MAX = 16 * MEGABYTE
"""What a sidecar may grow by while a slow reader has four times as much on the way: buffers, and what Python keeps."""


@pytest.fixture
def cluster(clusters: Clusters, tmp_path: Path) -> Cluster:
    settings = tmp_path / "quorate.toml"
    settings.write_text(ROUTES)
    return clusters.start(SOCKETS, "-f", str(settings))


@pytest.fixture
async def sockets() -> AsyncIterator[AsyncExitStack]:
    """Closes what was connected."""
    async with AsyncExitStack() as stack:
        yield stack


async def socket_of(sockets: AsyncExitStack, url: str, path: str = "/echo") -> ClientConnection:
    """Connect to a path of one front; little of what comes is taken in before it is asked for."""
    address = url.replace("http", "ws", 1) + path
    return await sockets.enter_async_context(connect(address, compression=None, max_size=2 * MEGABYTE, max_queue=1))


async def echoes(socket: ClientConnection, data: bytes) -> None:
    async with asyncio.timeout(30):
        await socket.send(data)
        assert await socket.recv() == data


async def closes(socket: ClientConnection) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed):
            await socket.recv()


def sidecar(cluster: Cluster, name: str) -> psutil.Process:
    pid = cluster.replica(name).sidecar_pid
    assert pid is not None
    return psutil.Process(pid)


async def test_two_hundred_at_once_on_any_copy(cluster: Cluster, sockets: AsyncExitStack) -> None:
    urls = cluster.urls()
    opened = [await socket_of(sockets, urls[number % len(urls)]) for number in range(TUNNELS)]
    await asyncio.gather(*(echoes(socket, b"%d" % number) for number, socket in enumerate(opened)))
    with Client(cluster.replica("r1").admin_url) as admin:
        assert b"\nquorate_tunnels 67.0\n" in admin.ask("GET", "/metrics").body


async def test_a_slow_reader_is_waited_for_and_little_is_held(cluster: Cluster, sockets: AsyncExitStack) -> None:
    socket = await socket_of(sockets, cluster.urls()[0])
    message = random.Random(1).randbytes(MEGABYTE)
    await echoes(socket, message)
    process = sidecar(cluster, "r1")
    before = process.memory_info().rss
    most = 0

    async def send() -> None:
        for _ in range(SLOW_MESSAGES):
            await socket.send(message)

    sending = asyncio.create_task(send())
    async with asyncio.timeout(60):
        for _ in range(SLOW_MESSAGES):
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)  # it thinks
            assert await socket.recv() == message
        await sending
    assert most - before < HELD_BYTES_MAX


async def test_the_end_of_the_service_or_of_the_sidecar_is_seen_at_once(
    cluster: Cluster, sockets: AsyncExitStack
) -> None:
    urls = cluster.urls()
    first, second, third = [await socket_of(sockets, url) for url in urls]
    cluster.kill("r1", "app")
    await closes(first)
    cluster.kill("r2", "sidecar")
    await closes(second)
    await echoes(third, b"still here")
    sidecar(cluster, "r3").terminate()
    await closes(third)
    cluster.wait_ready()
    await echoes(await socket_of(sockets, urls[0]), b"again")


@pytest.mark.parametrize(("path", "status"), [("/refused", 403), ("/ordered", 200), ("/count", 200)])
async def test_no_tunnel_where_the_service_or_the_route_says_no(
    cluster: Cluster, sockets: AsyncExitStack, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await socket_of(sockets, cluster.urls()[0], path)
    assert refused.value.response.status_code == status


def test_passed_requests_may_wait_for_reads_and_writes_through_the_same_front(cluster: Cluster) -> None:
    url = cluster.urls()[0]

    def ask(_: int) -> list[int]:
        with Client(url) as client:
            answer = client.ask("POST", "/edge", url.removeprefix("http://").encode())
        assert answer.status == 200, answer
        return [int(figure) for figure in answer.body.split()]

    with ThreadPoolExecutor(EDGES) as edges:
        answers = list(edges.map(ask, range(EDGES)))
    assert sorted(added for added, _ in answers) == list(range(1, EDGES + 1))
    assert all(asked >= added for added, asked in answers), "a read came before the write it followed"
    cluster.settled()

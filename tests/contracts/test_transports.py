"""What every transport must do, whatever it is made of: over real sockets, on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from quorate import registry
from quorate.transport import Transport
from quorate.types import ReplicaId

ONE, TWO, THREE = (ReplicaId(n) for n in (1, 2, 3))


class Member:
    """One end of a mesh, and what it heard."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.heard: list[tuple[ReplicaId, bytes]] = []
        transport.on_message = lambda sender, payload: self.heard.append((sender, payload))

    def say(self, to: tuple[ReplicaId, ...], *payloads: bytes) -> None:
        for payload in payloads:
            self.transport.send(to, payload)
        self.transport.flush()


class Mesh:
    """Three members, each with its address, that come and go."""

    def __init__(self, make: Callable[..., Transport]) -> None:
        self._make = make
        self.peers = dict(zip((ONE, TWO, THREE), free_addresses(3), strict=True))
        self.members: list[Member] = []

    async def join(self, replica: ReplicaId, cluster: str = "bank", epoch: int = 1) -> Member:
        member = Member(self._make(replica, self.peers, cluster, epoch, random.Random(replica)))
        self.members.append(member)
        await member.transport.start()
        return member


@pytest.fixture(params=sorted(registry.TRANSPORTS))
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    mesh = Mesh(registry.resolve(registry.TRANSPORTS, request.param))
    yield mesh
    for member in mesh.members:
        await member.transport.close()


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_two_members_talk_both_ways(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected() == {TWO} and two.transport.connected() == {ONE})
    one.say((TWO,), b"a", b"", b"c")
    two.say((ONE,), b"d")
    await until(lambda: len(two.heard) == 3 and one.heard)
    assert two.heard == [(ONE, b"a"), (ONE, b""), (ONE, b"c")]
    assert one.heard == [(TWO, b"d")]


async def test_three_members_hear_what_is_sent_to_them_alone(mesh: Mesh) -> None:
    one, two, three = [await mesh.join(replica) for replica in (ONE, TWO, THREE)]
    await until(lambda: all(len(member.transport.connected()) == 2 for member in (one, two, three)))
    one.say((TWO, THREE), b"all")
    two.say((THREE,), b"three")
    await until(lambda: two.heard and len(three.heard) == 2)
    assert two.heard == [(ONE, b"all")]
    assert sorted(three.heard) == [(ONE, b"all"), (TWO, b"three")]
    assert one.heard == []


async def test_nothing_leaves_before_the_flush(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    one.transport.send((TWO,), b"a")
    assert one.transport.statistics().sent_frames == 0
    one.transport.flush()
    await until(lambda: two.heard)
    assert one.transport.statistics().sent_frames == 1


async def test_to_send_to_an_absent_peer_is_to_lose_and_count(mesh: Mesh) -> None:
    one = await mesh.join(ONE)
    one.say((TWO, THREE), b"a")
    statistics = one.transport.statistics()
    assert (statistics.dropped_frames, statistics.sent_frames, statistics.buffered_bytes) == (2, 0, 0)
    assert one.transport.connected() == frozenset()


async def test_a_peer_that_starts_later_or_anew_is_found(mesh: Mesh) -> None:
    one = await mesh.join(ONE)
    for life in range(3):
        two = await mesh.join(TWO)
        await until(lambda: TWO in one.transport.connected() and ONE in two.transport.connected())  # noqa: B023
        one.say((TWO,), b"%d" % life)
        two.say((ONE,), b"%d" % life)
        await until(lambda: two.heard and len(one.heard) == life + 1)  # noqa: B023
        assert two.heard == [(ONE, b"%d" % life)]
        await two.transport.close()
        await until(lambda: not one.transport.connected())
    assert one.transport.statistics().connects == 3


async def test_a_large_payload_passes(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    large = random.Random(1).randbytes(8 * 1024 * 1024)
    one.say((TWO,), large, b"after")
    await until(lambda: len(two.heard) == 2)
    assert [payload for _, payload in two.heard] == [large, b"after"]
    await until(lambda: one.transport.statistics().buffered_bytes == 0)


async def test_many_small_payloads_keep_their_order(mesh: Mesh) -> None:
    one, two = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    payloads = [b"%d" % number for number in range(20_000)]
    for start in range(0, len(payloads), 100):
        one.say((TWO,), *payloads[start : start + 100])
        await asyncio.sleep(0)
    await until(lambda: len(two.heard) == len(payloads))
    assert [payload for _, payload in two.heard] == payloads
    statistics = two.transport.statistics()
    assert (statistics.received_frames, statistics.received_bytes) == (20_000, sum(map(len, payloads)))


@pytest.mark.parametrize(("cluster", "epoch"), [("shop", 1), ("bank", 2)])
async def test_another_cluster_or_epoch_is_refused_by_both(mesh: Mesh, cluster: str, epoch: int) -> None:
    one, stranger = await mesh.join(ONE), await mesh.join(TWO, cluster, epoch)
    both = [one.transport, stranger.transport]
    await until(lambda: all(transport.statistics().refused_connections >= 3 for transport in both))
    one.say((TWO,), b"a")
    stranger.say((ONE,), b"b")
    assert not one.transport.connected()
    assert not stranger.transport.connected()
    assert one.heard == stranger.heard == []


async def test_a_closed_transport_leaves_no_task_and_no_port(mesh: Mesh) -> None:
    before = asyncio.all_tasks()
    one, _ = await mesh.join(ONE), await mesh.join(TWO)
    await until(lambda: one.transport.connected())
    for member in mesh.members:
        await member.transport.close()
    assert asyncio.all_tasks() == before
    again = await mesh.join(ONE)
    assert again.transport.connected() == frozenset()

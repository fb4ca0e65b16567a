from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.intercept.doors import Door, open_door, until
from tests.intercept.hostile import answers_of

from quorate import limits
from quorate.errors import Misuse, NetworkRefused
from quorate.intercept.server import ServerOptions, split_address

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def small_door() -> AsyncIterator[Door]:
    """Room for two connections."""
    door = await open_door(options=ServerOptions(connections_max=2))
    yield door
    door.server.close()


# --- too many --------------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_told_so(small_door: Door) -> None:
    door = small_door
    clients = [await door.connect() for _ in range(2)]
    (answer,) = answers_of(await door.exchange(GET % 1))
    assert (answer.status, answer.fields["connection"], answer.fields["retry-after"]) == (503, "close", "1")
    assert door.server.statistics().refused == {"overloaded": 1}
    for client in clients:
        client.send(GET % 1)
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        await client.close()
    await until(lambda: door.server.statistics().connections == 0)
    assert len(answers_of(await door.exchange(b"GET / HTTP/1.0\r\n\r\n"))) == 1


async def test_far_too_many_are_cut(small_door: Door) -> None:
    door = small_door
    crowd = [await door.connect() for _ in range(2 + limits.CONNECTIONS_REFUSED_MAX)]
    one_more = await door.connect()
    with contextlib.suppress(ConnectionResetError):
        assert await one_more.rest() == b""
    await one_more.close()
    assert door.server.statistics().connections <= 2 + limits.CONNECTIONS_REFUSED_MAX
    for client in crowd:
        client.writer.transport.abort()


# --- coming and going ------------------------------------------------------------------------------------------------


async def test_listening_on_several_addresses_and_leaving_one(door: Door) -> None:
    second = await door.server.listen("127.0.0.1:0")
    there = Door(door.server, door.replica, second)
    client = await there.connect()
    door.server.leave(second)
    with pytest.raises(ConnectionRefusedError):
        await there.connect()
    client.send(GET % 1)
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    await client.close()
    assert await door.exchange(b"GET / HTTP/1.0\r\n\r\n")


async def test_a_port_can_be_shared(door: Door) -> None:
    shared = await door.server.listen("127.0.0.1:0", reuse_port=True)
    other = await open_door()
    assert await other.server.listen(shared, reuse_port=True) == shared
    other.server.leave(shared)
    assert await Door(door.server, door.replica, shared).exchange(b"GET / HTTP/1.0\r\n\r\n")
    other.server.close()


async def test_an_ipv6_address(door: Door) -> None:
    address = await door.server.listen("[::1]:0")
    assert address.startswith("[::1]:")
    assert await Door(door.server, door.replica, address).exchange(b"GET / HTTP/1.0\r\n\r\n")


async def test_an_address_in_use_is_refused(door: Door) -> None:
    with pytest.raises(NetworkRefused, match="can't listen"):
        await door.server.listen(door.address)


@pytest.mark.parametrize("address", ["", "8001", "a", "a:", "a:b", "a:-1", "a:65536", "::1:80", "[::1]", "a:8 0"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Misuse, match="not an address"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("a.example:80") == ("a.example", 80)
    assert split_address("[::1]:8001") == ("::1", 8001)


async def test_draining_answers_what_is_under_way_and_closes_the_rest(door: Door) -> None:
    door.replica.waiting = []
    idle, busy = await door.connect(), await door.connect()
    busy.send(GET % 1)
    await until(lambda: bool(door.replica.waiting) and door.server.statistics().connections == 2)
    draining = asyncio.create_task(door.server.drain(10))
    assert await idle.rest() == b""
    await idle.close()
    door.replica.answer_all()
    (answer,) = answers_of(await busy.rest())
    assert (answer.status, answer.fields["connection"]) == (200, "close")
    await busy.close()
    await draining
    assert door.server.statistics().connections == 0
    with pytest.raises(ConnectionRefusedError):
        await door.connect()


async def test_draining_ends_when_its_time_is_over(door: Door) -> None:
    door.replica.waiting = []
    client = await door.connect()
    client.send(GET % 1)
    await until(lambda: bool(door.replica.waiting))
    await door.server.drain(0.05)
    assert await client.rest() == b""
    await until(lambda: door.server.statistics().connections == 0)
    door.replica.answer_all()
    await client.close()

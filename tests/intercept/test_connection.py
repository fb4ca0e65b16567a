from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.intercept.doors import Client, Door, open_door, until
from tests.intercept.hostile import answers_of

from quorate.intercept.connection import Connection, Deadlines, address_of
from quorate.intercept.server import ServerOptions
from quorate.types import Outcome, Reply

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
HASTY = Deadlines(
    head_seconds_max=0.1,
    body_seconds_max=0.3,
    body_grace_seconds=0.1,
    body_bytes_per_second_min=100,
    idle_seconds_max=0.1,
    write_seconds_max=0.2,
    linger_seconds=0.1,
)

Opener = Callable[[Deadlines], Awaitable[Door]]


@pytest.fixture
async def open_with() -> AsyncIterator[Opener]:
    doors: list[Door] = []

    async def opener(deadlines: Deadlines) -> Door:
        doors.append(await open_door(options=ServerOptions(deadlines=deadlines, sweep_seconds=0.02)))
        return doors[-1]

    yield opener
    for door in doors:
        door.server.close()


async def until_it_is(value: int, count: Callable[[], int]) -> None:
    await until(lambda: count() == value)


# --- one request after the other -------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_one_at_a_time_in_order(door: Door) -> None:
    door.replica.waiting = []
    client = await door.connect()
    client.send(b"".join([GET % number for number in range(3)]))
    for number in range(3):
        await until(lambda: bool(door.replica.waiting))
        assert len(door.replica.reads) == number + 1
        assert door.replica.reads[number].call.head.startswith(b"GET /%d " % number)
        door.replica.reply = Reply(Outcome(200, b"", b"%d" % number), 1)
        door.replica.answer_all()
        assert (await client.answer()).endswith(b"\r\n\r\n%d" % number)
    await client.close()


async def test_thousands_of_pipelined_requests_do_not_pile_up_on_the_stack(door: Door) -> None:
    client = await door.connect()
    client.send(b"".join([GET % number for number in range(3000)]))
    for _ in range(3000):
        await client.answer()
    assert [read.call.head.split()[1] for read in door.replica.reads] == [b"/%d" % number for number in range(3000)]
    await client.close()


async def test_what_comes_behind_a_request_waits_unread(door: Door) -> None:
    door.replica.waiting = []
    client = await door.connect()
    flood = (POST % 100_000 + b"\r\n" + b"x" * 100_000) * 100
    client.send(flood)
    await until(lambda: len(door.replica.submitted) == 1)
    backlog = client.writer.transport.get_write_buffer_size
    await until(lambda: backlog() > 0)
    for number in range(2, 101):
        door.replica.answer_all()
        await until_it_is(number, lambda: len(door.replica.submitted))
    assert {submitted.call.body for submitted in door.replica.submitted} == {b"x" * 100_000}
    await client.close()


async def test_a_connection_is_kept(door: Door) -> None:
    client = await door.connect()
    for _ in range(3):
        client.send(GET % 1)
        assert b"\r\nConnection:" not in await client.answer()
    assert door.server.statistics()[:3] == (1, 1, 3)
    await client.close()
    await until(lambda: door.server.statistics().connections == 0)


async def test_http10_is_told_that_its_connection_is_kept(door: Door) -> None:
    client = await door.connect()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"\r\nConnection: keep-alive\r\n" in await client.answer()
    last = await client.exchange(b"GET / HTTP/1.0\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in last
    await client.close()


async def test_what_follows_the_last_request_is_not_served(door: Door) -> None:
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert len(answers_of(await door.exchange(last + GET % 2))) == 1
    assert len(door.replica.reads) == 1


@pytest.mark.parametrize(("status", "length"), [(200, b"Content-Length: 4\r\n"), (204, b""), (304, b"")])
async def test_answers_without_a_body_keep_the_framing(door: Door, status: int, length: bytes) -> None:
    door.replica.reply = Reply(Outcome(status, b"", b"done" if status == 200 else b""), 1)
    received = await door.exchange(
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    first, second, nothing = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert second.startswith(b"HTTP/1.1 %d " % status)
    assert nothing == b""
    assert received.count(length or b"Content-Length") == (2 if length else 0)


# --- Expect ----------------------------------------------------------------------------------------------------------


async def test_a_client_that_waits_is_told_to_go_on(door: Door) -> None:
    client = await door.connect()
    client.send(POST % 2 + b"Expect: 100-continue\r\n\r\n")
    assert await client.answer() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert door.replica.calls == []
    client.send(b"ok")
    assert (await client.answer()).startswith(b"HTTP/1.1 200 OK\r\n")
    (submitted,) = door.replica.submitted
    assert submitted.call.body == b"ok"
    assert b"Expect" not in submitted.call.head
    await client.close()


async def test_a_client_that_does_not_wait_is_served_too(door: Door) -> None:
    smuggled = GET % 9
    data = POST % len(smuggled) + b"Expect: 100-continue\r\n\r\n" + smuggled
    client = await door.connect()
    client.send(data + GET % 1)
    assert await client.answer() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.answer()
    await client.answer()
    assert door.replica.submitted[0].call.body == smuggled
    assert [read.call.head.split()[1] for read in door.replica.reads] == [b"/1"]
    await client.close()


# --- clients that leave ----------------------------------------------------------------------------------------------


async def test_a_client_that_ends_its_side_still_gets_its_answers(door: Door) -> None:
    door.replica.waiting = []
    client = await door.connect()
    client.send(GET % 1 + GET % 2)
    client.writer.write_eof()
    for number in (1, 2):
        await until_it_is(number, lambda: len(door.replica.reads))
        door.replica.answer_all()
    assert [answer.status for answer in answers_of(await client.rest())] == [200, 200]
    await client.close()


async def test_a_request_cut_short_is_not_proposed(door: Door) -> None:
    for part in (b"GET / HT", POST % 5 + b"\r\n1234", b"POST / HTTP/1.1\r\nHost: a\r\n"):
        client = await door.connect()
        client.send(part)
        client.writer.write_eof()
        (answer,) = answers_of(await client.rest())
        assert answer.status == 400
        await client.close()
    assert door.replica.calls == []


async def test_the_answer_to_a_client_that_is_gone_is_dropped(door: Door) -> None:
    door.replica.waiting = []
    client = await door.connect()
    client.send(GET % 1)
    await until(lambda: bool(door.replica.waiting))
    reset(client)
    await until(lambda: door.server.statistics().connections == 0)
    door.replica.answer_all()


def reset(client: Client) -> None:
    """Close so that the server sees a reset."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.writer.transport.abort()


# --- where a client is -----------------------------------------------------------------------------------------------

FORWARDED = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.7", 51000), b"192.0.2.7"),
        (("2001:db8::7", 51000, 0, 0), b"2001:db8::7"),
        (("::1", 51000, 0, 0), b"::1"),
        (("::ffff:192.0.2.7", 51000, 0, 0), b"192.0.2.7"),
        (("::ffff:0:192.0.2.7", 51000, 0, 0), b"::ffff:0:c000:207"),
        (("fe80::fc:ff:fe00:1%eth0", 51000, 0, 4), b"fe80::fc:ff:fe00:1"),
        (("fe80::fc:ff:fe00:1", 51000, 0, 4), b"fe80::fc:ff:fe00:1"),
        ("", b""),
        ("/run/client.sock", b""),
        (None, b""),
    ],
)
def test_addresses_are_written_in_one_way(peer: object, address: bytes) -> None:
    assert address_of(peer) == address


async def test_a_client_over_ipv6_is_named(door: Door) -> None:
    there = Door(door.server, door.replica, await door.server.listen("[::1]:0"))
    assert answers_of(await there.exchange(FORWARDED))[0].status == 200
    assert b"\r\nX-Forwarded-For: 10.0.0.1, ::1\r\n" in door.replica.calls[0].head


async def test_a_client_on_a_unix_socket_has_no_address_to_be_named_by(door: Door, tmp_path: Path) -> None:
    loop, path = asyncio.get_running_loop(), str(tmp_path / "front")
    async with await loop.create_unix_server(lambda: Connection(door.server, loop), path):
        client = Client(*await asyncio.open_unix_connection(path))
        assert answers_of(await client.exchange(FORWARDED))[0].status == 200
        await client.close()
    assert b"\r\nX-Forwarded-For: 10.0.0.1\r\n" in door.replica.calls[0].head


async def test_a_client_whose_address_is_lost_is_not_served_under_one_that_it_claims(door: Door) -> None:
    """After a reset the kernel no longer tells who it was, but still gives out what was sent."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(*await asyncio.open_connection(*listener.getsockname()))
        client.send(FORWARDED)
        accepted, _ = listener.accept()
    reset(client)
    await until(lambda: has_no_peer(accepted))
    await loop.connect_accepted_socket(lambda: Connection(door.server, loop), accepted)
    await until(lambda: door.server.statistics()[:2] == (0, 1))
    assert door.replica.calls == []


def has_no_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


# --- deadlines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        POST % 9 + b"\r\n",
        POST % 9 + b"\r\n1",
        POST % 9 + b"Expect: 100-continue\r\n\r\n",
    ],
)
async def test_a_request_that_does_not_come_is_not_waited_for(open_with: Opener, part: bytes) -> None:
    door = await open_with(HASTY)
    (answer,) = answers_of(await door.exchange(part))
    assert (answer.status, answer.fields["connection"]) == (408, "close")
    assert door.replica.calls == []
    assert door.server.statistics().refused == {"request_timeout": 1}


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nA: ", POST % 4000 + b"\r\n"])
async def test_dribbling_stretches_no_deadline(open_with: Opener, start: bytes) -> None:
    door = await open_with(HASTY)
    client = await door.connect()
    client.send(start)
    answer = asyncio.create_task(client.rest())
    while not answer.done():
        client.send(b"x")
        await asyncio.wait([answer], timeout=0.02)
    assert [answer.status for answer in answers_of(answer.result())] == [408]
    await client.close()


async def test_an_idle_connection_is_closed_without_a_word(open_with: Opener) -> None:
    door = await open_with(HASTY)
    assert await door.exchange(b"") == b""
    assert len(answers_of(await door.exchange(GET % 1))) == 1
    assert door.server.statistics().refused == {}


async def test_a_request_being_served_has_no_deadline_here(open_with: Opener) -> None:
    door = await open_with(HASTY)
    door.replica.waiting = []
    client = await door.connect()
    client.send(GET % 1 + b"GET")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.4)
    door.replica.answer_all()
    assert [answer.status for answer in answers_of(await client.rest())] == [200, 408]
    await client.close()


async def test_a_client_that_does_not_read_is_cut(open_with: Opener) -> None:
    door = await open_with(HASTY)
    door.replica.reply = Reply(Outcome(200, b"", b"x" * 8_000_000), 1)
    client = await door.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send((GET % 1) * 50)
    await until(lambda: door.server.statistics().refused == {"slow_reader": 1})
    await until(lambda: door.server.statistics().connections == 0)
    assert 0 < len(door.replica.reads) < 5
    client.writer.transport.abort()


async def test_a_last_answer_that_is_not_read_is_cut(open_with: Opener) -> None:
    door = await open_with(HASTY)
    door.replica.reply = Reply(Outcome(200, b"", b"x" * 8_000_000), 1)
    client = await door.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await until(lambda: door.server.statistics().refused == {"slow_reader": 1})
    client.writer.transport.abort()


async def test_a_long_last_answer_is_read_to_its_end_however_short_the_lingering(open_with: Opener) -> None:
    patient = Deadlines(linger_seconds=0.0)
    door = await open_with(patient)
    door.replica.reply = Reply(Outcome(200, b"", b"x" * 8_000_000), 1)
    client = await door.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await until(lambda: len(door.replica.reads) == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)  # several sweeps pass
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    (answer,) = answers_of(await client.rest())
    assert len(answer.body) == 8_000_000
    await client.close()


async def test_a_refusal_reaches_a_client_that_goes_on_sending(door: Door) -> None:
    too_much = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 20_000_000
    for _ in range(5):
        client = await door.connect()
        client.send(too_much)
        async with asyncio.timeout(10):
            assert (await client.reader.readline()).startswith(b"HTTP/1.1 413 ")
        client.writer.transport.abort()

"""Calls to services that behave, and to those that do not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from tests.replica.parts import (
    Answer,
    Held,
    Request,
    TinyService,
    echo,
    free_address,
    hang,
    hang_up,
    http,
    raw,
    until,
)

from quorate import limits
from quorate.protocols.fields import HttpLimits
from quorate.replica import upstream
from quorate.replica.upstream import CallFailed, Fate, Upstream
from quorate.types import Outcome

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


POST = post(b"x")

Connect = Callable[..., Upstream]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    opened: list[Upstream] = []

    def connect(
        service: TinyService | str, connections_max: int = 1, *, depth: int = 1, retry_lost: bool = False
    ) -> Upstream:
        address = service if isinstance(service, str) else service.address
        http_limits = HttpLimits(response_body_bytes_max=1000)
        opened.append(Upstream(address, http_limits, connections_max, depth=depth, retry_lost=retry_lost))
        return opened[-1]

    yield connect
    for one in opened:
        await one.close()


async def ask(one: Upstream, data: bytes = GET) -> upstream.Answer:
    answered: asyncio.Future[upstream.Answer] = asyncio.get_running_loop().create_future()
    one.call(data, data.split()[0], answered.set_result)
    async with asyncio.timeout(20):
        return await answered


async def fate(one: Upstream, data: bytes = GET) -> Fate:
    answer = await ask(one, data)
    assert isinstance(answer, CallFailed), answer
    return answer.fate


async def test_an_answer_is_an_outcome(service: TinyService, connect: Connect) -> None:
    service.answer = raw(http(b"teapot", 418, b"X-Pot: yes\r\n"))
    assert await ask(connect(service)) == Outcome(418, b"X-Pot: yes\r\n", b"teapot")


async def test_calls_share_a_connection(service: TinyService, connect: Connect) -> None:
    one = connect(service)
    for number in range(5):
        assert await ask(one, POST) == Outcome(200, b"", b"%d" % (number + 1))
    assert service.connections == 1


async def test_a_lane_takes_one_call_at_a_time_in_order(service: TinyService, connect: Connect) -> None:
    one = connect(service)
    answers = await asyncio.gather(*(ask(one, POST) for _ in range(20)))
    assert [answer.body for answer in answers if isinstance(answer, Outcome)] == [b"%d" % n for n in range(1, 21)]
    assert service.connections == 1


async def test_a_pool_uses_its_connections_and_no_more(service: TinyService, connect: Connect) -> None:
    waiting: list[asyncio.StreamWriter] = []

    async def keep(_: Request, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)

    service.answer = keep
    one = connect(service, 3)
    asked = asyncio.gather(*(ask(one) for _ in range(7)))
    answered = 0
    while answered < 7:
        await until(lambda: len(waiting) == min(3, 7 - answered))  # noqa: B023
        answered += len(waiting)
        for writer in waiting:
            writer.write(http(b""))
        waiting.clear()
    assert await asked == [Outcome(200, b"", b"")] * 7
    assert service.connections == 3


async def test_nobody_listens(connect: Connect) -> None:
    assert await fate(connect(free_address())) is Fate.REFUSED


async def test_calls_that_wait_are_refused_with_the_one_that_found_nobody(connect: Connect) -> None:
    one = connect(free_address())
    assert await asyncio.gather(*(fate(one) for _ in range(5))) == [Fate.REFUSED] * 5


async def test_a_call_made_by_one_that_was_just_refused_is_answered_too(connect: Connect) -> None:
    one = connect(free_address())
    answers: list[upstream.Answer] = []

    def again(answer: upstream.Answer) -> None:
        answers.append(answer)
        if len(answers) < 3:
            one.call(GET, b"GET", again)

    one.call(GET, b"GET", again)
    await until(lambda: len(answers) == 3)
    assert fates(answers) == [Fate.REFUSED] * 3


async def test_a_service_that_takes_no_connection_counts_as_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVICE_CONNECT_SECONDS_MAX", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        assert await fate(connect(f"127.0.0.1:{deaf.getsockname()[1]}")) is Fate.REFUSED
        for waiting in queue:
            waiting.close()


async def test_calls_beyond_the_bound_are_refused(
    service: TinyService, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_MAX", 3)
    held = Held()
    service.answer = held.keep
    one = connect(service)
    asked = [asyncio.create_task(ask(one, POST)) for _ in range(6)]
    await until(lambda: sum(task.done() for task in asked) == 2)
    assert fates([task.result() for task in asked[4:]]) == [Fate.REFUSED] * 2
    service.answer = echo
    await held.gets(b"x")
    held.answer_all()
    assert await asyncio.gather(*asked[:4]) == [Outcome(200, b"", b"x")] * 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (hang_up, Fate.LOST),
        (raw(b"", close=True), Fate.LOST),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Le", close=True), Fate.BROKEN),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", close=True), Fate.BROKEN),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", close=True), Fate.BROKEN),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Fate.BROKEN),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"), Fate.BROKEN),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"), Fate.BROKEN),
        (raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), Fate.BROKEN),
        (raw(b"HTTP/1.1 100 Continue\r\n\r\n" * (limits.INTERIM_RESPONSES_MAX + 1)), Fate.BROKEN),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * limits.RESPONSE_HEAD_BYTES_MAX), Fate.BROKEN),
    ],
)
async def test_what_is_known_of_a_call_that_failed(
    service: TinyService, connect: Connect, answer: Answer, expected: Fate
) -> None:
    service.answer = answer
    one = connect(service)
    assert await fate(one) is expected
    service.answer = service.count
    assert await ask(one, POST) == Outcome(200, b"", b"1")


def fates(answers: list[upstream.Answer]) -> list[Fate]:
    return [answer.fate for answer in answers if isinstance(answer, CallFailed)]


async def test_an_answer_that_ends_with_the_connection(service: TinyService, connect: Connect) -> None:
    service.answer = raw(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True)
    one = connect(service)
    assert await ask(one) == Outcome(200, b"", b"all of it")
    assert await ask(one) == Outcome(200, b"", b"all of it")


async def test_a_service_that_closes_after_each_answer_is_connected_to_anew(
    service: TinyService, connect: Connect
) -> None:
    service.answer = raw(http(b"", fields=b"Connection: close\r\n"), close=True)
    one = connect(service)
    assert [await ask(one) for _ in range(3)] == [Outcome(200, b"", b"")] * 3
    assert service.connections == 3


async def test_bytes_beyond_an_answer_are_not_taken_for_the_next(service: TinyService, connect: Connect) -> None:
    service.answer = raw(http(b"mine") + http(b"whose?"))
    one = connect(service)
    assert [await ask(one) for _ in range(2)] == [Outcome(200, b"", b"mine")] * 2
    assert service.connections == 2


async def test_an_answer_in_single_bytes_is_one_answer(service: TinyService, connect: Connect) -> None:
    async def dribble(_: Request, writer: asyncio.StreamWriter) -> None:
        for byte in http(b"slowly"):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    service.answer = dribble
    assert await ask(connect(service)) == Outcome(200, b"", b"slowly")


async def test_a_hung_call_is_given_up(service: TinyService, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVICE_CALL_SECONDS_MAX", 0.1)
    monkeypatch.setattr(limits, "SERVICE_WATCH_SECONDS", 0.02)
    service.answer = hang
    one = connect(service)
    assert await fate(one) is Fate.SILENT
    service.answer = service.count
    assert isinstance(await ask(one), Outcome)
    assert service.connections == 2


async def test_an_idle_connection_is_replaced_before_the_service_closes_it(
    service: TinyService, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = connect(service)
    await ask(one)
    monkeypatch.setattr(limits, "SERVICE_IDLE_SECONDS_MAX", 0.0)
    await ask(one)
    assert service.connections == 2


@pytest.mark.parametrize(("retry_lost", "expected"), [(True, 2), (False, 1)])
async def test_only_safe_calls_are_sent_again_and_only_after_a_kept_connection_failed(
    service: TinyService, connect: Connect, retry_lost: bool, expected: int
) -> None:
    one = connect(service, retry_lost=retry_lost)
    await ask(one)
    before = len(service.got)
    service.answer = hang_up
    assert await fate(one) is Fate.LOST
    assert len(service.got) - before == expected


async def test_a_safe_call_is_not_sent_again_after_a_fresh_connection_failed(
    service: TinyService, connect: Connect
) -> None:
    service.answer = hang_up
    assert await fate(connect(service, retry_lost=True)) is Fate.LOST
    assert len(service.got) == 1


async def test_a_reset_fails_what_is_under_way_and_what_waits(service: TinyService, connect: Connect) -> None:
    service.answer = hang
    one = connect(service)
    asked = asyncio.gather(*(fate(one) for _ in range(3)))
    await until(lambda: service.got)
    one.reset()
    assert await asked == [Fate.LOST, Fate.REFUSED, Fate.REFUSED]
    assert len(service.got) == 1


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_call_given_up_while_connecting_is_never_sent(
    service: TinyService, connect: Connect, turns: int
) -> None:
    one = connect(service)
    answers: list[upstream.Answer] = []
    one.call(POST, b"POST", answers.append)
    for _ in range(turns):
        await asyncio.sleep(0)
    one.reset()
    await until(lambda: answers)
    assert fates(answers) == [Fate.REFUSED]
    assert await ask(one) == Outcome(200, b"", b"0")
    assert service.bodies() == []


async def test_calls_made_after_others_were_given_up_are_sent_in_their_order(
    service: TinyService, connect: Connect
) -> None:
    service.answer = echo
    one = connect(service)
    answers: list[upstream.Answer] = []

    def then_d(answer: upstream.Answer) -> None:
        answers.append(answer)
        one.call(post(b"d"), b"POST", answers.append)

    one.call(post(b"a"), b"POST", then_d)
    await asyncio.sleep(0)
    one.reset()
    for body in (b"b", b"c"):
        one.call(post(body), b"POST", answers.append)
    await until(lambda: len(answers) == 4)
    assert fates(answers[:1]) == [Fate.REFUSED]
    assert service.bodies() == [b"b", b"c", b"d"]


async def test_an_answer_may_lead_to_the_next_call(service: TinyService, connect: Connect) -> None:
    one = connect(service)
    answers: list[upstream.Answer] = []

    def again(answer: upstream.Answer) -> None:
        answers.append(answer)
        if len(answers) < 50:
            one.call(POST, b"POST", again)

    one.call(POST, b"POST", again)
    await until(lambda: len(answers) == 50)
    assert service.connections == 1


# --- several calls on one connection ---------------------------------------------------------------------------------


class Pipeline:
    """Four calls on one connection, and their answers in the order in which they came."""

    def __init__(self, one: Upstream) -> None:
        self.answers: list[tuple[bytes, upstream.Answer]] = []
        for body in (b"a", b"b", b"c", b"d"):
            one.call(post(body), b"POST", lambda answer, body=body: self.answers.append((body, answer)))  # type: ignore[misc]

    async def answered(self) -> list[tuple[bytes, bytes | Fate]]:
        """Return what came of each call, once all are answered."""
        await until(lambda: len(self.answers) == 4)
        return [(body, answer.fate if isinstance(answer, CallFailed) else answer.body) for body, answer in self.answers]


async def test_answers_that_come_together_are_matched_in_order(service: TinyService, connect: Connect) -> None:
    held = Held()
    service.answer = held.keep
    pipeline = Pipeline(connect(service, depth=4))
    await held.gets(b"a", b"b", b"c", b"d")
    held.answer_all()
    assert await pipeline.answered() == [(b"a", b"a"), (b"b", b"b"), (b"c", b"c"), (b"d", b"d")]
    assert service.connections == 1


async def test_no_more_calls_are_on_a_connection_than_its_depth(service: TinyService, connect: Connect) -> None:
    held = Held()
    service.answer = held.keep
    pipeline = Pipeline(connect(service, depth=3))
    await held.gets(b"a", b"b", b"c")
    held.answer_all()
    await held.gets(b"d")
    held.answer_all()
    assert await pipeline.answered() == [(b"a", b"a"), (b"b", b"b"), (b"c", b"c"), (b"d", b"d")]


@pytest.mark.parametrize(
    ("last", "second", "first_failed"),
    [
        (http(b"b", fields=b"Connection: close\r\n"), b"b", Fate.LOST),
        (b"HTTP/1.1 200 OK\r\n\r\nb", b"b", Fate.LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nb", Fate.BROKEN, Fate.LOST),
        (b"nonsense\r\n", Fate.BROKEN, Fate.LOST),
        (b"", Fate.LOST, Fate.LOST),
    ],
)
async def test_what_is_known_of_calls_behind_the_end_of_a_connection(
    service: TinyService, connect: Connect, last: bytes, second: bytes | Fate, first_failed: Fate
) -> None:
    held = Held()
    service.answer = held.keep
    pipeline = Pipeline(connect(service, depth=4))
    await held.gets(b"a", b"b", b"c", b"d")
    _, writer = held.waiting[0]
    writer.write(http(b"a") + last)
    writer.close()
    assert await pipeline.answered() == [(b"a", b"a"), (b"b", second), (b"c", first_failed), (b"d", Fate.LOST)]


async def test_only_the_first_of_hung_calls_was_silent(
    service: TinyService, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVICE_CALL_SECONDS_MAX", 0.1)
    monkeypatch.setattr(limits, "SERVICE_WATCH_SECONDS", 0.02)
    service.answer = hang
    pipeline = Pipeline(connect(service, depth=4))
    assert await pipeline.answered() == [(b"a", Fate.SILENT), *((body, Fate.LOST) for body in (b"b", b"c", b"d"))]

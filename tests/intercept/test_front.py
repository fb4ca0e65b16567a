from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
from tests.intercept.doors import Door, open_door
from tests.intercept.hostile import Answer, answers_of

from quorate.intercept.policy import Mode, Route, RoutePolicy
from quorate.protocols.problems import problem
from quorate.types import Outcome, ReadMode, Reply

ID = bytes(range(16))


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    routes = [
        Route("/pay", Mode.ORDERED, key_required=True),
        Route("/stale", Mode.STALE),
        Route("/pass", Mode.PASS),
        Route("/get", Mode.ORDERED),
    ]
    opened = await open_door(RoutePolicy(routes))
    yield opened
    opened.server.close()


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: a.example", *fields, *length]) + b"\r\n\r\n" + body


async def ask(door: Door, line: bytes, *fields: bytes, body: bytes = b"") -> Answer:
    """Return the answer to one request, told to be the last."""
    received = await door.exchange(request(line, *fields, b"Connection: close", body=body))
    (answer,) = answers_of(received, to_head=line.startswith(b"HEAD"))
    return answer


# --- in --------------------------------------------------------------------------------------------------------------


async def test_a_write_is_submitted_in_canonical_form(door: Door) -> None:
    answer = await ask(door, b"POST /a", b"X-B:c", b"Quorate-Seed: 1", body=b"hi")
    assert (answer.status, answer.body) == (200, b"done")
    (submitted,) = door.replica.submitted
    assert submitted.call.head == (
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nX-B: c\r\nX-Forwarded-For: 127.0.0.1\r\nVia: 1.1 quorate-r1\r\n"
        b"Content-Length: 2\r\n"
    )
    assert (submitted.key, submitted.fingerprint) == (None, b"")


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        (b"GET /a", ReadMode.LINEARIZABLE),
        (b"HEAD /a", ReadMode.LINEARIZABLE),
        (b"OPTIONS *", ReadMode.LINEARIZABLE),
        (b"POST /stale", ReadMode.STALE),
        (b"GET /pass", ReadMode.PASS),
    ],
)
async def test_what_stays_off_the_log(door: Door, line: bytes, mode: ReadMode) -> None:
    assert (await ask(door, line)).status == 200
    (read,) = door.replica.reads
    assert (read.mode, read.at_least) == (mode, 0)
    assert door.replica.submitted == []


async def test_a_route_may_order_what_is_called_safe(door: Door) -> None:
    await ask(door, b"GET /get")
    assert len(door.replica.submitted) == 1


async def test_the_index_of_an_earlier_answer_asks_for_no_older_state(door: Door) -> None:
    await ask(door, b"GET /a", b"Quorate-Index: 0041")
    assert door.replica.reads[0].at_least == 41
    assert b"Quorate-Index" not in door.replica.reads[0].call.head


@pytest.mark.parametrize("line", [b"POST /a", b"GET /a", b"OPTIONS *", b"POST /stale", b"GET /pass", b"POST /pass"])
async def test_whoever_connected_is_named_behind_whom_the_client_names(door: Door, line: bytes) -> None:
    client = await door.connect("127.0.0.2")
    client.send(request(line) + request(line, b"X-Forwarded-For: 10.0.0.1", b"X-A: b", b"x-forwarded-for: 127.0.0.1"))
    assert [(await client.answer())[:15] for _ in range(2)] == [b"HTTP/1.1 200 OK"] * 2
    named = [
        [line for line in call.head.split(b"\r\n") if b"-forwarded-" in line.lower()] for call in door.replica.calls
    ]
    assert named == [[b"X-Forwarded-For: 127.0.0.2"], [b"X-Forwarded-For: 10.0.0.1, 127.0.0.1, 127.0.0.2"]]
    await client.close()


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"1 2", b"1, 2", b"1" * 19, b"\xb2"])
async def test_an_index_that_is_none_is_refused(door: Door, value: bytes) -> None:
    answer = await ask(door, b"GET /a", b"Quorate-Index: " + value)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
    assert door.replica.calls == []


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b'"a\\"b\\\\c,d;e"', b'a"b\\c,d;e'),
        (b"a:b/c+d=", b"a:b/c+d="),
        (b"k" * 256, b"k" * 256),
        (b'"' + b"k" * 256 + b'"', b"k" * 256),
    ],
)
async def test_a_key_is_a_string_or_bare(door: Door, value: bytes, key: bytes) -> None:
    await ask(door, b"POST /a", b"Idempotency-Key: " + value)
    (submitted,) = door.replica.submitted
    assert submitted.key == key
    assert len(submitted.fingerprint) == 16
    assert b"Idempotency-Key: " + value in submitted.call.head


@pytest.mark.parametrize(
    "value",
    [
        b"", b'""', b'"', b'"a', b'a"', b'"a"b', b'"a";x=1', b"a b", b'"a b"', b"a,b", b'"\\x"', b"\\", b"caf\xe9",
        b'"caf\xe9"', b"k" * 257, b'"' + b"k" * 257 + b'"', b"a\r\nIdempotency-Key: b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", [b"POST /a", b"GET /a", b"POST /pay"])
async def test_a_key_that_makes_no_sense_is_refused(door: Door, line: bytes, value: bytes) -> None:
    answer = await ask(door, line, b"Idempotency-Key: " + value)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")
    assert door.replica.calls == []


async def test_the_fingerprint_tells_requests_apart(door: Door) -> None:
    key = b"Idempotency-Key: k"
    for line, body in [
        (b"POST /a", b"x"),
        (b"POST /a", b"y"),
        (b"POST /b", b"x"),
        (b"PUT /a", b"x"),
        (b"POST /a", b""),
    ]:
        await ask(door, line, key, body=body)
    await ask(door, b"POST /a", key, b"X-Attempt: 2", body=b"x")
    prints = [entry.fingerprint for entry in door.replica.submitted]
    assert len(set(prints)) == 5
    assert prints[0] == prints[-1]


async def test_a_retry_may_come_from_elsewhere(door: Door) -> None:
    for source in ("127.0.0.1", "127.0.0.2"):
        client = await door.connect(source)
        client.send(request(b"POST /a", b"Idempotency-Key: k", body=b"x"))
        await client.answer()
        await client.close()
    first, retry = door.replica.submitted
    assert (first.key, first.fingerprint) == (retry.key, retry.fingerprint)
    assert first.call.head != retry.call.head


async def test_a_route_may_require_a_key(door: Door) -> None:
    answer = await ask(door, b"POST /pay", body=b"x")
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "key_required")
    assert door.replica.calls == []
    assert (await ask(door, b"POST /pay", b"Idempotency-Key: k", body=b"x")).status == 200


# --- out -------------------------------------------------------------------------------------------------------------


async def test_the_service_is_quoted_exactly(door: Door) -> None:
    head = b"Zeta: 1\r\nset-cookie: b=2\r\nSet-Cookie: a=1\r\nEmpty: \r\nObs: caf\xe9\r\n"
    door.replica.reply = Reply(Outcome(418, head, b"\x00\r\n\r\n\xff"), 41, ID)
    received = await door.exchange(request(b"POST /a", b"Connection: close"))
    assert received == (
        b"HTTP/1.1 418 I'm a Teapot\r\n" + head + b"Quorate-Index: 41\r\nQuorate-Request-Id: %b\r\n" % ID.hex().encode()
        + b"Via: 1.1 quorate-r1\r\nContent-Length: 6\r\nConnection: close\r\n\r\n\x00\r\n\r\n\xff"
    )  # fmt: skip


async def test_a_replayed_answer_says_so(door: Door) -> None:
    door.replica.reply = Reply(Outcome(201, b"", b""), 41, ID, replayed=True)
    assert (await ask(door, b"POST /a")).fields["idempotency-replayed"] == "true"
    door.replica.reply = Reply(Outcome(201, b"", b""), 41, ID)
    assert "idempotency-replayed" not in (await ask(door, b"POST /a")).fields


async def test_an_answer_outside_the_order_bears_no_index(door: Door) -> None:
    door.replica.reply = Reply(Outcome(200, b"", b""), 0)
    fields = (await ask(door, b"GET /pass")).fields
    assert "quorate-index" not in fields
    assert "quorate-request-id" not in fields
    assert fields["via"] == "1.1 quorate-r1"


async def test_a_client_turned_away_is_sent_elsewhere(door: Door) -> None:
    door.replica.reply = Reply(problem(503, "not_proposed", "Not proposed", "Try again.", retryable=True), 0)
    (answer,) = answers_of(await door.exchange(request(b"POST /a")))
    assert answer.status == 503
    assert answer.fields["connection"] == "close"


async def test_a_503_of_the_service_does_not_end_the_connection(door: Door) -> None:
    door.replica.reply = Reply(Outcome(503, b"", b"busy"), 41, ID)
    received = await door.exchange(request(b"POST /a") + request(b"POST /a", b"Connection: close"))
    assert [answer.fields.get("connection") for answer in answers_of(received)] == [None, "close"]


# --- what is answered here -------------------------------------------------------------------------------------------


async def test_a_stored_outcome_can_be_asked_for(door: Door) -> None:
    door.replica.outcomes[ID] = Reply(Outcome(201, b"", b"secret"), 41, ID)
    answer = await ask(door, b"GET /.well-known/quorate/outcomes/" + ID.hex().encode())
    assert answer.status == 200
    assert json.loads(answer.body) == {"request_id": ID.hex(), "index": 41, "status": 201}
    assert door.replica.calls == []


@pytest.mark.parametrize("name", [b"00" * 16, b"", b"zz" * 16, b"00", b"../x", b"00" * 17])
async def test_an_outcome_that_is_not_known(door: Door, name: bytes) -> None:
    answer = await ask(door, b"GET /.well-known/quorate/outcomes/" + name)
    assert (answer.status, json.loads(answer.body)["code"]) == (404, "unknown_request")
    assert door.replica.calls == []


async def test_outcomes_can_only_be_read(door: Door) -> None:
    answer = await ask(door, b"DELETE /.well-known/quorate/outcomes/" + ID.hex().encode())
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "via", [b"1.1 quorate-r1", b"1.0 edge, 1.1 quorate-r1 (here)", b"HTTP/1.1 quorate-r1, 1.1 edge"]
)
async def test_a_request_that_was_here_before_is_refused(door: Door, via: bytes) -> None:
    answer = await ask(door, b"POST /a", b"Via: " + via)
    assert (answer.status, json.loads(answer.body)["code"]) == (508, "loop_detected")
    assert door.replica.calls == []


@pytest.mark.parametrize(
    "via", [b"1.1 quorate-r2", b"1.1 quorate-r10", b"1.1 edge (quorate-r1)", b"1.1 my-quorate-r1", b""]
)
async def test_a_request_that_was_elsewhere_goes_on(door: Door, via: bytes) -> None:
    assert (await ask(door, b"POST /a", b"Via: " + via)).status == 200
    assert door.replica.calls[0].head.endswith(b"Via: 1.1 quorate-r1\r\nContent-Length: 0\r\n")
    assert re.findall(rb"\r\nVia: ([^\r]*)", door.replica.calls[0].head) == [via, b"1.1 quorate-r1"]


async def test_options_may_go_only_so_far(door: Door) -> None:
    answer = await ask(door, b"OPTIONS /a", b"Max-Forwards: 0")
    assert answer.status == 200
    assert "POST" in answer.fields["allow"]
    assert door.replica.calls == []
    await ask(door, b"OPTIONS /a", b"Max-Forwards: 5")
    assert b"Max-Forwards: 4\r\n" in door.replica.calls[0].head


# --- what is not for clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        b"/state",
        b"/state?x=1",
        b"/STATE",
        b"//state",
        b"/./state/",
        b"/a/../state",
        b"/%73tate",
        b"/state%3Fx",
        b"/\\state",
    ],
)
async def test_private_paths_are_reached_by_no_disguise(target: bytes) -> None:
    door = await open_door(RoutePolicy([]), private=("/state",))
    try:
        answer = await ask(door, b"PUT " + target, body=b"all of it")
        assert answer.status in (400, 403)
        assert answer.status == 400 or json.loads(answer.body)["code"] == "private_path"
        assert (await ask(door, b"GET /statement")).status == 200
        assert [call.head.split()[1] for call in door.replica.calls] == [b"/statement"]
    finally:
        door.server.close()


async def test_what_an_answer_survives_is_told_where_that_is_less_than_a_power_cut(door: Door) -> None:
    less = await open_door(RoutePolicy([]), durability=b"async")
    try:
        assert (await ask(less, b"POST /a")).fields["quorate-durability"] == "async"
        assert "quorate-durability" not in (await ask(door, b"POST /a")).fields
    finally:
        less.server.close()

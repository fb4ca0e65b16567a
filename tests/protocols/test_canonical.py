from __future__ import annotations

import pytest
from hypothesis import given
from tests.protocols import bytes_of

from quorate import limits
from quorate.protocols.canonical import canonical_call, delivery_bytes
from quorate.protocols.fields import HOP_BY_HOP, INTERNAL, HttpLimits
from quorate.protocols.requests import BadRequest, Request, RequestParser
from quorate.types import Call

VIA = b"quorate-r1"
CLIENT = b"192.0.2.7"


def parsed(data: bytes, client: bytes = b"") -> Request:
    parser = RequestParser(HttpLimits(), client)
    parser.feed(data)
    event = parser.next_event()
    assert isinstance(event, Request)
    return event


def test_a_call_is_written_anew() -> None:
    request = parsed(
        b"POST http://A.example/x?y HTTP/1.1\r\nhOST:a.EXAMPLE\r\nTransfer-Encoding: chunked\r\n"
        b"x-B:  1 \r\nX-A:2\r\n\r\n"
        b"2;q\r\nhi\r\n0\r\nX-T: 1\r\n\r\n"
    )
    head = b"POST /x?y HTTP/1.1\r\nhOST: a.EXAMPLE\r\nx-B: 1\r\nX-A: 2\r\nVia: 1.1 quorate-r1\r\nContent-Length: 2\r\n"
    assert canonical_call(request, VIA) == Call(b"POST", head, b"hi")


def test_what_ends_here_is_left_out() -> None:
    request = parsed(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop, Upgrade, HTTP2-Settings\r\nX-Hop: 1\r\n"
        b"Keep-Alive: 5\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nTE: trailers\r\nTrailer: X\r\n"
        b"Proxy-Connection: close\r\nProxy-Authorization: Basic eA==\r\nExpect: 100-continue\r\nContent-Length: 0\r\n"
        b"Quorate-Index: 1\r\nquorate-time: 2\r\nLog-Index: 3\r\nX-SMR-Id: 4\r\n"
        b"X-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer x\r\n\r\n"
    )
    assert canonical_call(request, VIA).head == (
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 10.0.0.1\r\nVia: 1.1 quorate-r1\r\n"
    )


@pytest.mark.parametrize(
    ("client", "before", "named"),
    [
        (CLIENT, [], b"192.0.2.7"),
        (b"2001:db8::7", [], b"2001:db8::7"),
        (CLIENT, [b"10.0.0.1"], b"10.0.0.1, 192.0.2.7"),
        (CLIENT, [b"10.0.0.1 ,10.0.0.2"], b"10.0.0.1 ,10.0.0.2, 192.0.2.7"),
        (CLIENT, [b"10.0.0.1", b"10.0.0.2, 10.0.0.3"], b"10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7"),
        (CLIENT, [CLIENT], b"192.0.2.7, 192.0.2.7"),
        (CLIENT, [b"caf\xe9"], b"caf\xe9, 192.0.2.7"),
        (CLIENT, [b" "], b"192.0.2.7"),
        (b"", [b"10.0.0.1", b"10.0.0.2"], b"10.0.0.1, 10.0.0.2"),
    ],
)
def test_the_client_is_named_last_in_one_field(client: bytes, before: list[bytes], named: bytes) -> None:
    lines = b"A: b\r\n".join([b"x-forwarded-FOR:" + value + b"\r\n" for value in before])
    head = canonical_call(parsed(b"GET / HTTP/1.1\r\n" + lines + b"Host: a\r\n\r\n", client), VIA).head
    assert head.endswith(b"Host: a\r\nX-Forwarded-For: " + named + b"\r\nVia: 1.1 quorate-r1\r\n")
    assert head.lower().count(b"x-forwarded-for") == 1


def test_nobody_is_named_where_nobody_is_known() -> None:
    for line in (b"", b"X-Forwarded-For:\r\n"):
        request = parsed(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n")
        assert canonical_call(request, VIA).head == b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 quorate-r1\r\n"


def test_what_is_added_to_the_largest_request_leaves_room_in_a_command() -> None:
    start = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n" % limits.BODY_BYTES_MAX + b"A:\r\n" * (limits.FIELDS_MAX - 2)
    longest = b"X-Forwarded-For:" + b"1" * (limits.HEAD_BYTES_MAX - len(start) - 20)
    request = parsed(
        start + longest + b"\r\n\r\n" + b"x" * limits.BODY_BYTES_MAX, b"2001:db8:" + b"1234:" * 5 + b"1234"
    )
    call = canonical_call(request, b"quorate-r%d" % limits.REPLICA_ID_MAX)
    assert len(call.head) > limits.HEAD_BYTES_MAX
    assert len(call.head) + len(call.body) < limits.COMMAND_BYTES_MAX - 1024


def test_via_comes_after_those_before_us_and_tells_the_version_received() -> None:
    request = parsed(b"GET / HTTP/1.0\r\nVia: 1.1 edge\r\nA: b\r\n\r\n")
    assert canonical_call(request, VIA).head == (
        b"GET / HTTP/1.1\r\nHost: \r\nVia: 1.1 edge\r\nA: b\r\nVia: 1.0 quorate-r1\r\n"
    )


def test_methods_whose_content_means_something_state_its_length() -> None:
    for method, stated in [(b"POST", True), (b"PUT", True), (b"PATCH", True), (b"GET", False), (b"DELETE", False)]:
        call = canonical_call(parsed(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"), VIA)
        assert (b"Content-Length: 0\r\n" in call.head) is stated
    with_body = parsed(b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    assert canonical_call(with_body, VIA).head.endswith(b"Content-Length: 1\r\n")


def test_max_forwards_counts_down_for_options_alone() -> None:
    for method, shown in [(b"OPTIONS", b"Max-Forwards: 2\r\n"), (b"GET", b"Max-Forwards: 3\r\n")]:
        request = parsed(method + b" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n")
        assert shown in canonical_call(request, VIA).head


def test_delivery_adds_what_is_injected() -> None:
    assert delivery_bytes(b"PUT / HTTP/1.1\r\nHost: a\r\n", b"Quorate-Index: 7\r\n", b"x") == (
        b"PUT / HTTP/1.1\r\nHost: a\r\nQuorate-Index: 7\r\n\r\nx"
    )


@bytes_of.PROPERTY
@given(bytes_of.requests())
def test_what_is_delivered_is_what_was_asked(data: bytes) -> None:
    parser = RequestParser(HttpLimits(), CLIENT)
    parser.feed(data)
    try:
        request = parser.next_event()
    except BadRequest:
        return
    if not isinstance(request, Request) or not request.get(b"host"):
        return  # without a Host in HTTP/1.0, an empty one is delivered, which we would not take ourselves
    call = canonical_call(request, VIA)
    again = parsed(delivery_bytes(call.head, b"", call.body))
    assert (again.method, again.target, again.body) == (request.method, request.target, request.body)
    assert not HOP_BY_HOP & set(again.values)
    named = b", ".join(filter(None, [request.get(b"x-forwarded-for"), CLIENT]))
    assert again.values[b"x-forwarded-for"] == again.get(b"x-forwarded-for") == named
    assert end_to_end(again) == [*end_to_end(request), (b"Via", b"1.%d quorate-r1" % (not request.http10))]
    assert canonical_call(again, VIA).body == call.body


def end_to_end(request: Request) -> list[tuple[bytes, bytes]]:
    other = HOP_BY_HOP | {b"expect", b"content-length", b"max-forwards", b"x-forwarded-for"}
    return [
        (name, value) for name, lower, value in request.fields if lower not in other and not lower.startswith(INTERNAL)
    ]

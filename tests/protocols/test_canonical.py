from __future__ import annotations

from hypothesis import given
from tests.protocols import bytes_of

from quorate.protocols.canonical import canonical_call, delivery_bytes
from quorate.protocols.fields import HOP_BY_HOP, HttpLimits
from quorate.protocols.requests import BadRequest, Request, RequestParser
from quorate.types import Call

VIA = b"quorate-r1"


def parsed(data: bytes) -> Request:
    parser = RequestParser(HttpLimits())
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
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer x\r\nVia: 1.1 quorate-r1\r\n"
    )


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
    parser = RequestParser(HttpLimits())
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
    assert end_to_end(again) == [*end_to_end(request), (b"Via", b"1.%d quorate-r1" % (not request.http10))]
    assert canonical_call(again, VIA).body == call.body


def end_to_end(request: Request) -> list[tuple[bytes, bytes]]:
    ended = HOP_BY_HOP | {b"expect", b"content-length", b"max-forwards", b"quorate-index", b"log-index", b"x-smr-id"}
    return [(name, value) for name, lower, value in request.fields if lower not in ended]

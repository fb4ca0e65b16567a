"""The opening handshake of WebSocket: what is one, what the service gets, and which 101 is believed."""

from __future__ import annotations

import pytest

from quorate.protocols.canonical import canonical_call
from quorate.protocols.fields import HttpLimits, Malformed
from quorate.protocols.requests import BadRequest, Request, RequestParser
from quorate.protocols.responses import BadResponse, ResponseParser
from quorate.protocols.upgrades import (
    asks_for_websocket,
    check_switching,
    expected_accept,
    switching_bytes,
    upgrade_bytes,
)
from quorate.types import Outcome

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455 §1.3."""
ASKING = (b"Connection: Upgrade", b"Upgrade: websocket")
SWITCHED = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + ACCEPT)


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n"


def request(*fields: bytes, line: bytes = b"GET /ws HTTP/1.1", rest: bytes = b"") -> Request:
    parser = RequestParser(HttpLimits())
    parser.feed(head(line, b"Host: a", *fields) + rest)
    event = parser.next_event()
    assert isinstance(event, Request)
    return event


def parser() -> ResponseParser:
    one = ResponseParser(HttpLimits(), ACCEPT)
    one.expect(b"GET")
    return one


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ASKING,
        (b"upgrade: WebSocket", b"connection: keep-alive, UPGRADE"),
        (b"Connection: keep-alive", b"Upgrade:websocket", b"Connection: upgrade"),
    ],
)
def test_an_upgrade_to_websocket(fields: tuple[bytes, ...]) -> None:
    assert asks_for_websocket(request(*fields))


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"GET / HTTP/1.1", ()),
        (b"GET / HTTP/1.1", (b"Upgrade: websocket",)),
        (b"GET / HTTP/1.1", (b"Connection: Upgrade",)),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive", b"Upgrade: websocket")),
        (b"GET / HTTP/1.1", (b"Connection: Upgrade", b"Upgrade: h2c")),
        (b"GET / HTTP/1.1", (b"Connection: Upgrade", b"Upgrade: h2c, websocket")),
        (b"GET / HTTP/1.1", (b"Connection: Upgrade", b"Upgrade: websocket/13")),
        (b"GET / HTTP/1.1", (*ASKING, b"Upgrade: websocket")),
        (b"GET / HTTP/1.1", (*ASKING, b"Upgrade: h2c")),
        (b"GET / HTTP/1.0", ASKING),
        (b"HEAD / HTTP/1.1", ASKING),
        (b"POST / HTTP/1.1", ASKING),
    ],
)
def test_what_is_no_upgrade_to_websocket(line: bytes, fields: tuple[bytes, ...]) -> None:
    assert not asks_for_websocket(request(*fields, line=line))


def test_an_upgrade_does_not_hide_bad_framing() -> None:
    for fields in ((b"Content-Length: 1", b"Transfer-Encoding: chunked"), (b"Content-Length: +1",)):
        with pytest.raises(BadRequest):
            request(*ASKING, *fields)


def test_what_comes_behind_the_request_is_handed_out_once() -> None:
    one = RequestParser(HttpLimits())
    one.feed(head(b"GET / HTTP/1.1", b"Host: a", *ASKING) + b"\r\nGET /smuggled")
    assert isinstance(one.next_event(), Request)
    assert (one.take_rest(), one.take_rest(), one.phase) == (b"\r\nGET /smuggled", b"", "idle")


def test_the_service_gets_a_handshake_in_canonical_form() -> None:
    fields = (b"upgrade:  WebSocket", b"Connection: keep-alive, upgrade, X-Hop", b"X-Hop: 1", KEY)
    call = canonical_call(request(*fields, b"Sec-WebSocket-Version: 13", b"Quorate-Index: 7"), b"quorate-r1")
    assert upgrade_bytes(call) == head(
        b"GET /ws HTTP/1.1", b"Host: a", KEY, b"Sec-WebSocket-Version: 13", b"Via: 1.1 quorate-r1",
        b"Connection: Upgrade", b"Upgrade: websocket",
    )  # fmt: skip


def test_the_accept_of_the_standard() -> None:
    assert expected_accept(request(*ASKING, KEY)) == ACCEPT
    assert expected_accept(request(*ASKING)) != ACCEPT


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_101_is_an_answer_whose_rest_is_the_tunnels() -> None:
    one = parser()
    data = head(
        b"HTTP/1.1 101 Hi", *SWITCHED, b"Sec-WebSocket-Protocol: chat", b"Quorate-Index: 9", b"Content-Length: 3"
    )
    outcome = one.feed(data + b"\x81\x01x")
    assert outcome == Outcome(101, b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: chat\r\n", b"")
    assert (one.take_rest(), one.take_rest(), one.keep_alive) == (b"\x81\x01x", b"", False)
    assert switching_bytes(outcome, b"Via: 1.1 us\r\n") == head(
        b"HTTP/1.1 101 Switching Protocols", b"Sec-WebSocket-Accept: " + ACCEPT, b"Sec-WebSocket-Protocol: chat",
        b"Via: 1.1 us", b"Connection: Upgrade", b"Upgrade: websocket",
    )  # fmt: skip


def test_a_101_that_dribbles_behind_interim_answers() -> None:
    data = head(b"HTTP/1.1 103 Early Hints", b"Link: x") + head(b"HTTP/1.1 101 x", *SWITCHED)
    one = parser()
    outcomes = [one.feed(data[at : at + 1]) for at in range(len(data))]
    assert outcomes[:-1] == [None] * (len(data) - 1)
    assert outcomes[-1] is not None
    assert outcomes[-1].status == 101


def test_any_other_answer_is_one_like_all() -> None:
    data = head(b"HTTP/1.1 426 Upgrade Required", b"Sec-WebSocket-Version: 13", b"Content-Length: 2") + b"no"
    assert parser().feed(data) == Outcome(426, b"Sec-WebSocket-Version: 13\r\n", b"no")


@pytest.mark.parametrize(
    "data",
    [
        head(b"HTTP/1.0 101 x", *SWITCHED),
        head(b"HTTP/1.1 101 x"),
        head(b"HTTP/1.1 101 x", *SWITCHED[1:]),
        head(b"HTTP/1.1 101 x", b"Upgrade: h2c", *SWITCHED[1:]),
        head(b"HTTP/1.1 101 x", SWITCHED[0], *SWITCHED),
        head(b"HTTP/1.1 101 x", SWITCHED[0], SWITCHED[2]),
        head(b"HTTP/1.1 101 x", SWITCHED[0], b"Connection: keep-alive", SWITCHED[2]),
        head(b"HTTP/1.1 101 x", *SWITCHED[:2]),
        head(b"HTTP/1.1 101 x", *SWITCHED, SWITCHED[2]),
        head(b"HTTP/1.1 101 x", *SWITCHED[:2], b"Sec-WebSocket-Accept: " + ACCEPT.lower()),
    ],
)
def test_a_101_that_is_none(data: bytes) -> None:
    with pytest.raises(BadResponse):
        parser().feed(data)


def test_a_101_nobody_asked_for() -> None:
    one = ResponseParser(HttpLimits())
    one.expect(b"GET")
    with pytest.raises(BadResponse):
        one.feed(head(b"HTTP/1.1 101 x", *SWITCHED))


def test_the_fields_of_a_switch() -> None:
    fields = [
        (b"", b"upgrade", b"WebSocket"),
        (b"", b"connection", b"x, upgrade"),
        (b"", b"sec-websocket-accept", b"a"),
    ]
    check_switching(fields, b"a")
    with pytest.raises(Malformed):
        check_switching(fields, b"b")

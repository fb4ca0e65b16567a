from __future__ import annotations

import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols import bytes_of

from quorate.protocols.fields import HttpLimits
from quorate.protocols.requests import EXPECT, BadRequest, Expect, Request, RequestParser

Event = Request | Expect | str


def events_of(pieces: list[bytes], limits: HttpLimits | None = None) -> list[Event]:
    """Return the events of bytes fed piece by piece; a refusal ends them with its code."""
    parser = RequestParser(limits or HttpLimits())
    events: list[Event] = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (event := parser.next_event()) is not None:
                events.append(event)
    except BadRequest as fault:
        events.append(fault.code)
    return events


def only(data: bytes) -> Request:
    (event,) = events_of([data])
    assert isinstance(event, Request)
    return event


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a.example") -> bytes:
    return b"\r\n".join([line, host, *fields]) + b"\r\n\r\n"


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_a_request_keeps_the_order_and_case_of_its_fields() -> None:
    request = only(get(b"b-Two:  x y \t", b"A-One:", b"b-tWO: z", line=b"PUT /p?q HTTP/1.1"))
    assert (request.method, request.target, request.body) == (b"PUT", b"/p?q", b"")
    assert request.fields == [
        (b"Host", b"host", b"a.example"),
        (b"b-Two", b"b-two", b"x y"),
        (b"A-One", b"a-one", b""),
        (b"b-tWO", b"b-two", b"z"),
    ]
    assert request.get(b"b-two") == b"x y, z"
    assert request.get(b"a-one") == b""
    assert request.get(b"host") == b"a.example"
    assert request.get(b"none") is None


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST", b"PURGE"])
def test_any_method_may_have_a_body_and_it_is_framed(method: bytes) -> None:
    sized = method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET "
    chunked = (
        method + b" / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nG\r\n003;x=y\r\nET \r\n0\r\n\r\n"
    )
    first, second = events_of([sized + chunked])
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.body == second.body == b"GET "


def test_every_request_tells_whose_it_is() -> None:
    whole, sized = get(), get(b"Content-Length: 2", b"Expect: 100-continue") + b"hi"
    requests = []
    parser = RequestParser(HttpLimits(), b"192.0.2.7")
    for piece in (whole, sized, sized[:9], sized[9:-1], sized[-1:], get(b"Transfer-Encoding: chunked"), b"0\r\n\r\n"):
        parser.feed(piece)
        while (event := parser.next_event()) is not None:
            requests += [event] if isinstance(event, Request) else []
    assert [request.client for request in requests] == [b"192.0.2.7"] * 4
    assert only(whole).client == b""


def test_trailers_are_dropped() -> None:
    request = only(get(b"Transfer-Encoding: chunked") + b"0\r\nAuthorization: me\r\nX: y\r\n\r\n")
    assert request.get(b"authorization") is None
    assert request.get(b"x") is None


def test_one_blank_line_before_a_request_is_forgiven() -> None:
    assert [type(event) for event in events_of([b"\r\n" + get() + b"\r\n" + get()])] == [Request, Request]
    assert events_of([b"\r\n\r\n" + get()]) == ["bad_request"]


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"http://a.example/x?y", b"/x?y"),
        (b"HTTPS://A.EXAMPLE/x", b"/x"),
        (b"http://a.example", b"/"),
        (b"http://a.example?y", b"/?y"),
        (b"//a.example/x", b"//a.example/x"),
    ],
)
def test_an_absolute_target_becomes_a_path(target: bytes, origin: bytes) -> None:
    assert only(get(line=b"GET " + target + b" HTTP/1.1")).target == origin


def test_options_may_mean_the_server() -> None:
    assert only(get(line=b"OPTIONS * HTTP/1.1")).target == b"*"
    assert only(get(line=b"OPTIONS http://a.example HTTP/1.1")).target == b"*"
    assert only(get(line=b"OPTIONS http://a.example/ HTTP/1.1")).target == b"/"


@pytest.mark.parametrize("host", [b"a", b"a:80", b"A.b-c_d.example", b"127.0.0.1:8001", b"[::1]", b"[2001:db8::1]:80"])
def test_hosts(host: bytes) -> None:
    assert only(get(host=b"Host: " + host)).get(b"host") == host


def test_http10_needs_no_host_and_gets_one() -> None:
    assert only(b"GET / HTTP/1.0\r\n\r\n").fields == [(b"Host", b"host", b"")]
    assert only(b"GET http://b.example/ HTTP/1.0\r\nA: b\r\n\r\n").get(b"host") == b"b.example"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close, x", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_how_long_the_connection_lives(version: bytes, connection: bytes | None, kept: bool) -> None:
    fields = [] if connection is None else [b"Connection: " + connection]
    request = only(get(*fields, line=b"GET / HTTP/" + version))
    assert request.keep_alive is kept
    assert request.http10 is (version == b"1.0")


def test_nominated_fields_end_here() -> None:
    request = only(get(b"X-A: 1", b"Connection: x-a ,, X-B", b"x-b: 2", b"X-C: 3", b"Connection: close"))
    assert [lower for _, lower, _ in request.fields] == [b"host", b"connection", b"x-c", b"connection"]
    assert request.get(b"x-a") is None
    assert not request.keep_alive


# --- expectations ----------------------------------------------------------------------------------------------------


def test_expect_is_told_before_the_body_comes() -> None:
    parser = RequestParser(HttpLimits())
    parser.feed(get(b"Expect: 100-Continue", b"Content-Length: 2"))
    assert parser.next_event() is EXPECT
    assert parser.next_event() is None
    assert parser.phase == "body"
    parser.feed(b"ok")
    request = parser.next_event()
    assert isinstance(request, Request)
    assert request.body == b"ok"


def test_a_body_that_came_without_waiting_is_consumed() -> None:
    events = events_of([get(b"Expect: 100-continue", b"Content-Length: 4") + b"GET " + get()])
    assert [type(event) for event in events] == [Expect, Request, Request]


def test_nothing_is_told_when_there_is_nothing_to_wait_for() -> None:
    assert isinstance(only(get(b"Expect: 100-continue")), Request)
    assert isinstance(only(get(b"Expect: 100-continue", b"Content-Length: 0")), Request)
    old = get(b"Expect: 100-continue", b"Content-Length: 1", line=b"POST / HTTP/1.0") + b"x"
    assert only(old).body == b"x"  # RFC 9110 §10.1.1: ignored in HTTP/1.0


# --- bounds and phases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "good", "bad", "code"),
    [
        (HttpLimits(request_line_bytes_max=16), get(), get(line=b"GET /a HTTP/1.1"), "uri_too_long"),
        (HttpLimits(head_bytes_max=35), get(), get(host=b"Host: aa.example"), "fields_too_large"),
        (HttpLimits(fields_max=2), get(b"A: b"), get(b"A: b", b"C: d"), "fields_too_large"),
        (
            HttpLimits(body_bytes_max=1),
            get(b"Content-Length: 1") + b"x",
            get(b"Content-Length: 2") + b"xx",
            "content_too_large",
        ),
        (
            HttpLimits(body_bytes_max=1),
            get(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
            get(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n1\r\nx\r\n0\r\n\r\n",
            "content_too_large",
        ),
        (
            HttpLimits(chunk_extension_bytes_max=4),
            get(b"Transfer-Encoding: chunked") + b"1;a\r\nx\r\n0;b\r\n\r\n",
            get(b"Transfer-Encoding: chunked") + b"1;a\r\nx\r\n0;bc\r\n\r\n",
            "bad_request",
        ),
    ],
    ids=["request line", "head", "fields", "length", "chunks", "extensions"],
)
def test_bounds_are_exact(limits: HttpLimits, good: bytes, bad: bytes, code: str) -> None:
    for pieces in ([good], [good[i : i + 1] for i in range(len(good))]):
        assert [type(event) for event in events_of(pieces, limits)] == [Request]
    for pieces in ([bad], [bad[i : i + 1] for i in range(len(bad))]):
        assert events_of(pieces, limits) == [code]


def test_phases_tell_what_is_awaited() -> None:
    parser = RequestParser(HttpLimits())
    assert parser.phase == "idle"
    for piece, phase in [
        (b"GET", "head"),
        (b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", "body"),
        (b"ab", "body"),
        (b"c", "idle"),
        (b"\r\n", "idle"),
    ]:
        parser.feed(piece)
        parser.next_event()
        assert parser.phase == phase
    assert parser.buffered == 0


def test_the_bytes_of_a_body_are_counted() -> None:
    parser = RequestParser(HttpLimits())
    parser.feed(get(b"Content-Length: 9") + b"abc")
    assert parser.next_event() is None
    parser.feed(b"de")
    assert parser.body_bytes == 5


def test_a_refusal_is_a_problem_document() -> None:
    parser = RequestParser(HttpLimits())
    parser.feed(get(line=b"TRACE / HTTP/1.1"))
    with pytest.raises(BadRequest) as caught:
        parser.next_event()
    outcome = caught.value.outcome
    assert outcome.status == 405
    assert b"Allow: GET, " in outcome.head
    assert json.loads(outcome.body)["code"] == caught.value.code == "method_not_allowed"


# --- properties ------------------------------------------------------------------------------------------------------


@bytes_of.PROPERTY
@given(bytes_of.cut(bytes_of.requests()))
def test_however_the_bytes_are_cut_the_events_are_the_same(cut: tuple[bytes, list[bytes]]) -> None:
    data, pieces = cut
    assert events_of(pieces) == events_of([data])


@bytes_of.PROPERTY
@given(bytes_of.cut(bytes_of.requests()), st.integers(2, 120), st.integers(2, 60), st.integers(0, 6), st.integers(0, 9))
def test_bounds_hold_however_the_bytes_are_cut(
    cut: tuple[bytes, list[bytes]], head: int, line: int, fields: int, body: int
) -> None:
    limits = HttpLimits(
        head_bytes_max=head,
        request_line_bytes_max=line,
        fields_max=fields,
        body_bytes_max=body,
        chunk_extension_bytes_max=body,
    )
    data, pieces = cut
    assert events_of(pieces, limits) == events_of([data], limits)


@bytes_of.PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_refusal(data: bytes) -> None:
    events_of([data])


@bytes_of.PROPERTY
@given(bytes_of.requests())
def test_whatever_is_accepted_h11_reads_the_same(data: bytes) -> None:
    oracle = Oracle(data)
    for event in events_of([data]):
        if isinstance(event, Request):
            oracle.agrees(event)


class Oracle:
    """h11's reading of the same bytes, one request at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def agrees(self, request: Request) -> None:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(self._rest.removeprefix(b"\r\n"))  # h11 doesn't forgive the blank line
        theirs = connection.next_event()
        assert isinstance(theirs, h11.Request)
        assert theirs.method == request.method
        assert theirs.target == request.target or theirs.target.lower().startswith(b"http")
        sent = [(bytes(name), bytes(value)) for name, value in theirs.headers.raw_items()]
        ours = [
            (name, value.lower() if lower == b"transfer-encoding" else value)  # as h11 shows it
            for name, lower, value in request.fields
            if lower != b"host" or (name, value) in sent  # HTTP/1.0 may do without
        ]
        kept = {lower for _, lower, _ in request.fields}
        assert [field for field in sent if field[0].lower() in kept] == ours
        assert self._body(connection) == request.body

    def _body(self, connection: h11.Connection) -> bytes:
        body = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
        self._rest = connection.trailing_data[0]
        return body

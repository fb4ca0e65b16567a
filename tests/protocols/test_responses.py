from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols import bytes_of

from quorate.protocols.fields import HttpLimits
from quorate.protocols.problems import problem
from quorate.protocols.responses import BadResponse, ResponseParser, response_bytes
from quorate.types import Outcome


def parser_for(method: bytes = b"GET", limits: HttpLimits | None = None) -> ResponseParser:
    parser = ResponseParser(limits or HttpLimits())
    parser.expect(method)
    return parser


def read(data: bytes, method: bytes = b"GET", limits: HttpLimits | None = None) -> Outcome:
    outcome = parser_for(method, limits).feed(data)
    assert outcome is not None
    return outcome


def answer(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body


# --- what an outcome keeps -------------------------------------------------------------------------------------------


def test_end_to_end_fields_keep_order_and_case() -> None:
    data = answer(
        b"Set-Cookie: b=2",
        b"x-Odd:  a \t",
        b"Content-Length: 2",
        b"set-cookie: a=1",
        b"Date: today",
        b"Empty:",
        body=b"ok",
    )
    assert read(data) == Outcome(
        200, b"Set-Cookie: b=2\r\nx-Odd: a\r\nset-cookie: a=1\r\nDate: today\r\nEmpty: \r\n", b"ok"
    )


def test_hop_by_hop_fields_and_our_own_names_end_here() -> None:
    data = answer(
        b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Upgrade: h2c", b"Trailer: X",
        b"Proxy-Authenticate: Basic", b"TE: x", b"Quorate-Index: 9", b"Kept: yes", b"Content-Length: 0",
    )  # fmt: skip
    assert read(data).head == b"Kept: yes\r\n"


@pytest.mark.parametrize(
    ("status", "method", "head"),
    [
        (b"200 OK", b"HEAD", b"Content-Length: 7\r\nA: b\r\n"),
        (b"304 Not Modified", b"GET", b"Content-Length: 7\r\nA: b\r\n"),
        (b"204 No Content", b"GET", b"A: b\r\n"),
        (b"204 No Content", b"HEAD", b"A: b\r\n"),
    ],
)
def test_answers_without_a_body(status: bytes, method: bytes, head: bytes) -> None:
    parser = parser_for(method)
    outcome = parser.feed(answer(b"Content-Length: 7", b"A: b", line=b"HTTP/1.1 " + status))
    assert outcome == Outcome(int(status[:3]), head, b"")
    assert parser.keep_alive


def test_a_head_may_describe_more_than_could_be_read() -> None:
    assert read(answer(b"Content-Length: 9999999999"), b"HEAD").head == b"Content-Length: 9999999999\r\n"
    assert read(answer(b"Transfer-Encoding: chunked"), b"HEAD") == Outcome(200, b"", b"")


def test_a_chunked_body_is_put_together_and_its_trailers_dropped() -> None:
    data = answer(b"Transfer-Encoding: chunked", body=b"3;x=y\r\nabc\r\n01\r\nd\r\n0\r\nA: b\r\n\r\n")
    assert read(data) == Outcome(200, b"", b"abcd")


def test_interim_answers_are_dropped() -> None:
    interim = answer(line=b"HTTP/1.1 100 Continue") + answer(b"Link: x", line=b"HTTP/1.1 103 Early Hints")
    assert read(interim + answer(b"Content-Length: 0")) == Outcome(200, b"", b"")


def test_a_missing_reason_is_forgiven() -> None:
    assert read(answer(b"Content-Length: 0", line=b"HTTP/1.1 599")).status == 599
    assert read(answer(b"Content-Length: 0", line=b"HTTP/1.1 200 ")).status == 200


# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "connection", "kept"),
    [
        (b"HTTP/1.1 200 OK", b"", True),
        (b"HTTP/1.1 200 OK", b"Connection: close\r\n", False),
        (b"HTTP/1.0 200 OK", b"", False),
        (b"HTTP/1.0 200 OK", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_whether_the_connection_can_be_used_again(line: bytes, connection: bytes, kept: bool) -> None:
    parser = parser_for()
    assert parser.feed(line + b"\r\n" + connection + b"Content-Length: 0\r\n\r\n") is not None
    assert parser.keep_alive is kept


def test_several_answers_on_one_connection() -> None:
    parser = ResponseParser(HttpLimits())
    for body in (b"one", b"", b"three"):
        parser.expect(b"POST")
        assert not parser.started
        assert parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: ") is None
        outcome = parser.feed(b"%d\r\n\r\n%b" % (len(body), body))
        assert outcome == Outcome(200, b"", body)
    assert parser.keep_alive
    assert parser.eof() is None


def test_bytes_beyond_the_answer_spoil_the_connection() -> None:
    parser = parser_for()
    assert parser.feed(answer(b"Content-Length: 1", body=b"ab")) == Outcome(200, b"", b"a")
    assert not parser.keep_alive


def test_what_nobody_asked_for_is_refused() -> None:
    with pytest.raises(BadResponse, match="nobody asked"):
        ResponseParser(HttpLimits()).feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")


def test_a_body_may_end_with_the_connection() -> None:
    parser = parser_for()
    assert parser.feed(answer(b"A: b", body=b"some")) is None
    assert parser.feed(b" more") is None
    assert parser.eof() == Outcome(200, b"A: b\r\n", b"some more")
    assert not parser.keep_alive


@pytest.mark.parametrize(
    ("data", "started"),
    [
        (b"", False),
        (b"H", True),
        (answer(b"Content-Length: 5", body=b"1234"), True),
        (answer(b"Transfer-Encoding: chunked", body=b"0\r\n"), True),
        (answer(line=b"HTTP/1.1 100 Continue"), True),
    ],
)
def test_a_connection_closed_too_early(data: bytes, started: bool) -> None:
    parser = parser_for()
    if data:
        assert parser.feed(data) is None
    with pytest.raises(BadResponse, match="middle" if started else "without an answer"):
        parser.eof()
    assert parser.started is started


# --- answers to pipelined requests -----------------------------------------------------------------------------------


def parser_for_all(*methods: bytes) -> ResponseParser:
    parser = ResponseParser(HttpLimits())
    for method in methods:
        parser.expect(method)
    return parser


def test_answers_in_one_piece_are_taken_one_by_one() -> None:
    parser = parser_for_all(b"POST", b"HEAD", b"GET", b"GET")
    one = answer(b"Content-Length: 3", body=b"one")
    two = answer(b"Content-Length: 3")
    three = answer(b"Transfer-Encoding: chunked", body=b"5\r\nthree\r\n0\r\n\r\n")
    interim = answer(line=b"HTTP/1.1 103 Early Hints")
    outcomes = [parser.feed(one + two + three + interim + one[:-1]), parser.feed(b""), parser.feed(b"")]
    assert outcomes == [
        Outcome(200, b"", b"one"),
        Outcome(200, b"Content-Length: 3\r\n", b""),
        Outcome(200, b"", b"three"),
    ]
    assert parser.feed(b"") is None
    assert parser.feed(b"e") == Outcome(200, b"", b"one")
    assert parser.keep_alive
    assert parser.eof() is None


def test_a_connection_that_closes_in_the_middle_leaves_requests_unanswered() -> None:
    parser = parser_for_all(b"POST", b"POST", b"POST")
    last = answer(b"Content-Length: 1", b"Connection: close", body=b"2")
    assert parser.feed(answer(b"Content-Length: 1", body=b"1") + last) == Outcome(200, b"", b"1")
    assert parser.keep_alive
    assert parser.feed(b"") == Outcome(200, b"", b"2")
    assert not parser.keep_alive
    with pytest.raises(BadResponse, match="without an answer"):
        parser.eof()
    assert not parser.started


def test_an_answer_that_ends_with_the_connection_is_the_last() -> None:
    parser = parser_for_all(b"GET", b"GET")
    assert parser.feed(answer(body=b"all of it")) is None
    assert parser.eof() == Outcome(200, b"", b"all of it")
    with pytest.raises(BadResponse, match="without an answer"):
        parser.eof()


def test_each_answer_may_follow_interim_ones() -> None:
    """The bound is on those before one answer, not on the connection."""
    parser = parser_for_all(*[b"GET"] * 9)
    parser.feed((answer(line=b"HTTP/1.1 103 Early Hints") * 8 + answer(b"Content-Length: 0")) * 9)
    for _ in range(8):
        assert parser.feed(b"") == Outcome(200, b"", b"")


def test_what_comes_beyond_the_last_awaited_answer_spoils_the_connection() -> None:
    parser = parser_for_all(b"GET", b"GET")
    assert parser.feed(answer(b"Content-Length: 0") * 2 + b"x") == Outcome(200, b"", b"")
    assert parser.feed(b"") == Outcome(200, b"", b"")
    assert not parser.keep_alive


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\x00K\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"hello\r\n",
        answer(line=b"HTTP/1.1 101 Switching Protocols"),
        answer(line=b"HTTP/1.1 100 Continue") * 9,
        answer(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        answer(b"Content-Length: 1", b"Content-Length: 1"),
        answer(b"Content-Length: 1, 1"),
        answer(b"Content-Length: +1"),
        answer(b"Content-Length: 9223372036854775807"),
        answer(b"Content-Length: 9223372036854775808"),
        answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        answer(b"Transfer-Encoding: gzip, chunked"),
        answer(b"Transfer-Encoding: xchunked"),
        answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
        answer(b"Transfer-Encoding: chunked", body=b"0x1\r\n"),
        answer(b"Transfer-Encoding: chunked", body=b"1\r\naX\r\n"),
        answer(b"Transfer-Encoding: chunked", body=b"1\naa"),
        answer(b"Transfer-Encoding: chunked", body=b"1;" + b"x" * 2000),
        answer(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 1\r\n"),
        answer(b"A : b"),
        answer(b"A: b\r\n c"),
        answer(b" A: b"),
        answer(b"A: b\nC: d"),
        answer(b"A: b\rC: d"),
        answer(b"A: \x00"),
        answer(b"no colon"),
        answer(b"Connection: Content-Length", b"Content-Length: 1"),
        answer(b"Connection: a b"),
        answer(b"A: " + b"b" * 65536),
        b"HTTP/1.1 200 " + b"x" * 65536,
    ],
)
def test_nonsense_of_the_service_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        parser_for().feed(data)


def test_the_size_of_a_body_is_bounded_however_it_is_framed() -> None:
    limits = HttpLimits(response_body_bytes_max=3)
    assert read(answer(b"Content-Length: 3", body=b"abc"), limits=limits).body == b"abc"
    for data in (
        answer(b"Content-Length: 4"),
        answer(b"Transfer-Encoding: chunked", body=b"2\r\nab\r\n2\r\n"),
        answer(body=b"abcd"),
    ):
        with pytest.raises(BadResponse):
            parser_for(limits=limits).feed(data)


# --- what a client gets ----------------------------------------------------------------------------------------------


def test_an_answer_is_framed() -> None:
    assert response_bytes(Outcome(404, b"A: b\r\n", b"no"), b"Via: 1.1 x\r\n", head_only=False, close=False) == (
        b"HTTP/1.1 404 Not Found\r\nA: b\r\nVia: 1.1 x\r\nContent-Length: 2\r\n\r\nno"
    )
    assert response_bytes(Outcome(299, b"", b""), b"", head_only=False, close=True) == (
        b"HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


def test_an_answer_without_a_body_is_not_given_a_length() -> None:
    for status in (204, 304):
        data = response_bytes(Outcome(status, b"", b""), b"", head_only=False, close=False)
        assert data.endswith(b"\r\n\r\n")
        assert b"Content-Length" not in data


def test_an_answer_to_head_describes_the_body_it_leaves_out() -> None:
    described = response_bytes(Outcome(200, b"Content-Length: 7\r\n", b""), b"", head_only=True, close=False)
    assert described == b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    refusal = problem(404, "none", "None", "None.")
    data = response_bytes(refusal, b"", head_only=True, close=False)
    assert b"Content-Length: %d\r\n" % len(refusal.body) in data
    assert data.endswith(b"\r\n\r\n")


# --- properties ------------------------------------------------------------------------------------------------------


def outcome_of(pieces: list[bytes], method: bytes) -> Outcome | str | None:
    """Return the first outcome of bytes fed piece by piece, or that they were refused."""
    parser = parser_for(method)
    try:
        for piece in pieces:
            outcome = parser.feed(piece)
            if outcome is not None:
                return outcome
        return parser.eof()
    except BadResponse:
        return "refused"


@bytes_of.PROPERTY
@given(bytes_of.cut(bytes_of.responses()), st.sampled_from([b"GET", b"HEAD"]))
def test_however_the_bytes_are_cut_the_outcome_is_the_same(cut: tuple[bytes, list[bytes]], method: bytes) -> None:
    data, pieces = cut
    assert outcome_of(pieces, method) == outcome_of([data], method)


def outcomes_of(pieces: list[bytes], count: int) -> list[Outcome | str]:
    """Return up to `count` outcomes of bytes fed piece by piece while as many answers are awaited, or a refusal."""
    parser = parser_for_all(*[b"GET"] * count)
    outcomes: list[Outcome | str] = []
    try:
        for piece in pieces:
            outcome = parser.feed(piece)
            while outcome is not None:
                outcomes.append(outcome)
                if len(outcomes) == count:
                    return outcomes
                outcome = parser.feed(b"")
        if (last := parser.eof()) is not None:
            outcomes.append(last)
            parser.eof()
    except BadResponse:
        outcomes.append("refused")
    return outcomes


def framed_answer(body: bytes, *, chunked: bool) -> bytes:
    if not chunked:
        return answer(b"Content-Length: %d" % len(body), body=body)
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return answer(b"Transfer-Encoding: chunked", body=chunk + b"0\r\n\r\n")


@bytes_of.PROPERTY
@given(st.data(), st.lists(st.tuples(st.binary(max_size=20), st.booleans()), min_size=1, max_size=5))
def test_however_pipelined_answers_are_cut_each_is_found(
    data: st.DataObject, answers: list[tuple[bytes, bool]]
) -> None:
    whole = b"".join(framed_answer(body, chunked=chunked) for body, chunked in answers)
    _, pieces = data.draw(bytes_of.cut(st.just(whole)))
    assert outcomes_of(pieces, len(answers)) == [Outcome(200, b"", body) for body, _ in answers]


@bytes_of.PROPERTY
@given(bytes_of.cut(st.lists(bytes_of.responses(), min_size=2, max_size=4).map(b"".join)))
def test_however_any_bytes_are_cut_the_outcomes_are_the_same(cut: tuple[bytes, list[bytes]]) -> None:
    data, pieces = cut
    assert outcomes_of(pieces, 4) == outcomes_of([data], 4)


@bytes_of.PROPERTY
@given(bytes_of.responses(), st.sampled_from([b"GET", b"HEAD"]))
def test_whatever_is_accepted_h11_reads_the_same(data: bytes, method: bytes) -> None:
    outcome = outcome_of([data], method)
    if not isinstance(outcome, Outcome):
        return
    status, body = read_by_h11(data, method)
    assert (outcome.status, outcome.body) == (status, body)


@bytes_of.PROPERTY
@given(
    st.integers(200, 599),
    st.lists(st.sampled_from([b"A: b\r\n", b"Set-Cookie: x=y\r\n", b"Empty: \r\n"])),
    st.binary(max_size=50),
    st.booleans(),
)
def test_a_client_reads_what_the_service_said(status: int, lines: list[bytes], body: bytes, close: bool) -> None:
    outcome = Outcome(status, b"".join(lines), b"" if status in (204, 304) else body)
    data = response_bytes(outcome, b"", head_only=False, close=close)
    assert read_by_h11(data, b"GET") == (status, outcome.body)
    parser = parser_for()
    assert parser.feed(data) == outcome
    assert parser.keep_alive is not close


def read_by_h11(data: bytes, method: bytes) -> tuple[int, bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    status, body = 0, b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        match event:
            case h11.Response():
                status = event.status_code
            case h11.Data():
                body += event.data
    return status, body

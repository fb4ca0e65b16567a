"""Bytes that no front door may let through, and what it answers: the table of bad input, row by row.

Each case is what a client sends on a fresh connection, and the one status it must get. The answer is always framed and
closes the connection, and nothing is proposed. The table knows no server, so it can be fired at any: `answers_of`
tells what came back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from quorate import limits


class Case(NamedTuple):
    name: str
    data: bytes
    status: int


def _get(
    *fields: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bytes | None = b"a.example"
) -> bytes:
    return _request(b"GET", *fields, target=target, version=version, host=host)


def _request(
    method: bytes, *fields: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bytes | None = b"a.example"
) -> bytes:
    lines = [b"%b %b %b" % (method, target, version), *([] if host is None else [b"Host: " + host]), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _post(*fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return _request(b"POST", *fields, version=version) + body


def _coding(value: bytes) -> bytes:
    return _post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")


def _length(value: bytes) -> bytes:
    return _post(b"Content-Length: " + value, body=b"12345")


def _chunks(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


_FRAMING = {
    "CL and TE": _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE and CL": _post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "CL and TE in other case": _post(b"content-LENGTH: 5", b"TRANSFER-encoding: chunked", body=b"0\r\n\r\n"),
    "CL 0 and TE": _post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "CL and unknown TE": _post(b"Content-Length: 5", b"Transfer-Encoding: gzip", body=b"12345"),
    "two TE": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two TE, the second identity": _post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"
    ),
    "two TE apart": _post(b"Transfer-Encoding: chunked", b"A: b", b"transfer-encoding: x", body=b"0\r\n\r\n"),
    "TE folded": _post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "TE in HTTP/1.0": _post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"),
    "TE with space before the colon": _post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "TE with tab before the colon": _post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"),
    "TE with a leading space": _post(b" Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE after a bare LF": _post(b"A: b\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE after a bare CR": _post(b"A: b\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "TE spelt with an underscore": _post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n"),
    "CL spelt with an underscore": _post(b"Content_Length: 5", body=b"12345"),
    "two CL alike": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"),
    "two CL unlike": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
    "two CL, one empty": _post(b"Content-Length: 5", b"Content-Length:", body=b"12345"),
    "CL with space before the colon": _post(b"Content-Length : 5", body=b"12345"),
    "CL folded": _post(b"Content-Length: 5\r\n 0", body=b"12345"),
}
_CODINGS = [
    b",chunked", b"chunked,", b", chunked", b"xchunked", b"chunkedx", b"chunked;q", b"chunked;q=1", b'"chunked"',
    b"\x0bchunked", b"\x0cchunked", b"chunked\x00", b"\x00chunked", b"chunked\x0b", b"\xa0chunked", b"chunked\x85",
    b"chunked, chunked", b"chunked, gzip", b"identity", b"identity, chunked", b"chunked, identity", b"", b"chunk ed",
    b"nothing", b"chun\rked", b"chun\nked", b"\xff", b"chunked\r\n , x", b"0",
]  # fmt: skip
_LENGTHS = [
    b"+5", b"-0", b"-5", b"0x5", b"1_0", b"010", b"00", b"", b"9223372036854775808", b"18446744073709551621",
    b"99999999999999999999999999", b"5, 5", b"5,5", b"5, 6", b"5;", b"5 5", b"5x", b"5.0", b"1e1", b"\x0b5", b"5\x0c",
    b"\xb2", b"\xd9\xa5", b"5\x00", b'"5"', b"0b1", b"five", b"5-", b"\xa05",
]  # fmt: skip
_CHUNKS = [
    b"0x5\r\n12345\r\n0\r\n\r\n", b"+5\r\n12345\r\n0\r\n\r\n", b"-5\r\n12345\r\n0\r\n\r\n",
    b"1_0\r\n12345\r\n0\r\n\r\n", b" 5\r\n12345\r\n0\r\n\r\n", b"\t5\r\n12345\r\n0\r\n\r\n",
    b"5 \r\n12345\r\n0\r\n\r\n", b"5\t\r\n12345\r\n0\r\n\r\n", b"5\n12345\r\n0\r\n\r\n", b"5\r12345\r\n0\r\n\r\n",
    b"\r\n5\r\n12345\r\n0\r\n\r\n", b"\r\n\r\n", b";a\r\n\r\n", b"5\r\n12345\n0\r\n\r\n", b"5\r\n12345\r0\r\n\r\n",
    b"5\r\n123450\r\n\r\n", b"5\r\n12345XX0\r\n\r\n", b"5\r\n1234567\r\n0\r\n\r\n", b"5\r\n1234\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\n\r\n", b"5\r\n12345\r\n0\r\n\n", b"5;\r\n12345\r\n0\r\n\r\n", b"5;=x\r\n12345\r\n0\r\n\r\n",
    b"5;a=\r\n12345\r\n0\r\n\r\n", b"5;a b\r\n12345\r\n0\r\n\r\n", b"5;a\n12345\r\n0\r\n\r\n",
    b"5;a\rb\r\n12345\r\n0\r\n\r\n", b"5;a\x00b\r\n12345\r\n0\r\n\r\n", b"5;a=\"\x01\"\r\n12345\r\n0\r\n\r\n",
    b"5;a=\"x\r\n12345\r\n0\r\n\r\n", b"5;a=\"x\n\"\r\n12345\r\n0\r\n\r\n", b"5:a\r\n12345\r\n0\r\n\r\n",
    b"5,a\r\n12345\r\n0\r\n\r\n", b"5 a\r\n12345\r\n0\r\n\r\n", b"g\r\n0\r\n\r\n", b"\xb2\r\n12\r\n0\r\n\r\n",
    b"5;" + b"a" * limits.CHUNK_EXTENSION_BYTES_MAX + b"\r\n12345\r\n0\r\n\r\n",
    b"1;" + b"a" * 600 + b"\r\n1\r\n1;" + b"a" * 600 + b"\r\n1\r\n0\r\n\r\n", b"10000000000000000\r\n",
    b"ffffffffffffffff\r\n", b"8000000000000000\r\n", b"0000000000000000000005\r\n12345\r\n0\r\n\r\n", b"0x\r\n\r\n",
    b"0\r\nA : b\r\n\r\n", b"0\r\n A: b\r\n\r\n", b"0\r\nA\r\n\r\n", b"0\r\n: b\r\n\r\n", b"0\r\nA: b\n\r\n",
    b"0\r\nA: b\r\r\n", b"0\r\nA: \x00\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\ntransfer-encoding: chunked\r\n\r\n", b"0\r\nHOST: b\r\n\r\n",
]  # fmt: skip
_FIELDS = [
    b"A: b\nC: d", b"A: b\rC: d", b"A: b\r\rC: d", b"A: b\n", b"A: \x00", b"A: b\x00c", b"A: \x01", b"A: \x7f",
    b"A: \x1b[31m", b"A: b\x0bc", b"A: b\x0c", b"A\x00: b", b"A b: c", b"A(: b", b"A\xe9: b", b'"A": b', b"A@: b",
    b"A[]: b", b"A/b: c", b"{A}: b", b"A\\: b", b"A;b: c", b"A=b: c", b"A,b: c", b"<A>: b", b"A?: b", b"A : b",
    b"A\t: b", b" A: b", b"\tA: b", b"A: b\r\n c", b"A: b\r\n\tc", b"A: b\r\n \r\n", b"A", b"no colon here", b": b",
    b" : b", b"::", b"\x80: b", b"\xef\xbb\xbfA: b",
]  # fmt: skip
_SHADOWS = [
    b"Quorate_Index: 7",
    b"quorate_request_id: 7",
    b"Log_Index: 7",
    b"X_Smr_Id: 1",
    b"X-Smr_Id: 1",
    b"Keep_Alive: 5",
    b"X_Forwarded_For: 192.0.2.7",
    b"x-forwarded_for: 192.0.2.7",
]
_HOSTS = {
    "no Host": _get(host=None),
    "two Hosts": _get(b"Host: a.example"),
    "two Hosts, unlike": _get(b"Host: b.example"),
    "two Hosts, case aside": _get(b"hOST: b.example"),
    "an empty Host": _get(host=b""),
    "two Hosts by comma": _get(host=b"a.example, b.example"),
    "two Hosts by bare comma": _get(host=b"a.example,b.example"),
    "userinfo in Host": _get(host=b"me@a.example"),
    "userinfo and password in Host": _get(host=b"me:pw@a.example"),
    "path in Host": _get(host=b"a.example/x"),
    "space in Host": _get(host=b"a.example b.example"),
    "query in Host": _get(host=b"a.example?x"),
    "fragment in Host": _get(host=b"a.example#x"),
    "backslash in Host": _get(host=b"a.example\\x"),
    "a port that is none": _get(host=b"a.example:http"),
    "a port too long": _get(host=b"a.example:123456"),
    "two ports": _get(host=b"a.example:80:80"),
    "a negative port": _get(host=b"a.example:-1"),
    "a broken IPv6 Host": _get(host=b"[::1"),
    "an unbracketed IPv6 Host": _get(host=b"::1"),
    "a non-ASCII Host": _get(host=b"\xc3\xa9.example"),
    "Host folded": _get(host=b"a.example\r\n .evil"),
    "Host with space before the colon": _get(b"Host : a.example", host=None),
    "absolute target, other Host": _get(target=b"http://b.example/"),
    "absolute target, other port": _get(target=b"http://a.example:81/"),
    "absolute target, no Host": _get(target=b"http://a.example/", host=None),
    "absolute target with userinfo": _get(target=b"http://me@a.example/"),
    "absolute target without authority": _get(target=b"http:///x"),
    "absolute target of another scheme": _get(target=b"ftp://a.example/"),
    "absolute target, userinfo trick": _get(target=b"http://a.example:80@b.example/"),
}
_REQUEST_LINES = {
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 with fields": b"GET /\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a leading space": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a trailing space": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a vertical tab": b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method that is no token": b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in the method": b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control in the target": b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "a non-ASCII target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a relative target": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a query for a target": b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "an authority for GET": b"GET a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF throughout": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare CR after the request line": b"GET / HTTP/1.1\rHost: a\r\r",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
    "two blank lines first": b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bare LF first": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower case http": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "another protocol": b"GET / HTCPCP/1.0\r\nHost: a\r\n\r\n",
    "a long version": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "a short version": b"GET / HTTP/1\r\nHost: a\r\n\r\n",
    "a signed version": b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n",
    "a spaced version": b"GET / HTTP/1 .1\r\nHost: a\r\n\r\n",
    "PRI in HTTP/1.1": b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\r\n",
    "an SSH client": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"EHLO me\r\n",
}
_VERSIONS = [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/1.9"]
_NOMINATED = [
    b"Host", b"Content-Length", b"content-type", b"Authorization", b"Transfer-Encoding", b"Cookie",
    b"X-Forwarded-For", b"Via", b"Idempotency-Key", b"Quorate-Index", b"close, HOST", b"keep-alive, authorization",
    b"log-index", b"Expect", b"not a token", b"a;b", b'"close"', b"cl\xf6se", b"Max-Forwards",
]  # fmt: skip
_EXPECTATIONS = [b"200-ok", b"100-continue, 100-continue", b"100-continue; x", b"", b"continue", b"100"]

_LONG = limits.REQUEST_LINE_BYTES_MAX
_HEAD = limits.HEAD_BYTES_MAX
_BODY = limits.BODY_BYTES_MAX
_SIZES = [
    Case("a request line that never ends", b"GET /" + b"a" * _LONG, 414),
    Case("a request line too long", b"GET /" + b"a" * _LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    Case("a query too long", b"GET /?" + b"a=b&" * (_LONG // 4) + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    Case("a method too long", b"G" * (_LONG + 1), 414),
    Case("a field that never ends", _get(b"A: " + b"b" * _HEAD)[:-4], 431),
    Case("a field too long", _get(b"A: " + b"b" * _HEAD), 431),
    Case("a name too long", _get(b"A" * _HEAD + b": b"), 431),
    Case("many small fields that are too much", _get(*[b"A%d: %b" % (i, b"b" * 200) for i in range(90)]), 431),
    Case("too many fields", _get(*[b"A%d: b" % i for i in range(limits.FIELDS_MAX)]), 431),
    Case("too many fields of one name", _get(*[b"A: b"] * 1000), 431),
    Case("too many fields, without an end", _get(*[b"A: b"] * 1000)[:-2], 431),
    Case("a body too large, not sent", _post(b"Content-Length: %d" % (_BODY + 1)), 413),
    Case("a body too large, sent", _post(b"Content-Length: %d" % (_BODY + 1), body=b"x" * (_BODY + 1)), 413),
    Case("a body larger than anything", _post(b"Content-Length: 9223372036854775807"), 413),
    Case("a body too large, with Expect", _post(b"Content-Length: %d" % (_BODY + 1), b"Expect: 100-continue"), 413),
    Case("a body too large on GET", _request(b"GET", b"Content-Length: %d" % (_BODY + 1)), 413),
    Case("a chunk too large", _chunks(b"%x\r\n" % (_BODY + 1)), 413),
    Case("chunks too large together", _chunks(b"%x\r\n%b\r\n1\r\nx" % (_BODY, b"x" * _BODY)), 413),
    Case("trailers too large", _chunks(b"0\r\nA: " + b"b" * _HEAD), 431),
    Case("too many trailers", _chunks(b"0\r\n" + b"A: b\r\n" * (limits.FIELDS_MAX + 1)), 431),
]


def _table() -> Iterator[Case]:
    for name, data in {**_FRAMING, **_HOSTS, **_REQUEST_LINES}.items():
        yield Case(name, data, 400)
    yield from [Case(f"Transfer-Encoding {coding!r}", _coding(coding), 400) for coding in _CODINGS]
    yield from [Case(f"Content-Length {length!r}", _length(length), 400) for length in _LENGTHS]
    yield from [Case(f"chunks {body[:30]!r}", _chunks(body), 400) for body in _CHUNKS]
    yield from [Case(f"field {line!r}", _get(line), 400) for line in _FIELDS]
    yield from [Case(f"first field {line!r}", _get(line, b"Host: a", host=None), 400) for line in _FIELDS]
    yield from [Case(f"shadow {line!r}", _get(line), 400) for line in _SHADOWS]
    yield from [Case(f"Connection {option!r}", _get(b"Connection: " + option), 400) for option in _NOMINATED]
    yield from [Case(f"version {version!r}", _get(version=version), 505) for version in _VERSIONS]
    yield Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505)
    yield from [
        Case(f"transfer coding {coding!r}", _coding(coding), 501)
        for coding in (b"gzip", b"deflate", b"compress", b"gzip, chunked", b"X-GZIP,chunked")
    ]
    yield from [
        Case(f"Max-Forwards {value!r}", _request(b"OPTIONS", b"Max-Forwards: " + value), 400)
        for value in (b"-1", b"x", b"", b"1, 2", b"1000000000")
    ]
    yield Case("two Max-Forwards", _request(b"OPTIONS", b"Max-Forwards: 1", b"Max-Forwards: 1"), 400)
    yield Case("CONNECT", _request(b"CONNECT", target=b"a.example:443", host=b"a.example:443"), 405)
    yield Case("CONNECT to a path", _request(b"CONNECT"), 405)
    yield Case("TRACE", _request(b"TRACE"), 405)
    yield Case("TRACE with Max-Forwards", _request(b"TRACE", b"Max-Forwards: 0"), 405)
    yield from [
        Case(f"Expect {value!r}", _post(b"Expect: " + value, b"Content-Length: 5"), 417) for value in _EXPECTATIONS
    ]
    yield from _SIZES


HOSTILE = tuple(_table())

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    """By name in lower case."""
    body: bytes


def answers_of(received: bytes, *, to_head: bool = False) -> list[Answer]:
    """Split what a server sent until it closed; fails unless every answer is framed by a Content-Length."""
    answers = []
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        assert blank, f"an unfinished head: {head!r}"
        match = _STATUS_LINE.match(head + b"\r\n")
        assert match is not None, f"not a status line: {head[:80]!r}"
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:]]
        fields = {name.lower(): value for name, _, value in lines}
        assert len(fields) == len(lines), f"a field is repeated: {head!r}"
        interim = match[1] == b"100"
        length = 0 if interim or to_head else int(fields["content-length"])
        assert len(rest) >= length, "an unfinished body"
        if not interim:
            answers.append(Answer(int(match[1]), fields, rest[:length]))
        received = rest[length:]
    return answers

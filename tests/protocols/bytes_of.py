"""Requests and responses, good and nearly good, for the properties that must hold of any bytes at all."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

PROPERTY = settings(max_examples=300, deadline=None)
"""Properties are tried on many bytes, and never judged by the clock of a busy machine."""

_METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PURGE", b"TRACE", b"PRI"]
_TARGETS = [
    b"/", b"/a/b?c=d", b"*", b"http://a.example/x", b"HTTP://A.example", b"http://a.example?q", b"/a|b^`{}", b"a:1",
    b"/" + b"x" * 40,
]  # fmt: skip
_VERSIONS = [b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 3 + [b"HTTP/2.0"]
_FIELDS = [
    b"Accept: */*", b"X-A:1", b"x-a:  two  words\t", b"Empty:", b"Obs: caf\xe9", b"Connection: close",
    b"Connection: X-A", b"Connection: keep-alive, x-a", b"Upgrade: h2c", b"Expect: 100-continue",
    b"expect: 100-Continue", b"Via: 1.0 other", b"Cookie: a=b; c=d", b"Quorate-Index: 7", b"log-index: 3",
    b"X-Smr-Id: 1", b"TE: trailers", b"a_b: c", b"Transfer_Encoding: chunked", b"Host: a.example", b"Max-Forwards: 3",
    b"X-Forwarded-For: 10.0.0.1", b"x-forwarded-for:10.0.0.2, 10.0.0.3", b"X-Forwarded-For:",
]  # fmt: skip
_BODIES = [b"", b"x", b"hello", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(range(256))]
_EXTENSIONS = [b"", b"", b"", b";a", b";a=b", b';a="b \\" ;c"', b";a;b=c"]
_TRAILERS = [b"", b"", b"X-T: 1\r\n", b"X-T: 1\r\nAuthorization: none\r\n", b"Content-Length: 3\r\n"]
_MUTATIONS = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\x00",
    b"\x7f",
    b"0",
    b"5",
    b"a",
    b"\xff",
    b"chunked",
]


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    out = b""
    while body:
        size = draw(st.integers(1, len(body)))
        out += b"%x%b\r\n%b\r\n" % (size, draw(st.sampled_from(_EXTENSIONS)), body[:size])
        body = body[size:]
    return out + b"0\r\n" + draw(st.sampled_from(_TRAILERS)) + b"\r\n"


@st.composite
def framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """A body, and the fields that frame it."""
    body = draw(st.sampled_from(_BODIES))
    kind = draw(st.sampled_from(["none", "length", "length", "chunked", "chunked", "both"]))
    if kind == "none":
        return [], b""
    length = b"Content-Length: %d" % len(body)
    if kind == "length":
        return [length], body
    coding = draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:\tCHUNKED "]))
    return [coding, length] if kind == "both" else [coding], draw(chunked(body))


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes as they are, mostly, or with a few small changes."""
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(_MUTATIONS)) + data[at + draw(st.integers(0, 2)) :]
    return data


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request or a few in a row."""
    out = b""
    for _ in range(draw(st.integers(1, 3))):
        framing, body = draw(framed())
        fields = [*draw(st.lists(st.sampled_from(_FIELDS), max_size=4)), *framing]
        fields.insert(draw(st.integers(0, len(fields))), b"Host: a.example")
        line = b" ".join([draw(st.sampled_from(part)) for part in (_METHODS, _TARGETS, _VERSIONS)])
        out += b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body
    return draw(mutated(out))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """One answer, perhaps after interim ones."""
    framing, body = draw(framed())
    fields = [*draw(st.lists(st.sampled_from(_FIELDS), max_size=4)), *framing]
    line = draw(
        st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 404 ", b"HTTP/1.1 204", b"HTTP/1.1 304 x", b"HTTP/1.1 500 E"])
    )
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]))
    return draw(mutated(interim + b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body))


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same bytes in pieces."""
    data = draw(whole)
    if draw(st.booleans()):
        return data, [data[i : i + 1] for i in range(len(data))]
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=6)))
    return data, [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]

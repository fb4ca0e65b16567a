"""The coding as it arrives in pieces; what it refuses is in the table of hostile bytes (tests/intercept/hostile.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols import bytes_of

from quorate.protocols.chunked import ChunkedBody
from quorate.protocols.fields import Malformed


def body(body_max: int = 100) -> ChunkedBody:
    return ChunkedBody(body_max, extension_max=10, trailer_max=50, trailers_max=2)


def test_only_the_body_is_taken_off_the_buffer() -> None:
    buffer = bytearray(b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n")
    assert body().read(buffer) == b"abc0123456789"
    assert buffer == b"GET / HTTP/1.1\r\n"


def test_what_is_missing_is_waited_for() -> None:
    chunks, buffer = body(), bytearray()
    for piece in (b"", b"5", b"\r", b"\nab", b"cde", b"\r", b"\n0\r\n", b"X: y\r", b"\n"):
        buffer += piece
        assert chunks.read(buffer) is None
    buffer += b"\r\n"
    assert chunks.read(buffer) == b"abcde"


@pytest.mark.parametrize(
    "so_far", [b"x", b"0x", b"5 ", b"5\r5", b"\n", b"12345678901234567", b"5;a\x00", b"1\r\naX", b"1\r\na\n"]
)
def test_what_can_never_be_good_is_not_waited_for(so_far: bytes) -> None:
    with pytest.raises(Malformed):
        body().read(bytearray(so_far))


def test_extensions_and_trailers_are_bounded_over_the_whole_body() -> None:
    assert body().read(bytearray(b"1;abcd\r\nx\r\n0;efgh\r\nA: b\r\nC: d\r\n\r\n")) == b"x"
    for data, code in [
        (b"1;abcd\r\nx\r\n0;efghi\r\n", "bad_request"),
        (b"0\r\nA: b\r\nC: d\r\nE: f\r\n", "fields_too_large"),
        (b"0\r\nA: " + b"b" * 50, "fields_too_large"),
    ]:
        with pytest.raises(Malformed) as caught:
            body().read(bytearray(data))
        assert caught.value.code == code


@bytes_of.PROPERTY
@given(st.data())
def test_what_was_chunked_is_put_together_again(data: st.DataObject) -> None:
    content = data.draw(st.binary(max_size=60))
    coded = data.draw(bytes_of.chunked(content))
    if b"Content-Length" in coded:
        return
    chunks, buffer = ChunkedBody(60, 1000, 1000, 10), bytearray()
    _, pieces = data.draw(bytes_of.cut(st.just(coded)))
    read: bytes | None = None
    for piece in pieces:
        buffer += piece
        read = chunks.read(buffer)
    assert read == content
    assert buffer == b""

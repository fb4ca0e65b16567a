from __future__ import annotations

import pytest

from quorate.protocols.fields import (
    Malformed,
    check_field_line,
    check_transfer_encoding,
    combined,
    connection_options,
    content_length,
    field_lines,
    next_line,
    split_fields,
)


def test_fields_are_split_and_written_again() -> None:
    fields, values = split_fields(b"A:1\r\nb-C: \t x:y \t\r\nEmpty:\r\na: 2\r\n")
    assert fields == [(b"A", b"a", b"1"), (b"b-C", b"b-c", b"x:y"), (b"Empty", b"empty", b""), (b"a", b"a", b"2")]
    assert values == {b"a": b"2", b"b-c": b"x:y", b"empty": b""}
    assert combined(fields, b"a") == b"1, 2"
    assert field_lines(fields, frozenset({b"empty"}), (b"b-",)) == b"A: 1\r\na: 2\r\n"
    assert split_fields(b"") == ([], {})


def test_a_line_is_taken_once_it_is_whole() -> None:
    buffer = bytearray(b"one\r\ntwo\r")
    assert next_line(buffer, 0, 99, "x") == b"one\r\n"
    assert next_line(buffer, 5, 99, "x") is None
    assert next_line(buffer + b"\n", 5, 10, "x") == b"two\r\n"


@pytest.mark.parametrize(
    ("data", "stop", "code"),
    [(b"a\nb", 99, "bad_request"), (b"a\rb", 99, "bad_request"), (b"\x00", 99, "bad_request"), (b"abcd", 4, "too_long"),
     (b"abc\r\n", 4, "too_long"), (b"a\x00cde", 4, "bad_request"), (b"abcd\x00", 4, "too_long")],
)  # fmt: skip
def test_the_first_fault_of_a_line_decides(data: bytes, stop: int, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        next_line(bytearray(data), 0, stop, "too_long")
    assert caught.value.code == code


@pytest.mark.parametrize("line", [b"A: b\r\n", b"a:\r\n", b"!#$%&'*+-.^_`|~9: \xff\t\r\n"])
def test_field_lines(line: bytes) -> None:
    check_field_line(line)


@pytest.mark.parametrize(
    ("line", "why"), [(b" a: b\r\n", "folded"), (b"a : b\r\n", "not a name"), (b"\r\n", "not a name")]
)
def test_what_is_no_field_line(line: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        check_field_line(line)


def test_lengths() -> None:
    assert [content_length(value, 1 << 63) for value in (b"0", b"7", b"9223372036854775807")] == [0, 7, (1 << 63) - 1]
    with pytest.raises(Malformed) as caught:
        content_length(b"8", 7)
    assert caught.value.code == "content_too_large"


def test_codings() -> None:
    check_transfer_encoding(b"ChunKed")
    for value, code in [(b"gzip", "unknown_transfer_coding"), (b"xchunked", "bad_request")]:
        with pytest.raises(Malformed) as caught:
            check_transfer_encoding(value)
        assert caught.value.code == code


def test_connection_options() -> None:
    assert connection_options(b" Close ,, x-A,\tkeep-alive") == {b"close", b"x-a", b"keep-alive"}
    assert connection_options(b"") == frozenset()
    for value in (b"a b", b"host", b"x, Authorization", b"quorate-index"):
        with pytest.raises(Malformed):
            connection_options(value)

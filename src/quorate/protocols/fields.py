"""The grammar that requests and responses share: lines, field lines, framing values, hop-by-hop names, bounds.

A good head is recognised by one regular expression over the whole of it. `HeadLines` is the slow road for a head that
is not yet complete or not good: it walks line by line and refuses the first bad one as soon as that can be told. Both
are built from the same pieces, so that they agree on what is good.

Refused, where RFC 9112 leaves a choice: bare CR or LF, obs-fold, whitespace around a field name, control octets in
values, leading zeros, signs and lists in Content-Length, any Transfer-Encoding but one exact `chunked`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from quorate import limits
from quorate.errors import Misbehaviour

Field = tuple[bytes, bytes, bytes]
"""Name as sent, name in lower case, value without the whitespace around it."""

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""They change nothing (RFC 9110 §9.2.1)."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110 §5.6.2."""
TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
"""Octets of a field value: visible, space, tab and obs-text (RFC 9110 §5.5)."""
FIELD_LINES = b"(?:" + TOKEN + b":" + TEXT + b"\r\n)*+"

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings",
        b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info",
    }
)  # fmt: skip
"""Fields that end at this hop (RFC 9110 §7.6.1), nominated by Connection or not."""

INTERNAL = (b"quorate-", b"x-smr-", b"log-index")
"""How the names begin that only Quorate and its forerunner set; from anyone else they are dropped."""

NEVER_NOMINATED = frozenset(
    {
        b"host", b"content-length", b"content-type", b"content-encoding", b"content-range", b"transfer-encoding",
        b"authorization", b"cookie", b"set-cookie", b"origin", b"referer", b"cache-control", b"date", b"expect", b"via",
        b"max-forwards", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
        b"idempotency-key", b"if-match", b"if-none-match", b"location",
    }
)  # fmt: skip
"""End-to-end fields: nominating one for removal is an attack on whoever trusts it further on, or a muddle."""

_LINE_SO_FAR = re.compile(TEXT + rb"(?:\r\n?)?")
_FIELD_LINE = re.compile(TOKEN + b":" + TEXT + b"\r\n")
_TOKEN = re.compile(TOKEN)
_KNOWN_CODINGS = re.compile(rb"(?:(?:x-)?(?:gzip|compress)|deflate)(?:[ \t]*,[ \t]*chunked)?")


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on both sides, in bytes or counts; the defaults and their reasons are in `limits`."""

    request_line_bytes_max: int = limits.REQUEST_LINE_BYTES_MAX
    head_bytes_max: int = limits.HEAD_BYTES_MAX
    fields_max: int = limits.FIELDS_MAX
    body_bytes_max: int = limits.BODY_BYTES_MAX
    chunk_extension_bytes_max: int = limits.CHUNK_EXTENSION_BYTES_MAX
    response_head_bytes_max: int = limits.RESPONSE_HEAD_BYTES_MAX
    response_body_bytes_max: int = limits.RESPONSE_BODY_BYTES_MAX
    interim_responses_max: int = limits.INTERIM_RESPONSES_MAX


class Malformed(Misbehaviour):
    """Bytes outside the grammar or its bounds; `code` names the refusal, should the sender be told."""

    def __init__(self, what: str, code: str = "bad_request") -> None:
        super().__init__(what)
        self.code = code


def next_line(buffer: bytearray, start: int, stop: int, code: str) -> bytes | None:
    """Return the line of `buffer` at `start` with its CRLF, or None while it is incomplete.

    Raises `Malformed`: `code` when the line does not end by `stop`, bad_request at the first octet no line may hold.
    Neither depends on how the bytes arrived.
    """
    match = _LINE_SO_FAR.match(buffer, start, stop)
    assert match is not None, "the pattern matches nothing at all too"
    if match[0].endswith(b"\r\n"):
        return match[0]
    if match.end() >= stop:
        raise Malformed("a line or the head is too long", code)
    if match.end() < len(buffer):
        raise Malformed("a control octet, or CR and LF not in a pair (RFC 9112 §2.2)")
    return None


def check_field_line(line: bytes) -> None:
    """Raise `Malformed` unless `line` is one field line with its CRLF (RFC 9112 §5)."""
    if _FIELD_LINE.fullmatch(line):
        return
    if line[0] in b" \t":
        raise Malformed("a field line begins with whitespace; folded lines are obsolete (RFC 9112 §5.2)")
    raise Malformed("a field line is not a name, a colon and a value (RFC 9112 §5.1)")


class HeadLines:
    """The slow road through a head: each complete line is checked once, so that dribbled bytes cost no more than whole
    ones."""

    def __init__(self, check_first: Callable[[bytes], None], first_max: int, head_max: int, fields_max: int) -> None:
        self._check_first = check_first
        self._first_max = min(first_max, head_max)
        self._head_max = head_max
        self._fields_max = fields_max
        self.restart()

    def restart(self) -> None:
        """Begin at the start of the next head."""
        self._offset = 0
        self._count = 0

    def inspect(self, buffer: bytearray) -> None:
        """Check the lines that have arrived; raise `Malformed` at the first that can't be part of a good head."""
        while (line := self._next(buffer)) is not None:
            if self._offset == 0:
                self._check_first(line)
            else:
                self._check_field(line)
            self._offset += len(line)

    def _next(self, buffer: bytearray) -> bytes | None:
        if self._offset == 0:
            return next_line(buffer, 0, self._first_max, "uri_too_long")
        return next_line(buffer, self._offset, self._head_max, "fields_too_large")

    def _check_field(self, line: bytes) -> None:
        assert line != b"\r\n", "a head that is complete and good does not come this way"
        self._count += 1
        if self._count > self._fields_max:
            raise Malformed(f"more than {self._fields_max} fields", "fields_too_large")
        check_field_line(line)


def split_fields(block: bytes) -> tuple[list[Field], dict[bytes, bytes]]:
    """Split field lines already known to be good, each ended by CRLF; also by name in lower case, the last of each."""
    fields: list[Field] = []
    values: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lower, value = name.lower(), value.strip()
        fields.append((name, lower, value))
        values[lower] = value
    return fields, values


def field_lines(fields: list[Field], left_out: frozenset[bytes], prefixes_left_out: tuple[bytes, ...]) -> bytes:
    """Return field lines in their order, each ended by CRLF, less those whose names are to be left out."""
    return b"".join(
        [
            name + b": " + value + b"\r\n"
            for name, lower, value in fields
            if lower not in left_out and not lower.startswith(prefixes_left_out)
        ]
    )


def combined(fields: list[Field], lower_name: bytes) -> bytes:
    """Return the values of one field joined by commas (RFC 9110 §5.3)."""
    return b", ".join([value for _, lower, value in fields if lower == lower_name])


def content_length(value: bytes, length_max: int) -> int:
    """Return the length a Content-Length states; `Malformed` unless it is plain decimal and within `length_max`."""
    if not value.isdigit() or (value[0] == 0x30 and value != b"0") or len(value) > 19:
        raise Malformed("Content-Length is not one plain decimal number (RFC 9112 §6.3)")
    length = int(value)
    if length >= 1 << 63:
        raise Malformed("Content-Length is beyond all bounds")
    if length > length_max:
        raise Malformed(f"the content exceeds {length_max} bytes", "content_too_large")
    return length


def check_transfer_encoding(value: bytes) -> None:
    """Raise `Malformed` unless the coding is exactly `chunked`; real ones we don't undo are told apart (§6.1)."""
    coding = value.lower()
    if coding == b"chunked":
        return
    if _KNOWN_CODINGS.fullmatch(coding):
        raise Malformed("only the transfer coding chunked is understood", "unknown_transfer_coding")
    raise Malformed("Transfer-Encoding is not exactly chunked (RFC 9112 §6.1)")


def connection_options(value: bytes) -> frozenset[bytes]:
    """Return the options of Connection in lower case; `Malformed` for what is no token or names an end-to-end field."""
    options = frozenset([option.strip(b" \t") for option in value.lower().split(b",")]) - {b""}
    if not all(map(_TOKEN.fullmatch, options)):
        raise Malformed("a Connection option is not a token (RFC 9110 §7.6.1)")
    if not options.isdisjoint(NEVER_NOMINATED) or any(option.startswith(INTERNAL) for option in options):
        raise Malformed("Connection nominates a field that is not hop-by-hop (RFC 9110 §7.6.1)")
    return options

"""A client's bytes -> requests, strictly (RFC 9112), or a refusal.

The head is matched whole by one expression once its blank line has come; until then, and when it does not match,
`HeadLines` looks for the reason. Then the few fields that steer framing and routing are judged, and the body is
collected whole: what is ordered is a complete request or nothing. Only one request is handed out at a time.

Refused (FAULTS.md 3a): every ambiguity of framing, Host or target; CONNECT and TRACE; versions but 1.0 and 1.1; other
expectations than 100-continue; field names that gateways of the CGI family would mistake for one that we judge.
"""

from __future__ import annotations

import re

import msgspec

from quorate.errors import Misbehaviour
from quorate.protocols.chunked import ChunkedBody
from quorate.protocols.fields import (
    FIELD_LINES,
    HOP_BY_HOP,
    INTERNAL,
    TOKEN,
    Field,
    HeadLines,
    HttpLimits,
    Malformed,
    check_transfer_encoding,
    combined,
    connection_options,
    content_length,
    split_fields,
)
from quorate.protocols.problems import problem
from quorate.types import Outcome

_TARGET = rb"[\x21\x22\x24-\x7e]++"
"""Visible octets but "#": a fragment never travels (RFC 9112 §3.2)."""
_REQUEST_LINE = b"(" + TOKEN + b") (" + _TARGET + rb") HTTP/1\.([01])\r\n"
_HEAD = re.compile(_REQUEST_LINE + b"(" + FIELD_LINES + rb")\r\n")
_GOOD_REQUEST_LINE = re.compile(_REQUEST_LINE)
_OTHER_VERSION = re.compile(TOKEN + b" " + _TARGET + rb" HTTP/[0-9]\.[0-9]\r\n")
_HOST = re.compile(rb"(?:[0-9A-Za-z._~-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{1,5}+)?")
_HOPS = re.compile(rb"[0-9]{1,9}")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*+)(.*+)")

_JUDGED_METHODS = frozenset({b"CONNECT", b"TRACE", b"OPTIONS"})
_SINGLE = (b"host", b"content-length", b"transfer-encoding", b"expect", b"max-forwards")
_JUDGED = HOP_BY_HOP | frozenset(_SINGLE) | {b"x-forwarded-for"}
_CHUNKED = -1
"""In place of a length."""

_REFUSALS = {
    "bad_request": (400, "The request is malformed"),
    "method_not_allowed": (405, "The method is not allowed"),
    "request_timeout": (408, "The request took too long to arrive"),
    "content_too_large": (413, "The content is too large"),
    "uri_too_long": (414, "The request line is too long"),
    "expectation_failed": (417, "The expectation can't be met"),
    "fields_too_large": (431, "The header fields are too large"),
    "unknown_transfer_coding": (501, "The transfer coding is not implemented"),
    "version_not_supported": (505, "The HTTP version is not supported"),
}


class BadRequest(Misbehaviour):
    """The client is told `outcome`, and its connection closes; `code` is for counting."""

    def __init__(self, code: str, hint: str) -> None:
        status, title = _REFUSALS[code]
        super().__init__(f"{title}: {hint}")
        self.code = code
        answer = problem(status, code, title, hint)
        if code == "method_not_allowed":  # RFC 9110 §15.5.6 wants the list
            allow = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
            answer = Outcome(answer.status, allow + answer.head, answer.body)
        self.outcome = answer


class Request(msgspec.Struct, frozen=True, gc=False):
    """A complete request; its fields still hold those that end at this hop, but for what Connection nominated."""

    method: bytes
    target: bytes
    """Origin-form, or `*` for OPTIONS (RFC 9112 §3.2)."""
    fields: list[Field]
    values: dict[bytes, bytes]
    """Values by name in lower case, for names that came once."""
    body: bytes
    http10: bool
    keep_alive: bool
    """The client allows another request on its connection."""
    upgrade: bytes = b""
    """What it offers to go on with in place of HTTP (RFC 9110 §7.8)."""
    client: bytes = b""
    """The address its connection came from; empty where there is none."""

    def get(self, lower_name: bytes) -> bytes | None:
        """Return the value of a field, several joined by commas, or None."""
        if len(self.values) == len(self.fields) or lower_name not in self.values:
            return self.values.get(lower_name)
        return combined(self.fields, lower_name)


class Expect:
    """The client waits for "100 Continue" before it sends the content, which is within bounds."""


EXPECT = Expect()


class RequestParser:
    """Bytes of one client in, events out; after `BadRequest` the parser is spent."""

    def __init__(self, limits: HttpLimits, client: bytes = b"") -> None:
        self.body_bytes = 0
        """Bytes that came since the head of the request whose body is being received, framing included."""
        self._limits = limits
        self._client = client
        self._buffer = bytearray()
        self._lines = HeadLines(
            _check_request_line, limits.request_line_bytes_max, limits.head_bytes_max, limits.fields_max
        )
        self._dribbling = False
        """The head did not come whole: its blank line is looked for before anything else."""
        self._blank_skipped = False
        self._headed: Request | None = None
        """The request whose body is awaited."""
        self._length = 0
        self._chunks: ChunkedBody | None = None

    @property
    def phase(self) -> str:
        """What is awaited: `idle` for a request to begin, `head` for the rest of its head, `body` for its content."""
        if self._headed is not None:
            return "body"
        return "head" if self._buffer else "idle"

    @property
    def buffered(self) -> int:
        """Bytes received and not yet handed out."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer += data
        if self._headed is not None:
            self.body_bytes += len(data)

    def take_rest(self) -> bytes:
        """Return what came behind the last request, unread: the connection goes on in another protocol."""
        return self._take(len(self._buffer))

    def next_event(self) -> Request | Expect | None:
        """Return the next event, or None when more bytes are needed; raises `BadRequest`."""
        try:
            return self._next_request() if self._headed is None else self._read_body(self._headed)
        except Malformed as fault:
            raise BadRequest(fault.code, fault.what) from None

    def _next_request(self) -> Request | Expect | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n") and not self._blank_skipped:  # some clients end a body by one (RFC 9112 §2.2)
            self._blank_skipped = True
            del buffer[:2]
        if not buffer:
            return None
        match = None if self._dribbling and b"\r\n\r\n" not in buffer else _HEAD.match(buffer)
        if match is None or not self._within_limits(match):
            self._dribbling = True
            self._lines.inspect(buffer)
            assert match is None, "a head over the limits is refused"
            return None
        method, target, minor, block = match.groups()  # before the bytes move: a match reads them late
        del buffer[: match.end()]
        self._blank_skipped = False
        if self._dribbling:
            self._dribbling = False
            self._lines.restart()
        return self._on_head(method, target, minor == b"0", block)

    def _within_limits(self, match: re.Match[bytes]) -> bool:
        return match.end() <= self._limits.head_bytes_max and match.start(4) <= self._limits.request_line_bytes_max

    def _on_head(self, method: bytes, target: bytes, http10: bool, block: bytes) -> Request | Expect | None:
        fields, values = split_fields(block)
        if len(fields) > self._limits.fields_max or len(values) != len(fields) or b"_" in b"".join(values):
            _judge_names(fields, values, self._limits.fields_max)
        if method in _JUDGED_METHODS:
            _judge_method(method, values)
        if target[0] != 0x2F or b"host" not in values or not _HOST.fullmatch(values[b"host"]):
            target = _resolve(method, target, fields, values, http10)
        length = _framing(values, http10, self._limits.body_bytes_max)
        keep_alive, upgrade = not http10, b""
        if b"connection" in values:
            fields, values, keep_alive, upgrade = _apply_connection(fields, values, http10)
        if b"expect" in values or not 0 <= length <= len(self._buffer):
            request = Request(method, target, fields, values, b"", http10, keep_alive, upgrade, self._client)
            return self._await_body(request, length)
        body = self._take(length) if length else b""
        return Request(method, target, fields, values, body, http10, keep_alive, upgrade, self._client)

    def _await_body(self, request: Request, length: int) -> Request | Expect | None:
        expected = request.values.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise Malformed("the only expectation known is 100-continue (RFC 9110 §10.1.1)", "expectation_failed")
        if length == 0:
            return request
        self._headed = request
        self._length = length
        self.body_bytes = len(self._buffer)
        if length == _CHUNKED:
            limits = self._limits
            self._chunks = ChunkedBody(
                limits.body_bytes_max, limits.chunk_extension_bytes_max, limits.head_bytes_max, limits.fields_max
            )
        if expected is not None and not request.http10:
            return EXPECT
        return self._read_body(request)

    def _read_body(self, request: Request) -> Request | None:
        if self._chunks is not None:
            body = self._chunks.read(self._buffer)
        else:
            body = self._take(self._length) if len(self._buffer) >= self._length else None
        if body is None:
            return None
        self._chunks = None
        self._headed = None
        return msgspec.structs.replace(request, body=body)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


def _check_request_line(line: bytes) -> None:
    if _GOOD_REQUEST_LINE.fullmatch(line):
        return
    if _OTHER_VERSION.fullmatch(line):
        raise Malformed("HTTP/1.1 and HTTP/1.0 are spoken here", "version_not_supported")
    raise Malformed("the request line is not method, target and version, one space apart (RFC 9112 §3)")


def _judge_names(fields: list[Field], values: dict[bytes, bytes], fields_max: int) -> None:
    """Refuse too many fields, one repeated that must be single, and one that shadows another.

    CGI, WSGI and their kin read `_` in a name as `-`: a name that so turns into one we judge or set is a shadow.
    """
    if len(fields) > fields_max:
        raise Malformed(f"more than {fields_max} fields", "fields_too_large")
    names = [lower for _, lower, _ in fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise Malformed(f"{name.decode()} is repeated")
    for name in values:
        meant = name.replace(b"_", b"-")
        if meant != name and (meant in _JUDGED or meant.startswith(INTERNAL)):
            raise Malformed("a field name with underscores could be taken for another field")


def _judge_method(method: bytes, values: dict[bytes, bytes]) -> None:
    if method != b"OPTIONS":
        raise Malformed("no tunnels, and no echo of what may be secret", "method_not_allowed")
    if not _HOPS.fullmatch(values.get(b"max-forwards", b"0")):
        raise Malformed("Max-Forwards is not one decimal number (RFC 9110 §7.6.2)")


def _resolve(method: bytes, target: bytes, fields: list[Field], values: dict[bytes, bytes], http10: bool) -> bytes:
    """Return the target in origin-form, of a request that has not plainly one and a Host (RFC 9112 §3.2, §3.3).

    HTTP/1.0 may come without a Host; it gets one, empty if the target tells none.
    """
    host = values.get(b"host")
    if host is None and not http10:
        raise Malformed("Host is missing (RFC 9112 §3.2)")
    if host is not None and not _HOST.fullmatch(host):
        raise Malformed("Host is not one host with an optional port (RFC 9112 §3.2)")
    if target[0] == 0x2F or (target == b"*" and method == b"OPTIONS"):
        authority, path = host or b"", target
    else:
        authority, path = _split_absolute(method, target, host)
    if host is None:
        fields.insert(0, (b"Host", b"host", authority))
        values[b"host"] = authority
    return path


def _split_absolute(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Malformed("the target is neither a path nor an http or https URI (RFC 9112 §3.2)")
    authority, path = match.groups()
    if not _HOST.fullmatch(authority) or (host is not None and authority.lower() != host.lower()):
        raise Malformed("the target's authority is not the Host (RFC 9112 §3.2.2)")
    if not path and method == b"OPTIONS":
        return authority, b"*"
    return authority, path if path.startswith(b"/") else b"/" + path


def _framing(values: dict[bytes, bytes], http10: bool, body_max: int) -> int:
    """Return the length of the content, or `_CHUNKED` (RFC 9112 §6.3)."""
    coding, length = values.get(b"transfer-encoding"), values.get(b"content-length")
    if coding is None:
        return 0 if length is None else content_length(length, body_max)
    if length is not None or http10:
        raise Malformed("Transfer-Encoding beside Content-Length, or in HTTP/1.0 (RFC 9112 §6.1)")
    check_transfer_encoding(coding)
    return _CHUNKED


def _apply_connection(
    fields: list[Field], values: dict[bytes, bytes], http10: bool
) -> tuple[list[Field], dict[bytes, bytes], bool, bytes]:
    """Return the fields less those nominated, whether the connection may go on (RFC 9112 §9.3), and with what.

    HTTP/1.0 has no upgrades (RFC 9110 §7.8).
    """
    options = connection_options(combined(fields, b"connection"))
    upgrade = combined(fields, b"upgrade") if b"upgrade" in options and not http10 else b""
    if not options.isdisjoint(values):
        fields = [field for field in fields if field[1] not in options]
        values = {lower: value for _, lower, value in fields}
    return fields, values, b"close" not in options and (not http10 or b"keep-alive" in options), upgrade

"""The service's bytes -> outcomes, and an outcome -> a client's bytes (RFC 9112 §6.3).

An outcome keeps status, body, and the end-to-end fields in their order and case. The reason phrase means nothing (RFC
9112 §4) and becomes the usual one. Interim answers are dropped, a bounded number of them. A service that frames badly,
says 101 to a request that asked for no upgrade, or exceeds the bounds is not repaired: `BadResponse`. A 101 that was
asked for is an outcome without a body, and what follows it is nobody's here (`take_rest`).
"""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus

from quorate.errors import Misbehaviour
from quorate.protocols.chunked import ChunkedBody
from quorate.protocols.fields import (
    FIELD_LINES,
    HOP_BY_HOP,
    TEXT,
    Field,
    HeadLines,
    HttpLimits,
    Malformed,
    check_transfer_encoding,
    combined,
    connection_options,
    content_length,
    field_lines,
    split_fields,
)
from quorate.protocols.upgrades import check_switching
from quorate.types import Outcome

_STATUS_LINE = rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + TEXT + rb")?\r\n"
_HEAD = re.compile(_STATUS_LINE + b"(" + FIELD_LINES + rb")\r\n")
_GOOD_STATUS_LINE = re.compile(_STATUS_LINE)
_FIELDS_MAX = 2**31
"""Fields of an answer are bounded by the size of its head alone: Set-Cookie may come often."""

_LEFT_OUT = HOP_BY_HOP | {b"content-length"}
_OURS = (b"quorate-",)
_SINGLE = (b"content-length", b"transfer-encoding")
_CHUNKED = -1
_UNTIL_CLOSE = -2
"""In place of a length."""

_STATUS_LINES = {status: b"HTTP/1.1 %d \r\n" % status for status in range(100, 600)} | {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


class BadResponse(Misbehaviour):
    """The service sent nonsense, or went away in the middle; nothing more can be read from its connection."""


class ResponseParser:
    """Answers in the order of their requests: `expect` each, then `feed`; after `BadResponse` the parser is spent.

    With `accept`, the right Sec-WebSocket-Accept, a 101 that bears it is an answer, and the last of its connection.
    """

    def __init__(self, limits: HttpLimits, accept: bytes | None = None) -> None:
        self.started = False
        """Some byte of the awaited answer has come: the service surely saw the request."""
        self.keep_alive = True
        """After an outcome: the connection can take another request."""
        self._limits = limits
        self._accept = accept
        self._buffer = bytearray()
        self._lines = HeadLines(
            _check_status_line, limits.response_head_bytes_max, limits.response_head_bytes_max, _FIELDS_MAX
        )
        self._dribbling = False
        """The head did not come whole: its blank line is looked for before anything else."""
        self._methods: deque[bytes] = deque()
        """Of the requests whose answers are awaited, in the order in which they were sent."""
        self._interim_left = 0
        self._headed: tuple[int, bytes] | None = None
        """Status and field lines of the answer whose body is awaited."""
        self._length = 0
        self._chunks: ChunkedBody | None = None

    def expect(self, method: bytes) -> None:
        """Await the answer to a request that was sent; its method decides about the body."""
        assert self.keep_alive, "the connection still takes requests"
        if not self._methods:
            self._interim_left = self._limits.interim_responses_max
            self.started = False
        self._methods.append(method)

    def feed(self, data: bytes) -> Outcome | None:
        """Take bytes as they came; return the next outcome once it is complete. Raises `BadResponse`.

        While answers to further requests are awaited, ask again with no bytes: one may have come along.
        """
        if not self._methods:
            raise BadResponse("the service sent what nobody asked for")
        self._buffer += data
        if not self._buffer and self._headed is None:
            return None
        self.started = True
        try:
            return self._advance(self._methods[0])
        except Malformed as fault:
            raise BadResponse(f"the service answered against the protocol: {fault.what}") from None

    def take_rest(self) -> bytes:
        """Return what came behind a 101."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def eof(self) -> Outcome | None:
        """The service closed: return the outcome that this completes, None if none was awaited, or `BadResponse`."""
        self.keep_alive = False
        if not self._methods:
            return None
        if self._headed is not None and self._length == _UNTIL_CLOSE:
            return self._complete(*self._headed, bytes(self._buffer))
        where = "in the middle of its answer" if self.started else "without an answer"
        raise BadResponse(f"the service closed the connection {where}")

    def _advance(self, method: bytes) -> Outcome | None:
        while self._headed is None:
            match = None if self._dribbling and b"\r\n\r\n" not in self._buffer else _HEAD.match(self._buffer)
            if match is None or match.end() > self._limits.response_head_bytes_max:
                self._dribbling = True
                self._lines.inspect(self._buffer)
                assert match is None, "a head over the limit is refused"
                return None
            minor, status, block = match.groups()  # before the bytes move: a match reads them late
            del self._buffer[: match.end()]
            if self._dribbling:
                self._dribbling = False
                self._lines.restart()
            self._on_head(method, int(status), minor == b"0", block)
        return self._read_body(*self._headed)

    def _on_head(self, method: bytes, status: int, http10: bool, block: bytes) -> None:
        if status == 101 and self._accept is not None and not http10:
            self._on_switching(block, self._accept)
            return
        if status < 200:
            self._on_interim(status)
            return
        fields, values = split_fields(block)
        if len(values) != len(fields):
            _refuse_repeated(fields)
        left_out = self._on_connection(fields, values, http10)
        bodiless = method == b"HEAD" or status in (204, 304)
        self._length = _framing(values, http10, self._limits.response_body_bytes_max, checked=not bodiless)
        if bodiless:
            self._length = 0
            if status != 204:
                left_out = left_out - {b"content-length"}  # it describes a body that is not sent
        self._headed = status, field_lines(fields, left_out, _OURS)

    def _on_switching(self, block: bytes, accept: bytes) -> None:
        fields, values = split_fields(block)
        left_out = self._on_connection(fields, values, http10=False)
        check_switching(fields, accept)
        self.keep_alive = False
        self._length = 0
        self._headed = 101, field_lines(fields, left_out, _OURS)

    def _on_interim(self, status: int) -> None:
        self._interim_left -= 1
        if status == 101 or self._interim_left < 0:
            raise Malformed("an upgrade nobody asked for, or too many interim answers (RFC 9110 §15.2)")

    def _on_connection(self, fields: list[Field], values: dict[bytes, bytes], http10: bool) -> frozenset[bytes]:
        """Note whether the connection goes on, and return the names of the fields that end here."""
        self.keep_alive = not http10
        if b"connection" not in values:
            return _LEFT_OUT
        options = connection_options(combined(fields, b"connection"))
        self.keep_alive = b"close" not in options and (not http10 or b"keep-alive" in options)
        return _LEFT_OUT | options

    def _read_body(self, status: int, head: bytes) -> Outcome | None:
        buffer = self._buffer
        if self._length == _CHUNKED:
            return self._read_chunks(status, head)
        if self._length == _UNTIL_CLOSE:
            if len(buffer) > self._limits.response_body_bytes_max:
                raise Malformed("the body is too large")
            return None
        if len(buffer) < self._length:
            return None
        body = bytes(buffer[: self._length])
        del buffer[: self._length]
        return self._complete(status, head, body)

    def _read_chunks(self, status: int, head: bytes) -> Outcome | None:
        limits = self._limits
        if self._chunks is None:
            self._chunks = ChunkedBody(
                limits.response_body_bytes_max,
                limits.chunk_extension_bytes_max,
                limits.response_head_bytes_max,
                limits.fields_max,
            )
        body = self._chunks.read(self._buffer)
        if body is None:
            return None
        self._chunks = None
        return self._complete(status, head, body)

    def _complete(self, status: int, head: bytes, body: bytes) -> Outcome:
        self._methods.popleft()
        self._headed = None
        self._interim_left = self._limits.interim_responses_max
        self.started = False
        # Bytes beyond the last answer: whose would they be?
        if self._length == _UNTIL_CLOSE or (self._buffer and not self._methods):
            self.keep_alive = False
        return Outcome(status, head, body)


def response_bytes(outcome: Outcome, extra: bytes, *, head_only: bool, close: bool) -> bytes:
    """Return the answer to a client; `extra` are complete field lines, `head_only` says that it answers a HEAD."""
    status, head, body = outcome.status, outcome.head, outcome.body
    ending = b"Connection: close\r\n\r\n" if close else b"\r\n"
    if status in (204, 304) or (head_only and not body):
        return b"%b%b%b%b" % (_STATUS_LINES[status], head, extra, ending)
    return b"%b%b%bContent-Length: %d\r\n%b%b" % (
        _STATUS_LINES[status],
        head,
        extra,
        len(body),
        ending,
        b"" if head_only else body,
    )


def _check_status_line(line: bytes) -> None:
    if not _GOOD_STATUS_LINE.fullmatch(line):
        raise Malformed("the status line is malformed (RFC 9112 §4)")


def _refuse_repeated(fields: list[Field]) -> None:
    names = [lower for _, lower, _ in fields]
    if any(names.count(name) > 1 for name in _SINGLE):
        raise Malformed("a framing field is repeated (RFC 9112 §6.3)")


def _framing(values: dict[bytes, bytes], http10: bool, body_max: int, *, checked: bool) -> int:
    """Return the length of the body, `_CHUNKED` or `_UNTIL_CLOSE`; `checked` means that it will be read."""
    coding, length = values.get(b"transfer-encoding"), values.get(b"content-length")
    if coding is not None:
        if http10 or length is not None:
            raise Malformed("Transfer-Encoding beside Content-Length, or in HTTP/1.0 (RFC 9112 §6.1)")
        check_transfer_encoding(coding)
        return _CHUNKED
    if length is None:
        return _UNTIL_CLOSE
    return content_length(length, body_max if checked else 1 << 63)

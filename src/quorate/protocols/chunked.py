"""The chunked transfer coding (RFC 9112 §7.1), read strictly: sizes in plain hexadecimal, CRLF, no whitespace.

Extensions are checked and dropped, and so are trailers, which nobody may rely on (RFC 9110 §6.5.1); a trailer that
speaks of framing is refused. All bytes that are not content are bounded over the whole body, not per chunk, so that a
crumb of content can't be wrapped in a flood.
"""

from __future__ import annotations

import re

from quorate.protocols.fields import TOKEN, Malformed, check_field_line, next_line

# Each choice below is decided by one octet, so backtracking stays linear. Possessive groups would say so, but Python
# before 3.11.5 matches them wrongly when there is a choice inside (python/cpython#106052).
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = b";" + TOKEN + b"(?:=(?:" + TOKEN + b"|" + _QUOTED + b"))?"
_SIZE_LINE = re.compile(b"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)\r\n")
_SIZE_LINE_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,16}+(?:;.*+|\r?)", re.DOTALL)
_SIZE_LINE_BYTES = 16 + 2
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})


class ChunkedBody:
    """Takes one chunked body off the front of a buffer, as it arrives."""

    def __init__(self, body_max: int, extension_max: int, trailer_max: int, trailers_max: int) -> None:
        self._body = bytearray()
        self._body_max = body_max
        self._extension_left = extension_max
        self._trailer_left = trailer_max
        self._trailers_left = trailers_max
        self._chunk_left = 0
        self._step = self._read_size
        self._complete = False

    def read(self, buffer: bytearray) -> bytes | None:
        """Consume what there is of the body and return it once its end is reached, else None.

        Raises `Malformed`: bad_request, content_too_large, or fields_too_large for trailers.
        """
        while not self._complete and self._step(buffer):
            continue
        return bytes(self._body) if self._complete else None

    # Each step consumes one element, names its successor in `_step`, and says whether there was enough to go on.

    def _read_size(self, buffer: bytearray) -> bool:
        line = next_line(buffer, 0, _SIZE_LINE_BYTES + self._extension_left, "bad_request")
        if line is None:
            if not _SIZE_LINE_SO_FAR.fullmatch(buffer):
                raise Malformed("a chunk size is not plain hexadecimal (RFC 9112 §7.1)")
            return False
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise Malformed("a chunk size line is malformed (RFC 9112 §7.1)")
        self._chunk_left = int(match[1], 16)
        self._extension_left -= len(match[2])
        if self._chunk_left >= 1 << 63 or self._extension_left < 0:
            raise Malformed("a chunk size or its extensions are too long (RFC 9112 §7.1)")
        if len(self._body) + self._chunk_left > self._body_max:
            raise Malformed(f"the content exceeds {self._body_max} bytes", "content_too_large")
        del buffer[: len(line)]
        self._step = self._read_data if self._chunk_left else self._read_trailer
        return True

    def _read_data(self, buffer: bytearray) -> bool:
        piece = buffer[: self._chunk_left]
        del buffer[: len(piece)]
        self._body += piece
        self._chunk_left -= len(piece)
        if self._chunk_left:
            return False
        self._step = self._read_data_end
        return True

    def _read_data_end(self, buffer: bytearray) -> bool:
        if not b"\r\n".startswith(buffer[:2]):
            raise Malformed("a chunk does not end in CRLF (RFC 9112 §7.1)")
        if len(buffer) < 2:
            return False
        del buffer[:2]
        self._step = self._read_size
        return True

    def _read_trailer(self, buffer: bytearray) -> bool:
        line = next_line(buffer, 0, self._trailer_left, "fields_too_large")
        if line is None:
            return False
        del buffer[: len(line)]
        if line == b"\r\n":
            self._complete = True
            return True
        self._trailer_left -= len(line)
        self._trailers_left -= 1
        if self._trailers_left < 0:
            raise Malformed("too many trailers", "fields_too_large")
        check_field_line(line)
        if line.partition(b":")[0].lower() in _FRAMING:
            raise Malformed("a trailer speaks of framing or routing (RFC 9110 §6.5.1)")
        return True

"""A request as every copy of the service gets it: written anew, in one form, whatever the client's bytes were.

End-to-end fields keep their order and the case of their names. Fields that end at this hop, framing, Expect, and names
that only Quorate sets are left out; Content-Length is what the body measures, X-Forwarded-For tells of the client and
Via of us, and the Max-Forwards of OPTIONS counts down (RFC 9110 §7.6.2).
"""

from __future__ import annotations

from quorate.protocols.fields import HOP_BY_HOP, INTERNAL, Field, field_lines
from quorate.protocols.requests import Request
from quorate.types import Call

_LEFT_OUT = HOP_BY_HOP | {b"content-length", b"expect", b"x-forwarded-for"}
_WITH_CONTENT = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose content means something even when it is empty: they state its length (RFC 9110 §8.6)."""


def canonical_call(request: Request, pseudonym: bytes) -> Call:
    """Return the call to order; `pseudonym` is our name in Via (RFC 9110 §7.6.3), after the client's own HTTP version.

    Other X-Forwarded fields are left as they came: whoever sets them stands before us.
    """
    fields = request.fields if request.method != b"OPTIONS" else _count_hop(request.fields)
    version = 0 if request.http10 else 1
    head = b"%b %b HTTP/1.1\r\n%b%bVia: 1.%d %b\r\n" % (
        request.method,
        request.target,
        field_lines(fields, _LEFT_OUT, INTERNAL),
        _forwarded_for(request),
        version,
        pseudonym,
    )
    if request.body or request.method in _WITH_CONTENT:
        head += b"Content-Length: %d\r\n" % len(request.body)
    return Call(request.method, head, request.body)


def delivery_bytes(call_head: bytes, injected: bytes, body: bytes) -> bytes:
    """Return the bytes for the service; `injected` are complete field lines, the same at every replica."""
    return b"%b%b\r\n%b" % (call_head, injected, body)


def _forwarded_for(request: Request) -> bytes:
    """Return the line that names the client last, behind whoever was named before; none where there is nobody to name.

    Only what its own sidecar put there can be trusted by a service (RFC 7239 §8.1). It is one line, as what a client
    sent in a line of its own would be all that many a service looks at.
    """
    before, client = request.get(b"x-forwarded-for"), request.client
    named = b"%b, %b" % (before, client) if before and client else before or client
    return b"X-Forwarded-For: %b\r\n" % named if named else b""


def _count_hop(fields: list[Field]) -> list[Field]:
    return [
        (name, lower, b"%d" % max(0, int(value) - 1)) if lower == b"max-forwards" else (name, lower, value)
        for name, lower, value in fields
    ]

"""The opening handshake of WebSocket, as far as one who passes it on must judge it (RFC 6455 §4, RFC 9110 §7.8).

Only `websocket`, offered alone, by GET, over HTTP/1.1 is an upgrade; any other Upgrade field is dropped, as a server
may do. The fields that speak of this hop are never the client's or the service's own: they are written anew on either
side. A 101 counts only from a service that has switched to WebSocket and says so by the right Sec-WebSocket-Accept,
for what a proxy takes for a tunnel and a server for requests is a way to smuggle them.
"""

from __future__ import annotations

import base64
import hashlib

from quorate.protocols.canonical import delivery_bytes
from quorate.protocols.fields import Field, Malformed, combined, connection_options
from quorate.protocols.requests import Request
from quorate.types import Call, Outcome

_HOP = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the key is hashed with (RFC 6455 §1.3)."""


def asks_for_websocket(request: Request) -> bool:
    """Say whether a request asks to go on in WebSocket."""
    return request.method == b"GET" and request.upgrade.lower() == b"websocket"


def expected_accept(request: Request) -> bytes:
    """Return the Sec-WebSocket-Accept that answers the request's key (RFC 6455 §4.2.2)."""
    key = request.get(b"sec-websocket-key") or b""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def upgrade_bytes(call: Call) -> bytes:
    """Return the bytes for the service of a call that asks for an upgrade; it has no body."""
    return delivery_bytes(call.head, _HOP, b"")


def switching_bytes(outcome: Outcome, extra: bytes) -> bytes:
    """Return the 101 for the client; `extra` are complete field lines."""
    return b"HTTP/1.1 101 Switching Protocols\r\n%b%b%b\r\n" % (outcome.head, extra, _HOP)


def check_switching(fields: list[Field], accept: bytes) -> None:
    """Raise `Malformed` unless the fields of a 101 are those of a switch to WebSocket (RFC 6455 §4.2.2)."""
    if combined(fields, b"upgrade").lower() != b"websocket":
        raise Malformed("a 101 switches to something else than WebSocket")
    if b"upgrade" not in connection_options(combined(fields, b"connection")):
        raise Malformed("Connection of a 101 does not name Upgrade (RFC 9110 §7.8)")
    if combined(fields, b"sec-websocket-accept") != accept:
        raise Malformed("Sec-WebSocket-Accept does not answer the key (RFC 6455 §4.2.2)")

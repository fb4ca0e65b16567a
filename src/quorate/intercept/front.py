"""From a client's request to the replica and back: what the front door adds to plain HTTP.

In: the routing policy chooses between the order and a read; `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-
header-07) and its fingerprint travel with the call; a `Quorate-Index` from an earlier answer asks for a state no
older; a WebSocket on a route of mode pass is asked of the service. Out: the service's own answer, with `Quorate-Index`,
`Quorate-Request-Id`, `Idempotency-Replayed` and Via.

Answered here: stored outcomes below `/.well-known/quorate/`, OPTIONS that may go no further, requests that have been
here before (508), and keys or indices that make no sense. Everything else is the replica's to answer.
"""

from __future__ import annotations

import functools
import hashlib
import posixpath
import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from quorate import limits
from quorate.intercept.connection import Respond
from quorate.intercept.policy import Mode, Route, RoutePolicy
from quorate.protocols.canonical import canonical_call
from quorate.protocols.problems import problem
from quorate.protocols.requests import Request
from quorate.protocols.upgrades import asks_for_websocket, expected_accept
from quorate.replica.tunnels import Upgrade
from quorate.types import Call, Index, Outcome, ReadMode, Reply

OUTCOMES_PATH = b"/.well-known/quorate/outcomes/"
"""Followed by a request id in hexadecimal: what became of it."""
_RESERVED_PATH = b"/.well-known/quorate/"

_KEY = re.compile(rb'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|([\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+)')
_INDEX = re.compile(rb"[0-9]{1,18}")
_REQUEST_ID = re.compile(rb"[0-9a-f]{32}")
_READ_MODES = {Mode.READ: ReadMode.LINEARIZABLE, Mode.STALE: ReadMode.STALE, Mode.PASS: ReadMode.PASS}
_JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"
_ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"


class Replica(Protocol):
    """What the front needs of the replica; `done` is called exactly once, possibly before the call returns.

    `deadline` is in the event loop's time.
    """

    def submit(
        self, call: Call, key: bytes | None, fingerprint: bytes, deadline: float, done: Callable[[Reply], None]
    ) -> None:
        """Order a call and answer it."""
        ...

    def read(self, call: Call, mode: ReadMode, at_least: Index, deadline: float, done: Callable[[Reply], None]) -> None:
        """Answer a call off the log, from a state that has applied `at_least`."""
        ...

    def upgrade(
        self, call: Call, accept: bytes, deadline: float, done: Callable[[Outcome, Upgrade | None], None]
    ) -> None:
        """Ask the service for an upgrade; a 101 comes with what it goes on with."""
        ...

    def outcome(self, request_id: bytes) -> Reply | None:
        """Return what became of a call, if that is still stored."""
        ...


class FrontOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets."""

    pseudonym: bytes
    """Our name in Via, such as quorate-r1; two fronts a request may rightly pass in a row must differ in it."""
    request_seconds: float = limits.REQUEST_SECONDS_MAX
    durability: bytes = b""
    """What an acknowledged write survives, told in Quorate-Durability where that is less than a power cut."""
    private: tuple[str, ...] = ()
    """Paths of the service that are the sidecar's alone, such as those of its whole state."""


class Front:
    """A handler for `HttpServer`; `clock` is the event loop's."""

    def __init__(
        self, replica: Replica, policy: RoutePolicy, options: FrontOptions, clock: Callable[[], float]
    ) -> None:
        self._replica = replica
        self._policy = policy
        self._pseudonym = options.pseudonym
        ours = re.escape(options.pseudonym)
        self._passed_here = re.compile(rb"(?:\A|,)[ \t]*+[^ \t,]++[ \t]++" + ours + rb"[ \t]*+(?:[,(]|\Z)")
        self._ours = b"Via: 1.1 %b\r\n" % options.pseudonym
        """Fields of every answer."""
        if options.durability:
            self._ours += b"Quorate-Durability: %b\r\n" % options.durability
        self._private = frozenset(_plain(path.encode()) for path in options.private)
        self._request_seconds = options.request_seconds
        self._clock = clock

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer one request, now or later."""
        route = self._policy.match(request.method, request.target)
        answer = self._answer_here(request) or _refuse(request, route)
        if answer is not None:
            respond(answer, self._ours, False)
        elif route.mode is Mode.ORDERED:
            self._submit(request, respond)
        elif route.mode is Mode.PASS and asks_for_websocket(request):
            self._upgrade(request, respond)
        else:
            self._read(request, _READ_MODES[route.mode], respond)

    def _submit(self, request: Request, respond: Respond) -> None:
        key, fingerprint = None, b""
        if b"idempotency-key" in request.values:
            key, fingerprint = _key(request), _fingerprint(request)
        call = canonical_call(request, self._pseudonym)
        deadline = self._clock() + self._request_seconds
        self._replica.submit(call, key, fingerprint, deadline, functools.partial(self._reply, respond))

    def _read(self, request: Request, mode: ReadMode, respond: Respond) -> None:
        at_least = int(request.values.get(b"quorate-index", b"0"))
        call = canonical_call(request, self._pseudonym)
        deadline = self._clock() + self._request_seconds
        self._replica.read(call, mode, at_least, deadline, functools.partial(self._reply, respond))

    def _upgrade(self, request: Request, respond: Respond) -> None:
        """Ask for a tunnel; without one, what the client sent behind its request is read by nobody."""

        def done(outcome: Outcome, upgrade: Upgrade | None) -> None:
            respond(outcome, self._ours, upgrade is None, upgrade)

        if request.body:
            respond(_bad_field("A request that asks for an upgrade bears no content."), self._ours, True)
            return
        call = canonical_call(request, self._pseudonym)
        self._replica.upgrade(call, expected_accept(request), self._clock() + self._request_seconds, done)

    def _reply(self, respond: Respond, reply: Reply) -> None:
        extra = self._ours
        if reply.request_id:
            extra = b"Quorate-Request-Id: %b\r\n%b" % (reply.request_id.hex().encode(), extra)
        if reply.replayed:
            extra = b"Idempotency-Replayed: true\r\n" + extra
        if reply.index:
            extra = b"Quorate-Index: %d\r\n%b" % (reply.index, extra)
        # A replica that turned a client away for want of readiness, quorum or room sends it to look for another; and
        # what became of one request of a connection must be known before the next is taken on it (P1, FIFO).
        respond(reply.outcome, extra, reply.index == 0 and reply.outcome.status in (503, 504, 507))

    def _answer_here(self, request: Request) -> Outcome | None:
        """Return the answer to what is not the service's to answer, or None."""
        if b"via" in request.values and self._passed_here.search(request.get(b"via") or b""):
            return problem(508, "loop_detected", "The request came back", "A service must not call its own front door.")
        if request.target.startswith(_RESERVED_PATH):
            return self._answer_reserved(request)
        if self._private and _plain(request.target) in self._private:
            return problem(403, "private_path", "This path is not for clients", "It serves the replication alone.")
        if request.method == b"OPTIONS" and int(request.values.get(b"max-forwards", b"1")) == 0:
            return Outcome(200, _ALLOW, b"")
        return None

    def _answer_reserved(self, request: Request) -> Outcome:
        if request.method not in (b"GET", b"HEAD"):
            refusal = problem(405, "method_not_allowed", "The method is not allowed", "Outcomes can only be read.")
            return Outcome(405, b"Allow: GET, HEAD\r\n" + refusal.head, refusal.body)
        digits = request.target.removeprefix(OUTCOMES_PATH)
        reply = self._replica.outcome(bytes.fromhex(digits.decode())) if _REQUEST_ID.fullmatch(digits) else None
        if reply is None:
            hint = "It was never executed here, is not executed yet, or its outcome is no longer stored."
            return problem(404, "unknown_request", "No such outcome is stored", hint)
        state = {"request_id": digits.decode(), "index": reply.index, "status": reply.outcome.status}
        return Outcome(200, _JSON, msgspec.json.encode(state))


def _refuse(request: Request, route: Route) -> Outcome | None:
    """Return the refusal of a request whose fields for us make no sense, or None."""
    values = request.values
    if b"idempotency-key" not in values:
        if route.key_required and route.mode is Mode.ORDERED:
            return problem(400, "key_required", "An Idempotency-Key is required", "Send one, and the same on a retry.")
    elif not 0 < len(_key(request)) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        return _bad_field("Idempotency-Key is one string of 1 to 256 visible ASCII characters.")
    if b"quorate-index" in values and not _INDEX.fullmatch(request.get(b"quorate-index") or b""):
        return _bad_field("Quorate-Index is one decimal number, as an earlier answer gave it.")
    return None


def _plain(target: bytes) -> bytes:
    """Return the path of a target as the most lenient service may read it, so that none is reached by a disguise."""
    path = unquote_to_bytes(target.partition(b"?")[0]).partition(b"?")[0]
    return posixpath.normpath(b"/" + path.replace(b"\\", b"/").lstrip(b"/")).lower()


def _bad_field(hint: str) -> Outcome:
    return problem(400, "bad_request", "A field makes no sense", hint)


def _key(request: Request) -> bytes:
    """Return the key a client gave as a quoted string (RFC 9651 §3.3.3) or bare; empty when it is neither."""
    match = _KEY.fullmatch(request.get(b"idempotency-key") or b"")
    if match is None:
        return b""
    return match[2] or re.sub(rb"\\(.)", rb"\1", match[1])


def _fingerprint(request: Request) -> bytes:
    """Return 16 bytes by which a key that comes back with another request is told; neither part holds a newline."""
    line = b"%b %b\n" % (request.method, request.target)
    return hashlib.blake2b(line + request.body, digest_size=16).digest()

"""Which requests are ordered: the routing policy, method and path -> mode.

Routes are tried in order and the first that matches wins; without one, safe methods (RFC 9110 §9.2.1) read and all
others are ordered. A route's glob is matched against the decoded path, since that is what services route by: `*`
stands for anything within a segment, `**` for anything at all. GET in a route covers HEAD, which services answer by
the same handler.

Where routes are set, a path that could be understood in two ways (dot segments, doubled or encoded slashes,
backslashes, path parameters, broken escapes) matches none and is ordered: order is what can't do harm. Case and a
slash at the end are the operator's to spell out, if the service takes them for the same.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from quorate.errors import Misuse
from quorate.protocols.fields import SAFE_METHODS

_TWOFOLD = re.compile(rb"//|/\.\.?(?:/|\Z)|[\\;\x00-\x1f\x7f]|%(?:2[Ff]|5[Cc])|%(?![0-9A-Fa-f]{2})")
_WILDCARDS = {"**": ".*", "*": "[^/]*"}


class Mode(enum.Enum):
    """How a request is served."""

    ORDERED = "ordered"
    """By every replica, at its place in the total order."""
    READ = "read"
    """By this replica, after a read barrier (P3)."""
    STALE = "stale"
    """By this replica as it is."""
    PASS = "pass"  # noqa: S105 - a route mode, not a credential
    """By the local service, even while it is catching up."""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the policy; no methods means all of them."""

    path: str
    mode: Mode
    methods: tuple[str, ...] = ()
    key_required: bool = False
    """An ordered request without an Idempotency-Key is refused."""


_ORDERED = Route("**", Mode.ORDERED)
_READ = Route("**", Mode.READ)


class RoutePolicy:
    """The routes of one service; raises `Misuse` for a glob that can't match any path."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        self._routes = [(_compile(route.path), _methods(route), route) for route in routes]

    def match(self, method: bytes, target: bytes) -> Route:
        """Return the route that decides about a request; `target` is its path, with the query if it has one."""
        default = _READ if method in SAFE_METHODS else _ORDERED
        if not self._routes:
            return default
        path = target.partition(b"?")[0]
        decoded = unquote_to_bytes(path)
        if _TWOFOLD.search(path) or _TWOFOLD.search(decoded):
            return _ORDERED
        for pattern, methods, route in self._routes:
            if (not methods or method in methods) and pattern.fullmatch(decoded):
                return route
        return default

    def mode(self, method: bytes, target: bytes) -> Mode:
        """Return how a request is served."""
        return self.match(method, target).mode


def _compile(glob: str) -> re.Pattern[bytes]:
    if not glob.startswith(("/", "*")):
        raise Misuse(f"route path {glob!r} matches nothing", "begin it with / or with **")
    parts = re.split(r"(\*\*|\*)", glob)
    return re.compile("".join([_WILDCARDS.get(part, re.escape(part)) for part in parts]).encode(), re.DOTALL)


def _methods(route: Route) -> frozenset[bytes]:
    methods = frozenset(method.upper().encode() for method in route.methods)
    return methods | {b"HEAD"} if b"GET" in methods else methods

from __future__ import annotations

import pytest

from quorate.errors import Misuse
from quorate.intercept.policy import Mode, Route, RoutePolicy

PLAIN = RoutePolicy()
ROUTED = RoutePolicy(
    [
        Route("/search", Mode.READ, methods=("POST",)),
        Route("/incr", Mode.ORDERED, methods=("get",)),
        Route("/pay/**", Mode.ORDERED, key_required=True),
        Route("/users/*/avatar", Mode.STALE),
        Route("/health", Mode.PASS),
        Route("/caf\xe9", Mode.PASS),
        Route("/health", Mode.ORDERED),
    ]
)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_safe_methods_read(method: bytes) -> None:
    assert PLAIN.mode(method, b"/any?thing") is Mode.READ
    assert ROUTED.mode(method, b"/any?thing") is Mode.READ


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE", b"PURGE", b"get"])
def test_all_others_are_ordered(method: bytes) -> None:
    assert PLAIN.mode(method, b"/any?thing") is Mode.ORDERED
    assert ROUTED.mode(method, b"/any?thing") is Mode.ORDERED


@pytest.mark.parametrize(
    ("method", "target", "mode"),
    [
        (b"POST", b"/search?q=x", Mode.READ),
        (b"PUT", b"/search", Mode.ORDERED),
        (b"GET", b"/incr", Mode.ORDERED),
        (b"HEAD", b"/incr", Mode.ORDERED),
        (b"GET", b"/incr?health", Mode.ORDERED),
        (b"GET", b"/users/7/avatar", Mode.STALE),
        (b"GET", b"/users/7/8/avatar", Mode.READ),
        (b"GET", b"/users//avatar", Mode.ORDERED),
        (b"GET", b"/pay/a/b", Mode.ORDERED),
        (b"GET", b"/pay", Mode.READ),
        (b"POST", b"/health", Mode.PASS),
        (b"GET", b"/healthy", Mode.READ),
        (b"GET", b"/caf%C3%A9", Mode.PASS),
        (b"OPTIONS", b"*", Mode.READ),
    ],
)
def test_the_first_route_that_matches_wins(method: bytes, target: bytes, mode: Mode) -> None:
    assert ROUTED.mode(method, target) is mode


@pytest.mark.parametrize("target", [b"/%69ncr", b"/in%63r?x", b"/%69%6e%63%72"])
def test_escapes_do_not_lead_around_a_route(target: bytes) -> None:
    assert ROUTED.mode(b"GET", target) is Mode.ORDERED


@pytest.mark.parametrize(
    "target",
    [
        b"/health/../incr", b"/health/%2e%2e/incr", b"/./incr", b"//incr", b"/incr/.", b"/x/..", b"/a%2fb",
        b"/a%2Fb", b"/a%5cb", b"/health\\..\\incr", b"/incr;x=y", b"/incr%3bx", b"/incr%00", b"/incr%0a",
        b"/incr%zz", b"/incr%4", b"/incr%",
        b"/health%2f%2e%2e%2fincr",
    ],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_is_ordered(target: bytes) -> None:
    assert ROUTED.mode(b"GET", target) is Mode.ORDERED


def test_a_route_may_require_a_key() -> None:
    assert ROUTED.match(b"POST", b"/pay/7").key_required
    assert not ROUTED.match(b"POST", b"/other").key_required


def test_a_route_for_everything() -> None:
    policy = RoutePolicy([Route("**", Mode.ORDERED)])
    assert policy.mode(b"GET", b"/") is Mode.ORDERED
    assert policy.mode(b"OPTIONS", b"*") is Mode.ORDERED


def test_only_stars_are_special_in_a_glob() -> None:
    policy = RoutePolicy([Route("/a.b[c]", Mode.STALE)])
    assert policy.mode(b"GET", b"/a.b[c]") is Mode.STALE
    assert policy.mode(b"GET", b"/aXbc") is Mode.READ


def test_a_glob_that_can_match_nothing_is_refused() -> None:
    with pytest.raises(Misuse, match="matches nothing"):
        RoutePolicy([Route("health", Mode.PASS)])

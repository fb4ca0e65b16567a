"""Addresses as they are written."""

from __future__ import annotations

import pytest

from quorate.errors import Misuse
from quorate.transport.addresses import is_loopback, is_unspecified, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7101", "127.0.0.1", 7101), ("[::1]:1", "::1", 1), ("r1.bank:65535", "r1.bank", 65535)],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", ":7101", "localhost:0", "a:65536", "a:7x", "a:²"])
def test_what_is_no_address_is_misuse(text: str) -> None:
    with pytest.raises(Misuse, match="is not host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback", "unspecified"),
    [
        ("127.0.0.1", True, False),
        ("127.8.8.8", True, False),
        ("::1", True, False),
        ("localhost", True, False),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("192.0.2.1", False, False),
        ("localhost.example", False, False),
    ],
)
def test_where_a_listener_is_reached(host: str, loopback: bool, unspecified: bool) -> None:
    assert (is_loopback(host), is_unspecified(host)) == (loopback, unspecified)

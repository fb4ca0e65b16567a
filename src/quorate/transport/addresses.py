"""Addresses of peers: host and port, as settings, memberships and greetings write them."""

from __future__ import annotations

import ipaddress

from quorate.errors import Misuse

Address = tuple[str, int]


def parse_address(address: str) -> Address:
    """Return host and port of "host:port" or "[v6]:port". Raises `Misuse`."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise Misuse(f"peer address {address!r} is not host:port", 'for example "127.0.0.1:7101" or "[::1]:7101"')
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Say whether what listens on `host` is reached from this machine only; of names, that is known of localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_unspecified(host: str) -> bool:
    """Say whether `host` means every interface, so that nobody could dial it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

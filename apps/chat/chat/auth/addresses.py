"""Where a request comes from.

The HTTP server has looked already: behind a proxy on its list (FORWARDED_ALLOW_IPS; loopback, unless it is set) the
client is the last address in X-Forwarded-For that isn't itself such a proxy. Nobody else's word is taken. Behind a
proxy that doesn't tell, all clients have the proxy's address, and share its bound.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

from fastapi import Request

NETWORK_BITS = 64
"""Of an IPv6 address: what one subscriber gets is a network at least as large (RFC 6177)."""


def address_of(request: Request) -> str:
    """Return the address, or `unknown` where it is none."""
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address))  # without the name of an interface
    return str(address)


def counted_as(address: str) -> str:
    """Return what failures from this address are counted under: of IPv6, the network."""
    return str(IPv6Network((address, NETWORK_BITS), strict=False)) if ":" in address else address

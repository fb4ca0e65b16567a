"""Under which address failures are counted."""

import pytest

from chat.auth.addresses import counted_as


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_of_ipv6_the_network_is_counted(address: str, counted: str) -> None:
    assert counted_as(address) == counted

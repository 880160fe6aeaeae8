"""Who referred the most, found out once a minute at most."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from referral import clock
from referral.contract.schemas.fields import LARGEST_SUM
from referral.contract.schemas.leaderboard import MOST_PLACES, REVENUE
from referral.database import Database
from referral.queries import leaderboard
from referral.queries.leaderboard import ListedUser, Referrer
from referral.queries.programme_stats import BILLION
from referral.rules.periods import period_of

# Seconds for which what was found out is kept.
KEPT = 60.0
PUBLIC_NAME = "public_name"


class Question(NamedTuple):
    """What is asked for: whom, in which period and, of revenue alone, in which unit."""

    by: str
    period: str
    unit: str | None


class Leaderboard:
    """The boards that were asked for, each of which is read by one task for all who wait for it.

    Only who is on them is kept. Names are read for each answer, so that nobody is listed who is erased or suspended by then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boards: dict[Question, tuple[float, asyncio.Task[list[Referrer]]]] = {}

    async def places(self, question: Question, limit: int) -> list[dict[str, Any]]:
        """The first places, so many at most, as `Place` documents. The unit of the question is one of the settings'."""
        referrers = await asyncio.shield(self._board(question))
        async with self._database.reader() as conn:
            listed = await leaderboard.list_listed_users(conn, [one.user_id for one in referrers])
        return _places(referrers, listed, question.unit)[:limit]

    def _board(self, question: Question) -> asyncio.Task[list[Referrer]]:
        since, board = self._boards.get(question, (0.0, None))
        if board is None or (board.done() and (monotonic() - since > KEPT or board.cancelled() or board.exception())):
            board = asyncio.create_task(self._read(question))
            self._boards[question] = monotonic(), board
        return board

    async def _read(self, question: Question) -> list[Referrer]:
        by, name, unit = question
        period = period_of(name, clock.now())
        # Of its own on SQLite: whoever else reads does not wait for it.
        async with self._database.replica(snapshot=True) as conn:
            if unit is not None:
                bought = await leaderboard.list_most_revenue(conn, unit, period, MOST_PLACES)
                return [Referrer(one.user_id, min(one.billions * BILLION + one.rest, LARGEST_SUM)) for one in bought]
            if name == "ever":
                of_all_time = leaderboard.list_most_referrals if by == "referrals" else leaderboard.list_most_converted
                return await of_all_time(conn, MOST_PLACES)
            if by == "referrals":
                return await leaderboard.list_most_referrals_of_period(conn, period, MOST_PLACES)
            return await leaderboard.list_most_converted_of_period(conn, period, MOST_PLACES)

    async def close(self) -> None:
        """End what is still being read."""
        tasks = [board for _, board in self._boards.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


LEADERBOARD = web.AppKey("leaderboard", Leaderboard)


def asked_question(by: str, period: str, unit: str | None, units: Sequence[str]) -> Question:
    """What a query asks for; `units` are those of the setting."""
    if by != REVENUE:
        return Question(by, period, None)
    return Question(by, period, unit or units[0].partition(":")[0])


def _places(referrers: list[Referrer], listed: list[ListedUser], unit: str | None) -> list[dict[str, Any]]:
    """The documents of those who are listed, in their order; who has as much as the one before has the same rank."""
    metadata = {user.id: user.metadata for user in listed}
    places: list[dict[str, Any]] = []
    before = None
    for referrer in referrers:
        if referrer.user_id not in metadata:
            continue
        rank = places[-1]["rank"] if before == referrer.value else len(places) + 1
        before = referrer.value
        places.append(
            {
                "rank": rank,
                "user_id": referrer.user_id,
                "name": public_name(metadata[referrer.user_id]),
                "count": referrer.value if unit is None else None,
                "value": None if unit is None else {"unit": unit, "amount": referrer.value},
            }
        )
    return places


def public_name(metadata: str | None) -> str | None:
    """The name by which a user wants to be known to everybody, of their metadata (JSON)."""
    found = None if metadata is None else orjson.loads(metadata).get(PUBLIC_NAME)
    return found if isinstance(found, str) else None

"""Lists that the API and the back office answer alike: the API by page or as CSV, the back office as CSV.

Each answers what `request[QUERY]` asks for. `csv_answers.py` says how.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from referral.clock import now
from referral.contract.paging import BEGINNING, MOST_COUNTED, Key
from referral.contract.schemas.audit import AuditEventSchema, audit_event_view
from referral.contract.schemas.balances import LineSchema, line_view
from referral.contract.schemas.reviews import ReviewItemSchema, review_view
from referral.contract.schemas.rewards import RewardSchema, reward_view
from referral.contract.schemas.users import UserSchema, user_view
from referral.database import Connection
from referral.links import LINKS
from referral.queries import audit, ledger, users
from referral.queries.audit import Event
from referral.queries.ledger import Line
from referral.queries.reviews import Review
from referral.queries.rewards import Reward
from referral.rules.audit import newest_events
from referral.rules.named_user import id_of_named
from referral.rules.review_lists import newest_reviews
from referral.rules.reward_lists import find_rewards
from referral.rules.user_search import Place, find_users
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_list


async def answer_users(request: web.Request) -> web.StreamResponse:
    """Users, as UserQuerySchema asks for them."""
    query, moment = request[QUERY], now()

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[tuple[Place, users.Account]], int]:
        places, total = await find_users(conn, query, None if before == BEGINNING else before, limit)
        accounts = await users.find_accounts(conn, [place.user_id for place in places], moment)
        by_id = {account.id: account for account in accounts}
        # Whoever was erased since the look at the list is left out.
        return [(place, by_id[place.user_id]) for place in places if place.user_id in by_id], total

    return await answer_list(
        request,
        "users",
        UserSchema,
        read,
        key=lambda pair: pair[0].key,
        view=lambda pair: user_view(pair[1], moment, request.app[LINKS]),
    )


async def answer_rewards(request: web.Request, whose: Callable[[Connection], Awaitable[str | None]]) -> web.StreamResponse:
    """Rewards of a user or, where `whose` returns None, of all, as RewardsOfUserQuerySchema asks for them."""

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Reward], int]:
        return await find_rewards(conn, request[QUERY], await whose(conn), before, limit)

    return await answer_list(
        request, "rewards", RewardSchema, read, key=lambda one: (one.created_at, one.id), view=reward_view
    )


async def answer_reviews(request: web.Request, status: str | None) -> web.StreamResponse:
    """Reviews in a state, or in any."""

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[tuple[Review, list[str]]], int]:
        return await newest_reviews(conn, status, before, limit)

    return await answer_list(
        request,
        "reviews",
        ReviewItemSchema,
        read,
        key=lambda pair: (pair[0].opened_at, pair[0].user_id),
        view=lambda pair: review_view(*pair),
    )


async def answer_audit(request: web.Request) -> web.StreamResponse:
    """Security events, as AuditQuerySchema asks for them."""
    query = request[QUERY]
    event, since = query.get("event"), query.get("since", 0)

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Event], int]:
        found = await newest_events(conn, query.get("user"), event, since, before, limit)
        if "user" in query:
            user_id = await id_of_named(conn, query["user"])
            return found, await audit.count_audit_of_user(conn, user_id, event, since, MOST_COUNTED)
        return found, await audit.count_audit(conn, event, since, MOST_COUNTED)

    return await answer_list(
        request, "audit", AuditEventSchema, read, key=lambda one: (one.at, one.id), view=audit_event_view
    )


async def answer_statement(
    request: web.Request, whose: Callable[[Connection], Awaitable[str]], unit: str
) -> web.StreamResponse:
    """The lines of a user's statement in a unit."""

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Line], int]:
        user_id = await whose(conn)
        total = await ledger.find_line_count(conn, user_id, unit) or 0
        return await ledger.list_statement(conn, user_id, unit, before[0], limit), total

    return await answer_list(request, "statement", LineSchema, read, key=lambda one: (one.line, ""), view=line_view)

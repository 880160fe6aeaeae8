"""Stats: what became of a user's links."""

from datetime import timedelta

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.problems import Problem
from referral.contract.schemas.stats import COUNTS, LinkRowSchema, StatsQuerySchema, UserStatsSchema
from referral.database import DATABASE, Connection
from referral.handlers import USER_PATH
from referral.queries import codes, stats
from referral.rules.named_user import known_user
from referral.rules.stats import asked_range, day_of, milliseconds, series
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_rows, is_csv, one_page

routes = web.RouteTableDef()


@routes.get(f"{USER_PATH}/stats")
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="getUserStats",
    summary="What became of a user's links",
    description="Clicks on the links of all codes that the user ever had, or of one `code`; who signed up by them, and who "
    "converted. Days are those of UTC; `from` is included, `to` is not.",
    problems=("not-found",),
)
@querystring_schema(StatsQuerySchema)
@response_schema(UserStatsSchema, 200, description="The series, its sums, and how many of those who came went how far")
async def get_user_stats(request: web.Request) -> web.StreamResponse:
    query = request[QUERY]
    first, end = asked_range(query, day_of(now()))
    interval = query["interval"]
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        user_id = await known_user(request, conn)
        code = await _code(conn, user_id, query.get("code"))
        days = milliseconds(first), milliseconds(end - timedelta(days=1))
        counted: list[tuple[int, dict[str, int]]] = []
        for found in await stats.sum_clicks(conn, user_id, code, *days):
            counts = {"clicks": found.clicks, "visitors": found.visitors, "qr": found.qr, "robots": found.robots}
            counted.append((found.day, counts))
        for name, count in (
            ("signups", stats.count_signups),
            ("referrals", stats.count_referrals),
            ("converted", stats.count_converted),
        ):
            counted += [(found.day, {name: found.count}) for found in await count(conn, user_id, code, *days)]
    items = series(first, end, interval, COUNTS, counted)
    if is_csv(request):
        return await answer_rows(request, "stats", LinkRowSchema, one_page(items))
    totals = {name: sum(row[name] for row in items) for name in COUNTS}
    return answer(
        {
            "from": first.isoformat(),
            "to": end.isoformat(),
            "interval": interval,
            "items": items,
            "totals": totals,
            "funnel": {name: totals[name] for name in ("visitors", "referrals", "converted")},
        }
    )


async def _code(conn: Connection, user_id: str, text: str | None) -> str | None:
    """The user's code of this text. Raises `not-found`."""
    if text is None:
        return None
    found = await codes.find_code(conn, text)
    if found is None or found.referrer_id != user_id:
        raise Problem("not-found", "The user never had such a code.")
    return found.code

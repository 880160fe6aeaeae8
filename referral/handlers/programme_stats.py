"""What became of the whole programme."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.schemas.programme_stats import ProgrammeStatsSchema
from referral.contract.schemas.stats import RangeQuerySchema
from referral.database import DATABASE
from referral.handlers import API
from referral.rules.programme_stats import programme_stats
from referral.rules.stats import asked_range, day_of
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()


@routes.get(f"{API}/stats")
@allow(Access.READ)
@docs(
    tags=["Statistics"],
    operationId="getStats",
    summary="What became of the whole programme",
    description="Equal to the rows at the moment of the answer. Days are those of UTC; `from` is included, `to` is not.",
    problems=("stats-incomplete",),
)
@querystring_schema(RangeQuerySchema)
@response_schema(ProgrammeStatsSchema, 200, description="The series, its sums, the funnel, and what is owed to users")
async def get_stats(request: web.Request) -> web.Response:
    query = request[QUERY]
    first, end = asked_range(query, day_of(now()))
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        return answer(await programme_stats(conn, first, end, query["interval"]))

"""What became of the whole programme."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.schemas.programme_stats import ProgrammeRowSchema, ProgrammeStatsQuerySchema, ProgrammeStatsSchema
from referral.database import DATABASE
from referral.handlers import API
from referral.rules.programme_stats import VALUED, programme_stats
from referral.rules.stats import asked_range, day_of
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_rows, is_csv, one_page

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
@querystring_schema(ProgrammeStatsQuerySchema)
@response_schema(ProgrammeStatsSchema, 200, description="The series, its sums, the funnel, and what is owed to users")
async def get_stats(request: web.Request) -> web.StreamResponse:
    query = request[QUERY]
    first, end = asked_range(query, day_of(now()))
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        document = await programme_stats(conn, first, end, query["interval"])
    if is_csv(request):
        units = sorted({one["unit"] for name in VALUED.values() for one in document["totals"][name]})
        return await answer_rows(request, "stats", ProgrammeRowSchema, one_page(document["items"]), units)
    return answer(document)

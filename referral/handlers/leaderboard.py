"""Who referred the most."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.schemas.leaderboard import LeaderboardQuerySchema, LeaderboardSchema, PlaceSchema
from referral.handlers import API
from referral.rules.leaderboard import LEADERBOARD, asked_question
from referral.rules.units import check_unit
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_rows, is_csv, one_page

routes = web.RouteTableDef()


@routes.get(f"{API}/leaderboard")
@allow(Access.READ)
@docs(
    tags=["Statistics"],
    operationId="getLeaderboard",
    summary="Who referred the most",
    description="Found out once a minute at most. Who is suspended or erased is not listed. Users are named as they want to "
    "be known: by the text `public_name` of their metadata.",
    problems=("unit-unknown",),
)
@querystring_schema(LeaderboardQuerySchema)
@response_schema(LeaderboardSchema, 200, description="The first places")
async def get_leaderboard(request: web.Request) -> web.StreamResponse:
    query = request[QUERY]
    config = request.app[CONFIG]
    question = asked_question(query["by"], query["period"], query.get("unit"), config.rewards.units)
    if question.unit is not None:
        check_unit(question.unit, config)
    items = await request.app[LEADERBOARD].places(question, query["limit"])
    if is_csv(request):
        return await answer_rows(request, "leaderboard", PlaceSchema, one_page(items))
    return answer({"by": question.by, "period": question.period, "items": items})

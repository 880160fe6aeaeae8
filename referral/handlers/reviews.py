"""Reviews of suspicious referrals: listed, looked at, foretold and decided; and what somebody reports of a referral."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.problems import Problem
from referral.contract.schemas.reviews import (
    ReviewClearingSchema,
    ReviewPageSchema,
    ReviewPreviewSchema,
    ReviewQuerySchema,
    ReviewRejectionSchema,
    ReviewSchema,
    SignalCreationSchema,
    SignalSchema,
    balance_after_view,
    review_view,
    signal_view,
    undone_view,
)
from referral.contract.schemas.rewards import reward_view
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.queries import reviews, rewards
from referral.queries.reviews import Review
from referral.queries.rewards import VOID
from referral.rules import deciding
from referral.rules.named_user import named_user
from referral.rules.product_users import lock_known
from referral.rules.reviewing import report
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY
from referral.web.lists import answer_reviews

routes = web.RouteTableDef()

REVIEW_PATH = f"{API}/reviews/{{user:[^/]+}}"


@routes.get(f"{API}/reviews")
@allow(Access.READ)
@docs(
    tags=["Reviews"],
    operationId="listReviews",
    summary="All reviews, or those in a state",
    description="Those that were opened last come first. `total` counts no further than 10,000.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ReviewQuerySchema)
@response_schema(ReviewPageSchema, 200, description="A page of reviews")
async def list_reviews(request: web.Request) -> web.StreamResponse:
    return await answer_reviews(request, request[QUERY].get("status"))


async def _document(conn: Connection, review: Review, moment: int | None = None) -> dict[str, Any]:
    """ReviewSchema, at this moment (ms), or now."""
    signals = await reviews.list_signals(conn, review.user_id)
    found = await rewards.list_rewards_of_referral(conn, review.user_id)
    return {
        **review_view(review, sorted({signal.kind for signal in signals})),
        "signals": [signal_view(signal) for signal in signals],
        "rewards": [reward_view(reward, moment) for reward in found],
    }


@routes.get(REVIEW_PATH)
@allow(Access.READ)
@docs(
    tags=["Reviews"],
    operationId="getReview",
    summary="The review of a user's referral",
    description="With what makes the referral suspicious, and all that it brought. The user is who came.",
    problems=("not-found",),
)
@response_schema(ReviewSchema, 200, description="The review")
async def get_review(request: web.Request) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        review = await deciding.known_review(conn, await named_user(request, conn))
        return answer(await _document(conn, review))


@routes.get(f"{REVIEW_PATH}/preview")
@allow(Access.READ)
@docs(
    tags=["Reviews"],
    operationId="getRejectionPreview",
    summary="What a rejection would take back",
    description="Rewards that would become void or be taken back, from both sides, and what both have after it. A rejection "
    "does exactly this to what there is then. Nothing is changed.",
    problems=("not-found",),
)
@response_schema(ReviewPreviewSchema, 200, description="What it would do")
async def preview_rejection(request: web.Request) -> web.Response:
    async with request.app[DATABASE].snapshot() as conn:
        found = await deciding.preview(conn, await named_user(request, conn))
    undone = [undone_view(change.reward, is_void=change.status == VOID) for change in found.changes]
    return answer({"rewards": undone, "balances": [balance_after_view(*balance) for balance in found.balances]})


@routes.post(f"{REVIEW_PATH}/clear")
@allow(Access.ADMIN)
@docs(
    tags=["Reviews"],
    operationId="clearReview",
    summary="Find nothing wrong with a referral",
    description="Its rewards wait no more for the review, and those whose hold is over are earned within ten seconds. One "
    "that is cleared already stays so. If something new is found that suffices by itself, the review opens again.",
    problems=("not-found", "review-state"),
)
@json_schema(ReviewClearingSchema)
@response_schema(ReviewSchema, 200, description="The review")
async def clear_review(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        user_id = await named_user(request, work.conn)
        review = await deciding.clear(work, user_id, request[BODY]["reason"])
        document = await _document(work.conn, review, work.moment)
    return answer(document)


@routes.post(f"{REVIEW_PATH}/reject")
@allow(Access.ADMIN)
@docs(
    tags=["Reviews"],
    operationId="rejectReview",
    summary="Reject a referral",
    description="For good: what is pending of its rewards becomes void, what was earned is taken back from both sides, and "
    "what was spent of that becomes a debt. The referral counts as converted no more, and earns nothing more. One that is "
    "rejected already stays so.",
    problems=("not-found", "review-state", "sum-too-large"),
)
@json_schema(ReviewRejectionSchema, example={"reason": "One person, two accounts", "suspend_referrer": True})
@response_schema(ReviewSchema, 200, description="The review")
async def reject_review(request: web.Request) -> web.Response:
    body = request[BODY]
    async with work_on(request) as work:
        user_id = await named_user(request, work.conn)
        review = await deciding.reject(work, user_id, body["reason"], suspends=body["suspend_referrer"])
        document = await _document(work.conn, review, work.moment)
    return answer(document)


@routes.post(f"{API}/referrals/{{user:[^/]+}}/signals")
@allow(Access.WRITE)
@docs(
    tags=["Reviews"],
    operationId="reportReferral",
    summary="Report a suspicious referral",
    description="What the product noticed of who came counts as much as `weight` says. If that suffices, together with what "
    "else is known, the referral's review opens, and its rewards wait. Each call counts.",
    problems=("not-found",),
)
@json_schema(SignalCreationSchema)
@response_schema(SignalSchema, 201, description="The signal")
async def report_referral(request: web.Request) -> web.Response:
    body = request[BODY]
    async with work_on(request) as work:
        await work.hold_caller()
        user = await lock_known(work, await named_user(request, work.conn))
        signal = await report(work, user.id, body["weight"], body["note"])
        if signal is None:
            raise Problem("not-found", "The user came by nobody.")
    return answer(signal_view(signal), 201)

"""Balances, statements and redemptions: what users have, and what they spend of it."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY, is_operator
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.problems import Problem
from referral.contract.schemas.balances import (
    BalanceSchema,
    BalancesSchema,
    RedemptionCreationSchema,
    RedemptionSchema,
    StatementPageSchema,
    StatementQuerySchema,
    balance_view,
    redemption_view,
)
from referral.contract.schemas.pages import FormatQuerySchema
from referral.database import DATABASE
from referral.handlers import API, USER_PATH
from referral.queries import ledger
from referral.queries.ledger import Redemption
from referral.rules import redeeming
from referral.rules.idempotency import REPLAYED
from referral.rules.named_user import known_user, named_user
from referral.rules.redeeming import locked, no_such_redemption, redeem
from referral.rules.work import Work, work_on
from referral.texts import is_external_id
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY, read_json
from referral.web.csv_answers import answer_all
from referral.web.lists import answer_statement

routes = web.RouteTableDef()

# The id is the caller's own, percent-encoded.
REDEMPTION_PATH = f"{API}/redemptions/{{redemption_id:[^/]+}}"


@routes.get(f"{USER_PATH}/balances")
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="listBalances",
    summary="What a user has",
    description="One balance for each unit in which the user ever got anything.",
    problems=("not-found",),
)
@querystring_schema(FormatQuerySchema)
@response_schema(BalancesSchema, 200, description="The balances")
async def list_balances(request: web.Request) -> web.StreamResponse:
    async with request.app[DATABASE].reader() as conn:
        found = await ledger.list_balances(conn, await known_user(request, conn))
    return await answer_all(request, "balances", BalanceSchema, [balance_view(balance) for balance in found])


@routes.get(f"{USER_PATH}/statement")
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="listStatement",
    summary="The statement of what is available to a user",
    description="Every movement of what is available in one unit, newest first, each with what was available after it.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(StatementQuerySchema)
@response_schema(StatementPageSchema, 200, description="A page of lines")
async def list_statement(request: web.Request) -> web.StreamResponse:
    return await answer_statement(request, lambda conn: known_user(request, conn), request[QUERY]["unit"])


@routes.post(f"{USER_PATH}/redemptions")
@allow(Access.SELF_OR_WRITE)
@docs(
    tags=["Redemptions"],
    operationId="createRedemption",
    summary="Spend of a user's balance",
    description="Never more than is available. With `hold_seconds` it is only reserved, and captured or released later; "
    "its time over, it is released by itself. Made once for each `id`, for ever: the same call again is answered as the "
    "first time, with 200 and `Idempotency-Replayed: true`. Users spend themselves where `redemptions.by_user` is on; "
    "they reserve nothing.",
    problems=("not-found", "insufficient-balance", "user-suspended", "id-mismatch", "unit-unknown"),
    response_headers={
        200: {"Idempotency-Replayed": "`true`: the answer is that of the first call"},
        201: {"Location": "The redemption's address"},
    },
)
@json_schema(RedemptionCreationSchema, example={"id": "order-17", "unit": "USD", "amount": 500, "reference": "Order 17"})
@response_schema(RedemptionSchema, 201, description="The redemption")
@response_schema(RedemptionSchema, 200, description="It was made before")
async def create_redemption(request: web.Request) -> web.Response:
    body = request[BODY]
    _check_may_redeem(request)
    if body.get("hold_seconds") is not None and not is_operator(request):
        raise Problem("forbidden", "Only the product reserves: spend without hold_seconds.")
    async with request.app[DATABASE].reader() as conn:
        user_id = await named_user(request, conn)
    redeemed = await redeem(request, user_id, body, await read_json(request))
    if redeemed.is_repeated:
        return answer(redeemed.document, 200, REPLAYED)
    location = request.app[PUBLIC_URL].path(f"{API}/redemptions/{quote(body['id'], safe='')}")
    return answer(redeemed.document, 201, {"Location": location})


def _check_may_redeem(request: web.Request) -> None:
    if not is_operator(request) and not request.app[CONFIG].redemptions.by_user:
        raise Problem("forbidden", "The product spends for its users here: redemptions.by_user is off.")


@routes.get(REDEMPTION_PATH)
@allow(Access.USER_OR_READ)
@docs(
    tags=["Redemptions"],
    operationId="getRedemption",
    summary="A redemption",
    description="As it is now, with the user's balance of now. Users see their own.",
    problems=("not-found",),
)
@response_schema(RedemptionSchema, 200, description="The redemption")
async def get_redemption(request: web.Request) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        found = await ledger.find_redemption(conn, _id_in(request))
        if found is None or not (is_operator(request) or found.user_id == request[IDENTITY].user_id):
            raise no_such_redemption()
        balance = await ledger.find_balance(conn, found.user_id, found.unit)
    assert balance is not None
    return answer(redemption_view(found, balance_view(balance)))


def _id_in(request: web.Request) -> str:
    """The id that the path names. Raises `not-found` for one that nothing can have."""
    redemption_id = request.match_info["redemption_id"]
    if not is_external_id(redemption_id):
        raise no_such_redemption()
    return redemption_id


@routes.post(f"{REDEMPTION_PATH}/cancel")
@allow(Access.USER_OR_WRITE)
@docs(
    tags=["Redemptions"],
    operationId="cancelRedemption",
    summary="Give back what was spent",
    description="It is available again. A reserved one is released. The same call again changes nothing. Where "
    "`redemptions.by_user` is on, users cancel what they redeemed themselves, and not what the product redeemed for them.",
    problems=("not-found",),
)
@response_schema(RedemptionSchema, 200, description="The redemption as it is now")
async def cancel_redemption(request: web.Request) -> web.Response:
    _check_may_redeem(request)
    return await _step(request, redeeming.cancel)


@routes.post(f"{REDEMPTION_PATH}/capture")
@allow(Access.WRITE)
@docs(
    tags=["Redemptions"],
    operationId="captureRedemption",
    summary="Spend what is reserved",
    description="The same call again changes nothing.",
    problems=("not-found", "redemption-state"),
)
@response_schema(RedemptionSchema, 200, description="The redemption as it is now")
async def capture_redemption(request: web.Request) -> web.Response:
    return await _step(request, redeeming.capture)


@routes.post(f"{REDEMPTION_PATH}/release")
@allow(Access.WRITE)
@docs(
    tags=["Redemptions"],
    operationId="releaseRedemption",
    summary="Give back what is reserved",
    description="It is available again. The same call again changes nothing.",
    problems=("not-found", "redemption-state"),
)
@response_schema(RedemptionSchema, 200, description="The redemption as it is now")
async def release_redemption(request: web.Request) -> web.Response:
    return await _step(request, redeeming.release)


async def _step(request: web.Request, take: Callable[[Work, Redemption], Awaitable[dict[str, Any]]]) -> web.Response:
    """The redemption that the path names, after a step that is taken while nobody else changes it."""
    redemption_id = _id_in(request)
    async with work_on(request) as work:
        await work.hold_caller()
        redemption = await locked(work, redemption_id)
        if not is_operator(request):
            if redemption.user_id != request[IDENTITY].user_id:
                raise no_such_redemption()
            if not redemption.by_user:
                raise Problem("forbidden", "The product redeemed this, which has delivered for it.")
        document = await take(work, redemption)
    return answer(document)

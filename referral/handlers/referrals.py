"""Referrals: who came by whom."""

import uuid

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.contract.access import Access, allow
from referral.contract.paging import page, read_cursor
from referral.contract.problems import Problem
from referral.contract.schemas.pages import PageQuerySchema
from referral.contract.schemas.people import person
from referral.contract.schemas.referrals import (
    CodeUseSchema,
    ReferralPageSchema,
    ReferrerSetSchema,
    own_referral_view,
    referral_view,
)
from referral.database import DATABASE
from referral.handlers import API
from referral.queries import referrals, users
from referral.rules.referring import come_by
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY

routes = web.RouteTableDef()


@routes.post(f"{API}/users/me/referrer")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="setReferrer",
    summary="Use a code after registration",
    description="The caller comes by the code's owner from now on, and for good.",
    problems=("referrer-already-set", "referral-cycle", "known-address", "own-code", "referral-code-invalid"),
)
@json_schema(CodeUseSchema, example={"code": "8ZK4M2QA"})
@response_schema(ReferrerSetSchema, 201, description="By whom the caller came")
async def set_referrer(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        used = await come_by(work, request[IDENTITY].user_id, request[BODY]["code"])
        await work.record("referrer-set", code=used.code, referrer_id=used.referrer_id)
        referrer = await referrals.find_referrer(work.conn, used.referrer_id)
    assert referrer is not None
    return answer({"referrer": person(referrer.id, referrer.username), "code": used.code}, 201)


@routes.get(f"{API}/users/me/referrals")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="listMyReferrals",
    summary="Who came by me",
    description="Newest first.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(ReferralPageSchema, 200, description="A page of referrals, with their addresses")
async def list_my_referrals(request: web.Request) -> web.Response:
    return await _referrals_of(request, request[IDENTITY].user_id)


@routes.get(f"{API}/users/{{user_id}}/referrals")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="listReferrals",
    summary="Who came by a user",
    description="Newest first. Addresses are shown to the user in question and to an admin only.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(ReferralPageSchema, 200, description="A page of referrals")
async def list_referrals(request: web.Request) -> web.Response:
    try:
        user_id = str(uuid.UUID(request.match_info["user_id"]))
    except ValueError:
        raise Problem("not-found", "There is no such user.") from None
    return await _referrals_of(request, user_id)


async def _referrals_of(request: web.Request, user_id: str) -> web.Response:
    me, query = request[IDENTITY], request[QUERY]
    before, limit = read_cursor(query), query["limit"]
    with_email = me.is_admin or me.user_id == user_id
    async with request.app[DATABASE].reader() as conn:
        found = await referrals.list_referrals(conn, user_id, before, limit + 1, with_email=with_email)
        total = found[0].total if found else await users.find_referral_count(conn, user_id)
    if total is None:
        raise Problem("not-found", "There is no such user.")
    document, headers = page(
        request,
        found,
        limit,
        total,
        key=lambda referral: (referral.joined_at, referral.user_id),
        view=own_referral_view if with_email else referral_view,
    )
    return answer(document, headers=headers)

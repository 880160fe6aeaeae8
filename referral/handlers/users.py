"""The user's own account, referrer and referrals."""

import uuid

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.auth.passwords import PASSWORDS
from referral.cache.codes import CACHE
from referral.cache.invalidation import Changes
from referral.cache.sessions import LIVE_SESSIONS
from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.paging import page, read_cursor
from referral.contract.problems import Problem, translated
from referral.contract.schemas.pages import PageQuerySchema
from referral.contract.schemas.people import person
from referral.contract.schemas.referrals import CodeUseSchema, ReferralPageSchema, ReferrerSetSchema, referral_view
from referral.contract.schemas.users import ErasureSchema, ProfileChangeSchema, UserSchema, user_view
from referral.database import DATABASE
from referral.handlers import API
from referral.limits import ADDRESS, LIMITER
from referral.queries import audit, codes, locks, one_time_tokens, outbox, profiles, referrals, sessions, users
from referral.rules.accounts import erased, refuse_code
from referral.rules.audit import record, record_refusal
from referral.texts import key_of
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY

routes = web.RouteTableDef()


@routes.get(f"{API}/users/me")
@allow(Access.SIGNED_IN)
@docs(tags=["Me"], operationId="getMe", summary="My account")
@response_schema(UserSchema, 200, description="The caller's account")
async def get_me(request: web.Request) -> web.Response:
    moment = now()
    async with request.app[DATABASE].reader() as conn:
        account = await users.find_account(conn, request[IDENTITY].user_id, moment)
    if account is None:
        raise erased()
    return answer(user_view(account, moment))


@routes.patch(f"{API}/users/me")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="updateMe",
    summary="Choose a username",
    description="`null` takes the username away.",
    problems=("username-taken",),
)
@json_schema(ProfileChangeSchema, example={"username": "alice"})
@response_schema(UserSchema, 200, description="The account as it is now")
async def update_me(request: web.Request) -> web.Response:
    app, body, me, moment = request.app, request[BODY], request[IDENTITY], now()
    async with Changes(app[CACHE]) as changes, app[DATABASE].transaction() as conn:
        if "username" in body:
            username = body["username"]
            with translated({"users_username_key": Problem("username-taken", "This username is taken.")}):
                await users.update_username(conn, me.user_id, username, key_of(username) if username else None)
            await record(request, conn, "username-changed")
            # As of the beginning of time: an expired code, too, which may get a new expiry at this very moment.
            code = await codes.find_current_code(conn, me.user_id, 0)
            if code:
                await changes.add(conn, code.code)
        account = await users.find_account(conn, me.user_id, moment)
        if account is None:
            raise erased()
    return answer(user_view(account, moment))


@routes.delete(f"{API}/users/me")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="deleteMe",
    summary="Erase my account",
    description="The personal data goes, the code is ended, all sessions end. For the sake of the referrer's count and "
    "history a nameless entry stays.",
    responses={204: {"description": "The account is erased"}},
    problems=("wrong-password", "overloaded"),
)
@json_schema(ErasureSchema)
async def delete_me(request: web.Request) -> web.Response:
    app, me = request.app, request[IDENTITY]
    async with app[DATABASE].reader() as conn:
        contact = await users.find_contact(conn, me.user_id)
        found = await users.find_credentials_by_id(conn, me.user_id)
    if contact is None or found is None:
        raise erased()
    # Whoever came by an access token must not find the password out by it.
    await app[LIMITER].hit("login_by_account", me.user_id, request[ADDRESS])
    wrong = Problem("wrong-password", "The password is not the account's.")
    if not await app[PASSWORDS].check(request[BODY]["password"], found.password_hash):
        await record_refusal(request, "erasure-refused")
        raise wrong
    async with (
        Changes(app[LIVE_SESSIONS]) as signed_out,
        Changes(app[CACHE]) as changes,
        app[DATABASE].transaction() as conn,
    ):
        moment = now()
        # First, in the order of the worker that stores a profile: two that wait for each other would be a deadlock.
        await profiles.delete_lookup(conn, me.user_id)
        if not await users.erase_user(conn, me.user_id, found.password_hash, moment):
            # Since the check, the password was changed or, by a second click, the account erased.
            raise wrong if await users.find_contact(conn, me.user_id) else erased()
        ended = await codes.revoke_any_code(conn, me.user_id, moment)
        if ended:
            await changes.add(conn, ended)
        await signed_out.add(conn, *await sessions.delete_sessions_of_user(conn, me.user_id))
        await one_time_tokens.delete_one_time_tokens_of_user(conn, me.user_id)
        await outbox.delete_mail_of_user(conn, me.user_id, key_of(contact.email))
        await profiles.delete_profile(conn, me.user_id)
        await record(request, conn, "account-erased", code=ended)
        await audit.erase_addresses(conn, me.user_id)
        await audit.erase_email(conn, key_of(contact.email))
    return web.Response(status=204)


@routes.post(f"{API}/users/me/referrer")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Me"],
    operationId="setReferrer",
    summary="Use a code after registration",
    description="The caller comes by the code's owner from now on, and for good.",
    problems=("referrer-already-set", "referral-cycle", "own-code", "referral-code-invalid"),
)
@json_schema(CodeUseSchema, example={"code": "8ZK4M2QA"})
@response_schema(ReferrerSetSchema, 201, description="By whom the caller came")
async def set_referrer(request: web.Request) -> web.Response:
    app, code, me, moment = request.app, request[BODY]["code"], request[IDENTITY], now()
    own = Problem("own-code", "The code is your own: nobody comes by themselves.")
    refused = {
        "referrals_pkey": Problem("referrer-already-set", "You have a referrer already, and for good."),
        "referrals_not_self": own,
    }
    async with Changes(app[CACHE]) as changes, app[DATABASE].transaction() as conn:
        await locks.lock_referrers(conn)
        counted = await users.increment_referral_count(conn, code)
        used = await codes.use_code(conn, code, moment) if counted else None
        if used is None:
            found = await codes.find_code(conn, code)
            raise own if found and found.referrer_id == me.user_id else await refuse_code(conn, code, moment)
        with translated(refused):
            if not await referrals.insert_referral(conn, me.user_id, used.referrer_id, used.code, moment):
                raise Problem("referral-cycle", "The code's owner came by you, directly or through others.")
        await record(request, conn, "referrer-set", code=used.code, referrer_id=used.referrer_id)
        if used.is_exhausted:
            await changes.add(conn, used.code)
        referrer = await referrals.find_referrer(conn, used.referrer_id)
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
        view=lambda referral: referral_view(referral, with_email=with_email),
    )
    return answer(document, headers=headers)

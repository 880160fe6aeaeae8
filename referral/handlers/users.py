"""The user's own account."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.problems import Problem, translated
from referral.contract.schemas.users import ErasureSchema, ProfileChangeSchema, UserSchema, user_view
from referral.database import DATABASE
from referral.handlers import API
from referral.queries import audit, codes, one_time_tokens, outbox, profiles, sessions, users
from referral.rules.accounts import check_own_password, erased, wrong_password
from referral.rules.work import work_on
from referral.texts import email_key, key_of
from referral.web.answers import answer
from referral.web.bodies import BODY

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
    body, me = request[BODY], request[IDENTITY]
    async with work_on(request) as work:
        if "username" in body:
            username = body["username"]
            with translated({"users_username_key": Problem("username-taken", "This username is taken.")}):
                await users.update_username(work.conn, me.user_id, username, key_of(username) if username else None)
            await work.record("username-changed")
            # At time 0, which finds an expired code, too: it may get a new expiry at this very moment.
            code = await codes.find_current_code(work.conn, me.user_id, 0)
            if code:
                work.invalidates_code(code.code)
        account = await users.find_account(work.conn, me.user_id, work.moment)
        if account is None:
            raise erased()
    return answer(user_view(account, work.moment))


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
    me = request[IDENTITY]
    contact, password_hash = await check_own_password(request, request[BODY]["password"], "erasure-refused")
    async with work_on(request) as work:
        conn = work.conn
        # This comes first, because the worker that stores a profile does so, too: in another order the two could deadlock.
        await profiles.delete_lookup(conn, me.user_id)
        if not await users.erase_user(conn, me.user_id, password_hash, work.moment):
            # Since the check, the password was changed, or a second click erased the account.
            raise wrong_password() if await users.find_contact(conn, me.user_id) else erased()
        ended = await codes.revoke_any_code(conn, me.user_id, work.moment)
        if ended:
            work.invalidates_code(ended)
        work.ends_sessions(*await sessions.delete_sessions_of_user(conn, me.user_id))
        await one_time_tokens.delete_one_time_tokens_of_user(conn, me.user_id)
        await outbox.delete_mail_of_user(conn, me.user_id, email_key(contact.email))
        await profiles.delete_profile(conn, me.user_id)
        await work.record("account-erased", code=ended)
        await audit.erase_addresses(conn, me.user_id)
        await audit.erase_email(conn, email_key(contact.email))
    return web.Response(status=204)

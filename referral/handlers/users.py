"""The user's own account."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.problems import Problem, invalid, translated
from referral.contract.schemas.users import ErasureSchema, ProfileChangeSchema, UserSchema, user_view
from referral.database import DATABASE
from referral.handlers import API
from referral.links import LINKS
from referral.queries import users
from referral.rules.accounts import check_not_reserved, check_own_password, erased, wrong_password
from referral.rules.erasure import erase, leave_nothing
from referral.rules.work import work_on
from referral.texts import key_of
from referral.web.answers import answer
from referral.web.bodies import BODY

routes = web.RouteTableDef()


@routes.get(f"{API}/users/me")
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="getMe",
    summary="My account",
    description="With the referrer, the current code and what is publicly known of the caller.",
)
@response_schema(UserSchema, 200, description="The caller's account")
async def get_me(request: web.Request) -> web.Response:
    moment = now()
    async with request.app[DATABASE].reader() as conn:
        account = await users.find_account(conn, request[IDENTITY].user_id, moment)
    if account is None:
        raise erased()
    return answer(user_view(account, moment, request.app[LINKS]))


@routes.patch(f"{API}/users/me")
@allow(Access.USER)
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
    if body.get("username"):
        check_not_reserved(body["username"], request.app[CONFIG])
    async with work_on(request) as work:
        await work.hold_caller()
        if "username" in body:
            username = body["username"]
            with translated({"users_username_key": Problem("username-taken", "This username is taken.")}):
                await users.update_username(work.conn, me.user_id, username, key_of(username) if username else None)
            await work.record("username-changed")
            await work.invalidate_code_of(me.user_id)
        account = await users.find_account(work.conn, me.user_id, work.moment)
        if account is None:
            raise erased()
    return answer(user_view(account, work.moment, request.app[LINKS]))


async def _own_password(request: web.Request) -> str | None:
    """The hash of the caller's password, which was given; None for an account without one. Raises a problem for a password
    that is wrong or left out."""
    given = request[BODY].get("password")
    if given is not None:
        return (await check_own_password(request, given, "erasure-refused")).password_hash
    async with request.app[DATABASE].reader() as conn:
        account = await users.find_credentials_by_id(conn, request[IDENTITY].user_id)
    if account is None:
        raise erased()
    if account.password_hash is not None:
        raise invalid("/password", "The account has a password: give it.")
    return None


@routes.delete(f"{API}/users/me")
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="deleteMe",
    summary="Erase my account",
    description="The personal data goes, the code is ended, all sessions end. For the sake of the referrer's count and "
    "history a nameless entry stays. An account that has a password wants it; one without has no body to send.",
    responses={204: {"description": "The account is erased"}},
    problems=("wrong-password", "overloaded"),
)
@json_schema(ErasureSchema)
async def delete_me(request: web.Request) -> web.Response:
    me = request[IDENTITY]
    known_hash = await _own_password(request)
    async with work_on(request) as work:
        if not await erase(work, me.user_id, known_hash, by_oneself=True):
            # Since the check, the password was changed, or a second click erased the account.
            raise wrong_password() if await users.find_contact(work.conn, me.user_id) else erased()
    await leave_nothing(request.app, me.user_id)
    return web.Response(status=204)

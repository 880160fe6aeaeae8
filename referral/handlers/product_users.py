"""Users as the product's back end names them: made, changed, found, suspended and erased by its calls."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.tokens import SIGNER
from referral.clock import SECOND, now, rfc_3339
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.problems import invalid
from referral.contract.schemas.product_users import (
    SuspensionSchema,
    UserPageSchema,
    UserPutSchema,
    UserQuerySchema,
    UserTokenRequestSchema,
    UserTokenSchema,
)
from referral.contract.schemas.user_export import UserExportSchema
from referral.contract.schemas.users import UserSchema, user_view
from referral.database import DATABASE, Connection
from referral.handlers import API, USER_PATH
from referral.ids import new_id
from referral.links import LINKS
from referral.queries import codes, locks, sessions, users
from referral.queries.sessions import Origin
from referral.rules import suspension
from referral.rules.codes import check_new_code, make_code
from referral.rules.erasure import erase, leave_nothing
from referral.rules.named_user import external_id_in, named_user, no_such_user
from referral.rules.product_tokens import end_all_sessions
from referral.rules.product_users import (
    check_not_admins,
    check_role,
    contact_of,
    describe,
    lock_known,
    lock_or_make,
    naming_holders,
)
from referral.rules.user_export import begin_export
from referral.rules.work import Work, work_on
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY
from referral.web.exports import send_export
from referral.web.lists import answer_users

routes = web.RouteTableDef()

# `users.py` has the calls of `/users/me` itself: `Allow` there must not list the methods of other users.
OTHER_PATH = f"{API}/users/{{user:(?!me$)[^/]+}}"


@routes.put(OTHER_PATH)
@allow(Access.WRITE)
@docs(
    tags=["Users"],
    operationId="putUser",
    summary="Make or change a user",
    description="By `ext:` and the product's own id, the user is made if there is none; by our id, it has to be there. The "
    "members that are given are changed, null takes one away, and those that are left out stay. Nobody gets a mail by it. "
    "An account of the service's own that is given its `external_id`, or a verified address, for the first time is the "
    "product's user from here on: if it had not verified its address, its password, sessions and code end. "
    "Changing an admin takes a key of the scope admin; admins change themselves by `/users/me`.",
    problems=(
        "not-found",
        "email-taken",
        "username-taken",
        "external-id-taken",
        "active-code-exists",
        "code-taken",
    ),
    response_headers={201: {"Location": "The user's address"}},
)
@json_schema(UserPutSchema, example={"email": "bob@example.com", "name": "Bob Archer", "metadata": {"plan": "pro"}})
@response_schema(UserSchema, 200, description="The user as it is now")
@response_schema(UserSchema, 201, description="The new user")
async def put_user(request: web.Request) -> web.Response:
    app, body = request.app, request[BODY].copy()
    wanted_code = body.pop("code", None)
    if wanted_code is not None:
        check_new_code(wanted_code, app[CONFIG], "/code")
    external_id = external_id_in(request.match_info["user"])
    if external_id is not None and body.get("external_id", external_id) != external_id:
        raise invalid("/external_id", "Must be the one of the path. To change it, name the user by our id.")
    async with naming_holders(request), work_on(request) as work:
        await work.hold_caller()
        if external_id is not None:
            user, is_new = await lock_or_make(work, external_id)
        else:
            user, is_new = await lock_known(work, await named_user(request, work.conn)), False
        user = await describe(work, user, body)
        if wanted_code is not None:
            await check_not_admins(work, user.id)
            if await codes.find_current_code(work.conn, user.id, work.moment) is None:
                await make_code(work, user.id, wanted_code, "/code", is_suspended=user.suspended_at is not None)
        document = await _view(request, work.conn, user.id, work.moment)
    if is_new:
        location = app[PUBLIC_URL].path(f"{API}/users/{user.id}")
        return answer(document, 201, {"Location": location})
    return answer(document)


async def _view(request: web.Request, conn: Connection, user_id: str, moment: int) -> dict[str, Any]:
    """The document User. Raises `not-found`."""
    account = await users.find_account(conn, user_id, moment)
    if account is None:
        raise no_such_user()
    return user_view(account, moment, request.app[LINKS])


@routes.get(OTHER_PATH)
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="getUser",
    summary="A user",
    description="By our id, or by `ext:` and the product's own.",
    problems=("not-found",),
)
@response_schema(UserSchema, 200, description="The user")
async def get_user(request: web.Request) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        return answer(await _view(request, conn, await named_user(request, conn), now()))


@routes.get(f"{USER_PATH}/export")
@allow(Access.SELF_OR_WRITE)
@docs(
    tags=["Users"],
    operationId="getUserExport",
    summary="Everything that is kept about a user",
    description="As one JSON document, for the person who asks: account, identities, codes, who came by them, "
    "what was reported of them, sessions, security events and mails. It may be long.",
    problems=("not-found",),
)
@response_schema(UserExportSchema, 200, description="The document")
async def export(request: web.Request) -> web.StreamResponse:
    async with work_on(request) as work:
        await work.hold_caller()
        account = await begin_export(work, await named_user(request, work.conn))
    return await send_export(request, account)


@routes.get(f"{API}/users")
@allow(Access.READ)
@docs(
    tags=["Users"],
    operationId="listUsers",
    summary="All users, or those that are looked for",
    description="Those that the service got last come first. With `q`, those whose e-mail address begins so, then those "
    "whose username, external id and name do, each in their own order; suspended ones, last made first. Of a domain of "
    "another script, `q` takes the whole. `total` counts no further than 10,000, and with `q` than 1,000.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(UserQuerySchema)
@response_schema(UserPageSchema, 200, description="A page of users")
async def list_users(request: web.Request) -> web.StreamResponse:
    return await answer_users(request)


@routes.delete(OTHER_PATH)
@allow(Access.WRITE)
@docs(
    tags=["Users"],
    operationId="deleteUser",
    summary="Erase a user",
    description="The personal data goes, with the external id and the metadata; the code ends, and so do all sessions and "
    "tokens. For the sake of referrers a nameless entry stays. Erasing an admin takes a key of the scope admin.",
    responses={204: {"description": "The user is erased"}},
    problems=("not-found",),
)
async def delete_user(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        await work.hold_caller()
        user_id = await named_user(request, work.conn)
        await check_role(work, user_id)
        if not await erase(work, user_id, None):
            raise no_such_user()
    await leave_nothing(request.app, user_id)
    return web.Response(status=204)


@routes.post(f"{USER_PATH}/suspend")
@allow(Access.ADMIN)
@docs(
    tags=["Users"],
    operationId="suspendUser",
    summary="Suspend a user",
    description="Sessions and tokens end, and the code answers as if it had ended. A user who is suspended already stays so "
    "for the first reason.",
    problems=("not-found",),
)
@json_schema(SuspensionSchema)
@response_schema(UserSchema, 200, description="The user, who is suspended")
async def suspend_user(request: web.Request) -> web.Response:
    reason = request[BODY]["reason"]
    async with work_on(request) as work:
        contact, external_id = await _locked(request, work)
        await check_role(work, contact.user_id)
        await suspension.suspend_known(work, contact, external_id, reason)
        document = await _view(request, work.conn, contact.user_id, work.moment)
    return answer(document)


@routes.post(f"{USER_PATH}/unsuspend")
@allow(Access.ADMIN)
@docs(
    tags=["Users"],
    operationId="unsuspendUser",
    summary="End a user's suspension",
    description="The code is what it was. Tokens that were issued before stay ended.",
    problems=("not-found",),
)
@response_schema(UserSchema, 200, description="The user, who is not suspended")
async def unsuspend_user(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        contact, external_id = await _locked(request, work)
        await suspension.unsuspend_known(work, contact, external_id)
        document = await _view(request, work.conn, contact.user_id, work.moment)
    return answer(document)


async def _locked(request: web.Request, work: Work) -> tuple[users.Contact, str | None]:
    """The contact of the user whom the path names, who is locked, and their external id. Raises `not-found`."""
    await work.hold_caller()
    user = await lock_known(work, await named_user(request, work.conn))
    return contact_of(user), user.external_id


@routes.delete(f"{USER_PATH}/sessions")
@allow(Access.ADMIN)
@docs(
    tags=["Users"],
    operationId="deleteSessionsOfUser",
    summary="End all sessions of a user",
    description="Their tokens stop working at once, those for browsers, too. The user can sign in again: to keep them out, "
    "suspend them. The same call again changes nothing.",
    responses={204: {"description": "The user is signed in nowhere"}},
    problems=("not-found",),
)
async def delete_sessions_of_user(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        contact, external_id = await _locked(request, work)
        await check_role(work, contact.user_id)
        await end_all_sessions(work, contact.user_id, external_id)
    return web.Response(status=204)


@routes.post(f"{USER_PATH}/token")
@allow(Access.WRITE)
@docs(
    tags=["Users"],
    operationId="createUserToken",
    summary="Make a token for a user's browser",
    description="An access token by which a page of the product shows the user what is theirs. It may all that the user "
    "may: erase the account, too, for which an account without a password asks for none. It ends with the user's suspension "
    "or erasure, and cannot be refreshed. Admins sign in themselves.",
    problems=("not-found", "user-suspended"),
)
@json_schema(UserTokenRequestSchema, example={"ttl_seconds": 3600})
@response_schema(UserTokenSchema, 200, description="The token")
async def create_user_token(request: web.Request) -> web.Response:
    ttl = request[BODY]["ttl_seconds"]
    async with work_on(request) as work:
        await work.hold_caller()
        user_id, session_id = await named_user(request, work.conn), new_id()
        await locks.lock_user(work.conn, user_id)
        await check_role(work, user_id)
        expires_at = work.moment + ttl * SECOND
        if not await sessions.insert_session_of_user(
            work.conn, session_id, user_id, work.moment, expires_at, Origin(None, "a token by a service key")
        ):
            if await users.find_contact(work.conn, user_id) is None:
                raise no_such_user()
            raise suspension.suspended()
        await work.record("user-token-made", user=user_id, expires_at=rfc_3339(expires_at))
    token = request.app[SIGNER].sign(user_id, session_id, "user", work.moment, ttl)
    return answer({"access_token": token, "token_type": "Bearer", "expires_in": ttl}, 200, NO_STORE)

"""Codes: made, listed, edited, ended and mailed. `code_lookups.py` has how they are looked up."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY, caller_of, is_operator
from referral.auth.tokens import hash_token
from referral.changes import code_change
from referral.clock import now, rfc_3339
from referral.config import CONFIG, Config
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import Key
from referral.contract.problems import Problem, invalid, translated
from referral.contract.schemas.codes import (
    CodeChangeSchema,
    CodeCreationSchema,
    CodePageSchema,
    CodeSchema,
    code_view,
)
from referral.contract.schemas.pages import ListQuerySchema, PageQuerySchema
from referral.database import DATABASE, Connection
from referral.handlers import API, CODE_PATH, USER_PATH
from referral.limits import LIMITER
from referral.queries import codes, outbox
from referral.rules.accounts import own_contact
from referral.rules.codes import check_new_code, end_code, expiry_of, facts_of, lock_owner, make_code, make_code_of
from referral.rules.named_user import known_user, named_user
from referral.rules.product_users import check_not_admins
from referral.rules.work import work_on
from referral.texts import code_in, email_key
from referral.web.answers import answer
from referral.web.bodies import BODY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()


def _none_current() -> Problem:
    return Problem("not-found", "You have no current code.")


def _unknown() -> Problem:
    return Problem("not-found", "There is no such code.")


def _impossible(body: dict[str, Any]) -> dict[str, Problem]:
    # If the clock was set back, a code may have been made in the future.
    given = "/expires_at" if "expires_at" in body else "/ttl_days"
    return {
        "codes_uses": invalid("/max_uses", "Must not be less than the uses already made."),
        "codes_expiry": invalid(given, "Must be later than the code was made."),
    }


@routes.post(f"{API}/codes")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="createCode",
    summary="Make a code",
    description="Give `expires_at` or `ttl_days`. Without `code` the service makes one. An expired or used-up code is put "
    "aside in passing; with `replace` the current one is, in the same step.",
    problems=("active-code-exists", "code-taken"),
    response_headers={201: {"Location": "The code's address"}},
)
@json_schema(CodeCreationSchema, example={"ttl_days": 30})
@response_schema(CodeSchema, 201, description="The new code")
async def create_code(request: web.Request) -> web.Response:
    app, me = request.app, request[IDENTITY]
    # Once before it is counted: a wrong body uses up no limit.
    check_new_code(request[BODY], app[CONFIG])
    await app[LIMITER].hit("codes_by_user", me.user_id)
    async with work_on(request) as work:
        await work.hold_caller()
        code = await make_code(work, me.user_id, request[BODY])
    return _made(request, code, work.moment)


def _made(request: web.Request, code: codes.Code, moment: int) -> web.Response:
    location = request.app[PUBLIC_URL].path(f"{API}/codes/{code.code}")
    return answer(code_view(code, moment), 201, {"Location": location})


@routes.post(f"{USER_PATH}/codes")
@allow(Access.SELF_OR_WRITE)
@docs(
    tags=["Users"],
    operationId="createCodeOfUser",
    summary="Make a user's code",
    description="As `POST /codes`, for the user whom the path names.",
    problems=("not-found", "active-code-exists", "code-taken"),
    response_headers={201: {"Location": "The code's address"}},
)
@json_schema(CodeCreationSchema, example={"ttl_days": 30})
@response_schema(CodeSchema, 201, description="The new code")
async def create_code_of_user(request: web.Request) -> web.Response:
    app = request.app
    check_new_code(request[BODY], app[CONFIG])
    if not is_operator(request):
        await app[LIMITER].hit("codes_by_user", request[IDENTITY].user_id)
    async with work_on(request) as work:
        await work.hold_caller()
        code = await make_code_of(work, await named_user(request, work.conn), request[BODY])
    return _made(request, code, work.moment)


@routes.get(f"{API}/codes")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="listCodes",
    summary="All my codes",
    description="All that the caller ever had, newest first.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(CodePageSchema, 200, description="A page of codes")
async def list_codes(request: web.Request) -> web.StreamResponse:
    async def me(conn: Connection) -> str:
        return request[IDENTITY].user_id

    return await _codes_of(request, me)


@routes.get(f"{USER_PATH}/codes")
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="listCodesOfUser",
    summary="All codes of a user",
    description="All that the user ever had, newest first.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(CodePageSchema, 200, description="A page of codes")
async def list_codes_of_user(request: web.Request) -> web.StreamResponse:
    return await _codes_of(request, lambda conn: known_user(request, conn))


async def _codes_of(request: web.Request, whose: Callable[[Connection], Awaitable[str]]) -> web.StreamResponse:
    moment = now()

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[codes.Code], int]:
        user_id = await whose(conn)
        total = await codes.find_code_count(conn, user_id)
        return await codes.list_codes(conn, user_id, before, limit), total

    return await answer_list(
        request,
        "codes",
        CodeSchema,
        read,
        key=lambda code: (code.created_at, code.code),
        view=lambda code: code_view(code, moment),
    )


@routes.get(f"{API}/codes/current")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="getCurrentCode",
    summary="My current code",
    description="The one that is neither ended nor expired, used up or not.",
    problems=("not-found",),
)
@response_schema(CodeSchema, 200, description="The code that is neither ended nor expired")
async def get_current_code(request: web.Request) -> web.Response:
    moment = now()
    async with request.app[DATABASE].reader() as conn:
        code = await codes.find_current_code(conn, request[IDENTITY].user_id, moment)
    if code is None:
        raise _none_current()
    return answer(code_view(code, moment))


@routes.patch(f"{API}/codes/current")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="updateCurrentCode",
    summary="Edit my current code",
    description="Its expiry by `expires_at` or `ttl_days`, its limit of uses by `max_uses`; what is left out stays.",
    problems=("not-found",),
)
@json_schema(CodeChangeSchema, example={"ttl_days": 60, "max_uses": 100})
@response_schema(CodeSchema, 200, description="The code as it is now")
async def update_current_code(request: web.Request) -> web.Response:
    me = request[IDENTITY]
    async with work_on(request) as work:
        change = _change(request[BODY], work.moment, request.app[CONFIG])
        # Without the lock, a code that is being replaced at this moment would look like no code at all.
        await work.hold_caller()
        with translated(_impossible(request[BODY])):
            code = await codes.update_current_code(work.conn, me.user_id, work.moment, change)
        if code is None:
            raise _none_current()
        work.invalidates_code(code.code)
        work.announce_code("code.updated", code.code)
        await work.record("code-edited", **facts_of(code))
    return answer(code_view(code, work.moment))


def _change(body: dict[str, Any], moment: int, config: Config) -> codes.CodeChange:
    return codes.CodeChange(expiry_of(body, moment, config), "max_uses" in body, body.get("max_uses"))


@routes.delete(f"{API}/codes/current")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="deleteCurrentCode",
    summary="End my current code",
    description="Nobody can use it any more, and nobody gets its text again.",
    responses={204: {"description": "The code has ended"}},
    problems=("not-found",),
)
async def delete_current_code(request: web.Request) -> web.Response:
    me = request[IDENTITY]
    async with work_on(request) as work:
        await work.hold_caller()
        code = await codes.revoke_current_code(work.conn, me.user_id, work.moment)
        if code is None:
            raise _none_current()
        work.invalidates_code(code.code)
        work.announce(code_change("code.ended", code, me.user_id, work.moment))
        await work.record("code-ended", code=code.code)
    return web.Response(status=204)


@routes.post(f"{API}/codes/current/email")
@allow(Access.USER)
@docs(
    tags=["Codes"],
    operationId="emailCurrentCode",
    summary="Mail me my code",
    description="The caller's code goes to the caller's own address. Whether that has to be verified is a setting.",
    responses={202: {"description": "The mail is on its way"}},
    problems=("not-found", "email-unverified"),
)
async def email_current_code(request: web.Request) -> web.Response:
    app, me = request.app, request[IDENTITY]
    contact = await own_contact(request)
    if contact.email is None or (app[CONFIG].limits_unverified and contact.email_verified_at is None):
        raise Problem("email-unverified", "Verify your e-mail address first: mail with a code goes to no other.")
    await app[LIMITER].hit("mail_by_account", outbox.CODE, hash_token(email_key(contact.email)))
    async with work_on(request) as work:
        code = await codes.find_current_code(work.conn, me.user_id, work.moment)
        if code is None:
            raise _none_current()
        expiry = rfc_3339(code.expires_at)
        await work.queue_mail(outbox.CODE, me.user_id, contact.email, code=code.code, expires_at=expiry)
    return web.Response(status=202)


def _text_of(request: web.Request) -> str:
    """The code of the path in upper case. Raises a problem for what cannot be one."""
    code = code_in(request.match_info["code"])
    if code is None:
        raise _unknown()
    return code


def _owner(request: web.Request) -> str | None:
    """Whose codes the caller may edit; None means anybody's."""
    return None if is_operator(request) else caller_of(request)


async def _refusal(conn: Connection, text: str, owner_id: str | None) -> Problem:
    """Why a code could not be edited or ended."""
    found = await codes.find_code(conn, text)
    if found is None:
        return _unknown()
    if owner_id is not None and found.referrer_id != owner_id:
        return Problem("forbidden", "The code belongs to somebody else.")
    return Problem("code-ended", "The code has ended and cannot be edited.")


@routes.patch(CODE_PATH)
@allow(Access.USER_OR_WRITE)
@docs(
    tags=["Codes"],
    operationId="updateCode",
    summary="Edit a code",
    description="An expired code that was not replaced comes back with a new expiry.",
    problems=("not-found", "forbidden", "code-ended"),
)
@json_schema(CodeChangeSchema, example={"ttl_days": 60, "max_uses": 100})
@response_schema(CodeSchema, 200, description="The code as it is now")
async def update_code(request: web.Request) -> web.Response:
    owner_id, text = _owner(request), _text_of(request)
    async with work_on(request) as work:
        change = _change(request[BODY], work.moment, request.app[CONFIG])
        await work.hold_caller()
        await lock_owner(work, text)
        with translated(_impossible(request[BODY])):
            edited = await codes.update_code(work.conn, text, owner_id, change)
        if edited is None:
            raise await _refusal(work.conn, text, owner_id)
        await check_not_admins(work, edited.referrer_id)
        work.invalidates_code(edited.code)
        work.announce_code("code.updated", edited.code)
        await work.record("code-edited", user=edited.referrer_id, **facts_of(edited))
    return answer(code_view(edited, work.moment))


@routes.delete(CODE_PATH)
@allow(Access.USER_OR_WRITE)
@docs(
    tags=["Codes"],
    operationId="deleteCode",
    summary="End a code",
    description="Ending a code that has ended changes nothing.",
    responses={204: {"description": "The code has ended"}},
    problems=("not-found", "forbidden"),
)
async def delete_code(request: web.Request) -> web.Response:
    owner_id, text = _owner(request), _text_of(request)
    async with work_on(request) as work:
        await work.hold_caller()
        if not await end_code(work, text, owner_id):
            raise await _refusal(work.conn, text, owner_id)
    return web.Response(status=204)

"""Codes: made, listed, edited, ended, looked up and mailed."""

import secrets
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.auth.tokens import hash_token
from referral.cache.codes import CODE_CACHE, Load
from referral.clock import DAY, SECOND, now, rfc_3339
from referral.config import CONFIG, Config
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, Limit, allow
from referral.contract.paging import page, read_cursor
from referral.contract.problems import Problem, invalid, translated
from referral.contract.schemas.codes import (
    ActiveCodeSchema,
    CodeChangeSchema,
    CodeCreationSchema,
    CodePageSchema,
    CodeSchema,
    EmailQuerySchema,
    active_code_view,
    code_view,
)
from referral.contract.schemas.fields import CODE
from referral.contract.schemas.pages import PageQuerySchema
from referral.database import DATABASE, Connection, DatabaseUnavailable
from referral.handlers import API
from referral.limits import LIMITER
from referral.queries import codes, outbox, users
from referral.queries.sessions import LiveSession
from referral.rules.accounts import erased, own_contact
from referral.rules.work import Work, work_on
from referral.texts import email_key, fold_code
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY

routes = web.RouteTableDef()

# Crockford's base32: no I, L, O and U, which are misread or make words.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# One of 32^8 codes is hardly ever taken, and never this many in a row.
ATTEMPTS = 20


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
@allow(Access.SIGNED_IN)
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
    app, body, me = request.app, request[BODY], request[IDENTITY]
    exists = Problem("active-code-exists", "You have a current code; end it first, or send replace: true.")
    if "code" in body and _is_reserved(body["code"], app[CONFIG]):
        raise invalid("/code", "This word is reserved.")
    # Once before it is counted: a wrong body uses up no limit.
    _expiry(body, now(), app[CONFIG])
    await app[LIMITER].hit("codes_by_user", me.user_id)
    async with work_on(request) as work:
        expires_at = _expiry(body, work.moment, app[CONFIG])
        assert expires_at is not None
        await work.hold_session()
        put_aside = await codes.revoke_codes_in_the_way(
            work.conn, me.user_id, work.moment, replace=body.get("replace", False)
        )
        with translated({"codes_one_unrevoked": exists, "codes_pkey": _taken()}):
            code = await _insert(work, me, body.get("code"), expires_at, body.get("max_uses"))
        replaced = put_aside.values(str)
        work.invalidates_code(*replaced)
        await work.record("code-made", **_facts(code), replaced=replaced or None)
    # The code is made: a failure from here on must not fail the request.
    with suppress(DatabaseUnavailable):
        await app[CODE_CACHE].made(code.code, _loading(app, code.code))
    return answer(code_view(code, work.moment), 201, {"Location": app[PUBLIC_URL].path(f"{API}/codes/{code.code}")})


async def _insert(work: Work, me: LiveSession, text: str | None, expires_at: int, max_uses: int | None) -> codes.Code:
    """Insert the code of this text or, without one, of a text nobody has."""
    config = work.request.app[CONFIG]
    for _ in range(1 if text else ATTEMPTS):
        chosen = text or "".join(ALPHABET[byte % 32] for byte in secrets.token_bytes(config.codes.length))
        if not text and _is_reserved(chosen, config):
            continue
        code = await codes.insert_code(work.conn, chosen, me.user_id, work.moment, expires_at, max_uses)
        if code is not None:
            await users.increment_code_count(work.conn, me.user_id)
            return code
    if await users.find_contact(work.conn, me.user_id) is None:
        raise erased()
    raise _taken()


def _taken() -> Problem:
    return Problem("code-taken", "This text, or one that reads alike, is or was somebody's code. Choose another.")


def _is_reserved(text: str, config: Config) -> bool:
    return fold_code(text) in map(fold_code, config.codes.reserved)


def _facts(code: codes.Code) -> dict[str, Any]:
    """What the record of events says of a code."""
    return {"code": code.code, "expires_at": rfc_3339(code.expires_at), "max_uses": code.max_uses}


def _expiry(body: dict[str, Any], moment: int, config: Config) -> int | None:
    """The expiry asked for in ms, None if none is. Raises a problem for one that is past or too far off."""
    furthest = config.codes.max_ttl_days
    if "ttl_days" in body:
        if body["ttl_days"] > furthest:
            raise invalid("/ttl_days", f"Must be at most {furthest} days.")
        return moment // SECOND * SECOND + int(body["ttl_days"]) * DAY
    if "expires_at" not in body:
        return None
    expires_at = int(body["expires_at"])
    if expires_at <= moment:
        raise invalid("/expires_at", "Must be in the future.")
    if expires_at > moment + furthest * DAY:
        raise invalid("/expires_at", f"Must be at most {furthest} days from now.")
    return expires_at


@routes.get(f"{API}/codes")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Codes"],
    operationId="listCodes",
    summary="All my codes",
    description="All that the caller ever had, newest first.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(CodePageSchema, 200, description="A page of codes")
async def list_codes(request: web.Request) -> web.Response:
    me, query, moment = request[IDENTITY], request[QUERY], now()
    before, limit = read_cursor(query), query["limit"]
    async with request.app[DATABASE].reader() as conn:
        total = await codes.find_code_count(conn, me.user_id)
        found = await codes.list_codes(conn, me.user_id, before, limit + 1)
    document, headers = page(
        request,
        found,
        limit,
        total,
        key=lambda code: (code.created_at, code.code),
        view=lambda code: code_view(code, moment),
    )
    return answer(document, headers=headers)


# The path excludes the fixed words: `Allow` at their addresses must not list the methods of codes.
CODE_PATH = f"{API}/codes/{{code:(?!current$|by-email$)[^{{}}/]+}}"


@routes.get(f"{API}/codes/current")
@allow(Access.SIGNED_IN)
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
@allow(Access.SIGNED_IN)
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
        await work.hold_session()
        with translated(_impossible(request[BODY])):
            code = await codes.update_current_code(work.conn, me.user_id, work.moment, change)
        if code is None:
            raise _none_current()
        work.invalidates_code(code.code)
        await work.record("code-edited", **_facts(code))
    return answer(code_view(code, work.moment))


def _change(body: dict[str, Any], moment: int, config: Config) -> codes.CodeChange:
    return codes.CodeChange(_expiry(body, moment, config), "max_uses" in body, body.get("max_uses"))


@routes.delete(f"{API}/codes/current")
@allow(Access.SIGNED_IN)
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
        await work.hold_session()
        code = await codes.revoke_current_code(work.conn, me.user_id, work.moment)
        if code is None:
            raise _none_current()
        work.invalidates_code(code)
        await work.record("code-ended", code=code)
    return web.Response(status=204)


@routes.post(f"{API}/codes/current/email")
@allow(Access.SIGNED_IN)
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
    if app[CONFIG].limits_unverified and contact.email_verified_at is None:
        raise Problem("email-unverified", "Verify your e-mail address first: mail with a code goes to no other.")
    await app[LIMITER].hit("mail_by_account", outbox.CODE, hash_token(email_key(contact.email)))
    async with work_on(request) as work:
        code = await codes.find_current_code(work.conn, me.user_id, work.moment)
        if code is None:
            raise _none_current()
        expiry = rfc_3339(code.expires_at)
        await work.queue_mail(outbox.CODE, me.user_id, contact.email, code=code.code, expires_at=expiry)
    return web.Response(status=202)


@routes.get(f"{API}/codes/by-email")
@allow(Access.PUBLIC_LOOKUP, Limit.LOOKUP)
@docs(
    tags=["Codes"],
    operationId="findCodeByEmail",
    summary="Look a code up by its owner's e-mail",
    description="For whoever is signed in, and for anybody where `codes.public_lookup` is on.",
    problems=("not-found",),
)
@querystring_schema(EmailQuerySchema)
@response_schema(ActiveCodeSchema, 200, description="The owner's active code")
async def find_code_by_email(request: web.Request) -> web.Response:
    app, key = request.app, email_key(request[QUERY]["email"])

    async def load() -> codes.ActiveCode | None:
        async with app[DATABASE].reader() as conn:
            return await codes.find_active_code_by_email(conn, key, now(), limited=app[CONFIG].limits_unverified)

    active = await app[CODE_CACHE].by_email(key, load)
    if active is None:
        raise Problem("not-found", "Nobody with this e-mail address has an active code.")
    return answer(active_code_view(active))


@routes.get(CODE_PATH)
@allow(Access.ANYBODY, Limit.LOOKUP)
@docs(
    tags=["Codes"],
    operationId="getCode",
    summary="Look a code up",
    description="Codes compare without case, O is taken for 0, and I and L for 1.",
    problems=("not-found",),
)
@response_schema(ActiveCodeSchema, 200, description="The active code")
async def get_code(request: web.Request) -> web.Response:
    text = _text_of(request)
    active = await request.app[CODE_CACHE].by_code(text, _loading(request.app, text))
    if active is None:
        raise Problem("not-found", "There is no such active code.")
    return answer(active_code_view(active))


def _loading(app: web.Application, text: str) -> Load:
    """What asks the database for the active code of this text."""

    async def load() -> codes.ActiveCode | None:
        async with app[DATABASE].reader() as conn:
            return await codes.find_active_code(conn, text, now(), limited=app[CONFIG].limits_unverified)

    return load


def _text_of(request: web.Request) -> str:
    """The code of the path in upper case. Raises a problem for what cannot be one."""
    text = request.match_info["code"]
    if not text.isascii() or not CODE.fullmatch(text.upper()):
        raise _unknown()
    return text.upper()


def _owner(me: LiveSession) -> str | None:
    """Whose codes the caller may edit; None means anybody's."""
    return None if me.is_admin else me.user_id


async def _refusal(conn: Connection, text: str, me: LiveSession) -> Problem:
    """Why a code could not be edited or ended."""
    found = await codes.find_code(conn, text)
    if found is None:
        return _unknown()
    if found.referrer_id != me.user_id and not me.is_admin:
        return Problem("forbidden", "The code belongs to somebody else.")
    return Problem("code-ended", "The code has ended and cannot be edited.")


@routes.patch(CODE_PATH)
@allow(Access.SIGNED_IN)
@docs(
    tags=["Codes"],
    operationId="updateCode",
    summary="Edit a code",
    description="For its owner, and for an admin. An expired code that was not replaced comes back with a new expiry.",
    problems=("not-found", "forbidden", "code-ended"),
)
@json_schema(CodeChangeSchema, example={"ttl_days": 60, "max_uses": 100})
@response_schema(CodeSchema, 200, description="The code as it is now")
async def update_code(request: web.Request) -> web.Response:
    me, text = request[IDENTITY], _text_of(request)
    async with work_on(request) as work:
        change = _change(request[BODY], work.moment, request.app[CONFIG])
        await work.hold_session()
        with translated(_impossible(request[BODY])):
            edited = await codes.update_code(work.conn, text, _owner(me), change)
        if edited is None:
            raise await _refusal(work.conn, text, me)
        work.invalidates_code(edited.code)
        await work.record("code-edited", user=edited.referrer_id, **_facts(edited))
    return answer(code_view(edited, work.moment))


@routes.delete(CODE_PATH)
@allow(Access.SIGNED_IN)
@docs(
    tags=["Codes"],
    operationId="deleteCode",
    summary="End a code",
    description="For its owner, and for an admin. Ending a code that has ended changes nothing.",
    responses={204: {"description": "The code has ended"}},
    problems=("not-found", "forbidden"),
)
async def delete_code(request: web.Request) -> web.Response:
    me, text = request[IDENTITY], _text_of(request)
    async with work_on(request) as work:
        await work.hold_session()
        ended = await codes.revoke_code(work.conn, text, _owner(me), work.moment)
        if ended is None:
            raise await _refusal(work.conn, text, me)
        work.invalidates_code(ended.code)
        if ended.revoked_at == work.moment:
            await work.record("code-ended", user=ended.referrer_id, code=ended.code)
    return web.Response(status=204)

"""Passwords: changed by who knows the old one, reset by a mailed link."""

import random

from aiohttp import web
from aiohttp_apispec import docs, json_schema

from referral.auth.identity import ACCESS_TOKEN, IDENTITY
from referral.auth.passwords import PASSWORDS
from referral.auth.tokens import hash_token
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.schemas.passwords import PasswordChangeSchema, PasswordResetRequestSchema, PasswordResetSchema
from referral.handlers import API
from referral.limits import LIMITER, asker_of
from referral.queries import outbox, sessions, users
from referral.rules.accounts import (
    check_new_password,
    check_not_personal,
    check_own_password,
    wrong_password,
)
from referral.rules.mailed_links import confirm_reset, end_changes
from referral.rules.work import work_on
from referral.texts import email_key
from referral.web.bodies import BODY

routes = web.RouteTableDef()

# Seconds, from and to, before the mail worker is told of a reset.
RESET_DELAY = (0.02, 0.2)


@routes.post(f"{API}/auth/password/change")
@allow(Access.USER)
@docs(
    tags=["Authentication"],
    operationId="changePassword",
    summary="Change the password",
    description="Every other session ends, and so does every token of this session but the access token that is sent and "
    "the refresh token that came with it. An account without a password sets its first one by a reset.",
    responses={204: {"description": "The password is changed"}},
    problems=("wrong-password", "overloaded"),
)
@json_schema(PasswordChangeSchema)
async def change_password(request: web.Request) -> web.Response:
    app, body, me = request.app, request[BODY], request[IDENTITY]
    check_new_password(body["new_password"], app[CONFIG], "/new_password")
    known = await check_own_password(request, body["current_password"], "password-change-refused")
    check_not_personal(body["new_password"], "/new_password", known.contact.email, known.contact.username)
    new_hash = await app[PASSWORDS].hash(body["new_password"], asker_of(request))
    async with work_on(request) as work:
        # Links that set a password stay: whoever reads the mailbox may ask for more of them at any time, and whoever knows
        # the password must not keep the owner from using one. This comes first, as in the use of a link: else the two could
        # deadlock.
        await end_changes(work.conn, me.user_id)
        if not await users.update_password(work.conn, me.user_id, known.password_hash, new_hash):
            raise wrong_password()
        await work.hold_caller()
        work.ends_sessions(*await sessions.delete_other_sessions(work.conn, me.user_id, me.session_id))
        # Somebody may hold tokens of this very session, too: only the caller's pair goes on.
        token = request.get(ACCESS_TOKEN)
        kept = token.refresh if token else ""
        await sessions.begin_generation(work.conn, me.session_id, kept)
        await sessions.delete_other_refresh_tokens(work.conn, me.session_id, kept)
        work.ends_tokens(me.session_id)
        await work.record("password-changed")
    return web.Response(status=204)


@routes.post(f"{API}/auth/password/reset")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="requestPasswordReset",
    summary="Ask for a new password",
    description="Mails a one-time link, good for an hour, if there is an account with this address. The answer is the same, "
    "and takes the same time, if there is none.",
    responses={202: {"description": "If there is such an account, a mail is on its way"}},
)
@json_schema(PasswordResetRequestSchema)
async def request_password_reset(request: web.Request) -> web.Response:
    key = email_key(request[BODY]["email"])
    # Of a window of its own, which is short: strangers who ask must not keep the owner from asking for long.
    await request.app[LIMITER].hit("reset_by_account", hash_token(key))
    async with work_on(request) as work:
        # The mail worker finds out whose address this is. It is woken later: a mail to a known address is more work than
        # none, which the time of the next answer would tell.
        await work.queue_mail(outbox.RESET_PASSWORD, None, key, wake_after=random.uniform(*RESET_DELAY))
        await work.record("reset-requested", email=key)
    return web.Response(status=202)


@routes.post(f"{API}/auth/password/reset/confirm")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="resetPassword",
    summary="Set a new password by a mailed link",
    description="Every session of the account ends. Where addresses have to be verified and this is the first proof of the "
    "account's, the referrer whom it came by is taken back, and another code may be used: a stranger may have made it.",
    responses={204: {"description": "The password is set"}},
    problems=("token-invalid", "overloaded"),
)
@json_schema(PasswordResetSchema)
async def reset_password(request: web.Request) -> web.Response:
    body = request[BODY]
    await confirm_reset(request, body["token"], body["new_password"])
    return web.Response(status=204)

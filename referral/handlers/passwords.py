"""Passwords: changed by who knows the old one, reset by a mailed link."""

import random

from aiohttp import web
from aiohttp_apispec import docs, json_schema

from referral.auth.tokens import hash_token
from referral.contract.access import Access, allow
from referral.contract.schemas.passwords import PasswordChangeSchema, PasswordResetRequestSchema, PasswordResetSchema
from referral.handlers import API
from referral.limits import LIMITER
from referral.queries import outbox
from referral.rules import password_changes
from referral.rules.mailed_links import confirm_reset
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
    body = request[BODY]
    await password_changes.change_password(request, body["current_password"], body["new_password"])
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

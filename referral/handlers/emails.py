"""The verification of e-mail addresses."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema

from referral.auth.identity import IDENTITY
from referral.auth.tokens import hash_token
from referral.contract.access import Access, allow
from referral.contract.schemas.emails import EmailVerificationSchema
from referral.database import DATABASE
from referral.handlers import API
from referral.limits import LIMITER
from referral.queries import outbox, users
from referral.rules.accounts import confirm_email
from referral.rules.work import work_on
from referral.texts import email_key
from referral.web.bodies import BODY

routes = web.RouteTableDef()


@routes.post(f"{API}/auth/email/verify")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="verifyEmail",
    summary="Verify the e-mail address by a mailed link",
    responses={204: {"description": "The address is verified"}},
    problems=("token-invalid",),
)
@json_schema(EmailVerificationSchema)
async def verify_email(request: web.Request) -> web.Response:
    await confirm_email(request, request[BODY]["token"])
    return web.Response(status=204)


@routes.post(f"{API}/auth/email/verify/resend")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Authentication"],
    operationId="resendVerification",
    summary="Mail the verification link again",
    description="Does nothing for an address that is verified.",
    responses={202: {"description": "A mail is on its way, unless the address is verified"}},
)
async def resend_verification(request: web.Request) -> web.Response:
    me = request[IDENTITY]
    async with request.app[DATABASE].reader() as conn:
        contact = await users.find_contact(conn, me.user_id)
    if contact and contact.email_verified_at is None:
        await request.app[LIMITER].hit("mail_by_account", outbox.VERIFY_EMAIL, hash_token(email_key(contact.email)))
        async with work_on(request) as work:
            await work.queue_mail(outbox.VERIFY_EMAIL, me.user_id, contact.email)
    return web.Response(status=202)

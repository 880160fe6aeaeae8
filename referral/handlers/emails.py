"""E-mail addresses: verified, changed and disowned by mailed links."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema

from referral.auth.identity import IDENTITY
from referral.auth.tokens import hash_token
from referral.contract.access import Access, allow
from referral.contract.schemas.emails import EmailChangeSchema, EmailVerificationSchema
from referral.database import DATABASE
from referral.handlers import API
from referral.limits import LIMITER
from referral.queries import outbox, users
from referral.rules.accounts import check_own_password, own_contact
from referral.rules.mailed_links import confirm_email, disown, email_taken
from referral.rules.work import work_on
from referral.texts import email_key
from referral.vendors.hunter import EMAIL_VERIFIER
from referral.web.bodies import BODY

routes = web.RouteTableDef()


@routes.post(f"{API}/auth/email/verify")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="verifyEmail",
    summary="Verify the e-mail address by a mailed link",
    description="Also makes a new address the account's, by the link that was mailed there. A second press of the same link "
    "is answered like the first.",
    responses={204: {"description": "The address is verified"}},
    problems=("token-invalid", "email-taken"),
)
@json_schema(EmailVerificationSchema)
async def verify_email(request: web.Request) -> web.Response:
    await confirm_email(request, request[BODY]["token"])
    return web.Response(status=204)


@routes.post(f"{API}/auth/email/disown")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="disownEmail",
    summary="Say that it was not me, by a mailed link",
    description="Of a verification mail. The account ends, unless its address was verified.",
    responses={204: {"description": "The account is gone"}},
    problems=("token-invalid",),
)
@json_schema(EmailVerificationSchema)
async def disown_email(request: web.Request) -> web.Response:
    await disown(request, request[BODY]["token"])
    return web.Response(status=204)


@routes.post(f"{API}/auth/email/change")
@allow(Access.USER)
@docs(
    tags=["Authentication"],
    operationId="changeEmail",
    summary="Change the e-mail address",
    description="Mails a link to the new address, good for three days, which makes it the account's. The former address "
    "is told then.",
    responses={202: {"description": "A mail to the new address is on its way"}},
    problems=("wrong-password", "email-taken", "email-undeliverable", "email-check-unavailable", "overloaded"),
)
@json_schema(EmailChangeSchema)
async def change_email(request: web.Request) -> web.Response:
    app, me, email = request.app, request[IDENTITY], request[BODY]["email"]
    known = await check_own_password(request, request[BODY]["current_password"], "email-change-refused")
    async with app[DATABASE].reader() as conn:
        holder = await users.find_contact_by_email(conn, email_key(email))
    if holder and holder.user_id != me.user_id:
        raise email_taken()
    # By user, too: an account must not be a way to write to any number of strangers.
    await app[LIMITER].hit("mail_by_account", outbox.CHANGE_EMAIL, me.user_id)
    # Of a short window, as a reset: strangers who ask must not keep the owner from asking for long.
    await app[LIMITER].hit("reset_by_account", outbox.CHANGE_EMAIL, hash_token(email_key(email)))
    await app[EMAIL_VERIFIER].check(email)
    async with work_on(request) as work:
        await work.hold_caller()
        # Of the generation in which the password was right: whoever has been put out since gets a link that is good for
        # nothing.
        await work.queue_mail(outbox.CHANGE_EMAIL, me.user_id, email, generation=known.generation)
        await work.record("email-change-requested")
    return web.Response(status=202)


@routes.post(f"{API}/auth/email/verify/resend")
@allow(Access.USER)
@docs(
    tags=["Authentication"],
    operationId="resendVerification",
    summary="Mail the verification link again",
    description="Does nothing for an address that is verified, and for an account without one.",
    responses={202: {"description": "A mail is on its way, unless the address is verified"}},
)
async def resend_verification(request: web.Request) -> web.Response:
    contact = await own_contact(request)
    if contact.email is not None and contact.email_verified_at is None:
        await request.app[LIMITER].hit("mail_by_account", outbox.VERIFY_EMAIL, hash_token(email_key(contact.email)))
        async with work_on(request) as work:
            await work.queue_mail(outbox.VERIFY_EMAIL, contact.user_id, contact.email)
    return web.Response(status=202)

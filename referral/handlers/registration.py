"""Registration."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.auth.passwords import PASSWORDS
from referral.auth.tokens import hash_token
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.problems import Problem, translated
from referral.contract.schemas.registration import RegisteredSchema, RegistrationSchema
from referral.contract.schemas.users import user_view
from referral.handlers import API
from referral.ids import new_id
from referral.limits import ADDRESS, LIMITER
from referral.metrics import METRICS
from referral.queries import outbox, users
from referral.rules.accounts import check_new_password, check_not_personal
from referral.rules.enriching import look_profile_up
from referral.rules.mailed_links import email_taken
from referral.rules.referring import come_by
from referral.rules.signing_in import open_session
from referral.rules.work import work_on
from referral.texts import email_key, key_of
from referral.vendors.hunter import EMAIL_VERIFIER
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY

routes = web.RouteTableDef()


@routes.post(f"{API}/auth/register")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="register",
    summary="Register",
    description="Makes an account and signs in. With a `referral_code` the account comes by the code's owner; with one that "
    "cannot be used there is no account. A mail with a link to verify the address is on its way.",
    problems=(
        "email-taken",
        "username-taken",
        "referral-code-invalid",
        "email-undeliverable",
        "email-check-unavailable",
        "overloaded",
    ),
)
@json_schema(
    RegistrationSchema,
    example={"email": "alice@example.com", "password": "correct horse battery staple", "username": "alice"},
)
@response_schema(RegisteredSchema, 201, description="The account, and its first session")
async def register(request: web.Request) -> web.Response:
    app, body = request.app, request[BODY]
    email, username, code = body["email"], body.get("username"), body.get("referral_code")
    check_new_password(body["password"], app[CONFIG], "/password")
    check_not_personal(body["password"], "/password", email, username)
    await app[LIMITER].hit("registration_by_address", request[ADDRESS])
    if code:
        await app[LIMITER].check("registration_by_code", code)
    await app[EMAIL_VERIFIER].check(email)
    password_hash = await app[PASSWORDS].hash(body["password"], request[ADDRESS])
    is_mailed = await app[LIMITER].allows("mail_by_account", outbox.VERIFY_EMAIL, hash_token(email_key(email)))
    taken = {
        "users_email_key": email_taken(),
        "users_username_key": Problem("username-taken", "This username is taken."),
    }
    async with work_on(request) as work:
        user = users.NewUser(
            id=new_id(),
            email=email,
            email_key=email_key(email),
            username=username,
            username_key=key_of(username) if username else None,
            password_hash=password_hash,
            role="user",
            created_at=work.moment,
        )
        with translated(taken):
            await users.insert_user(work.conn, user)
        tokens = await open_session(work, users.Credentials(user.id, user.role, password_hash))
        if is_mailed:
            await work.queue_mail(outbox.VERIFY_EMAIL, user.id, email)
        if not app[CONFIG].limits_unverified:
            await look_profile_up(work, user.id)
        await work.record("registered", actor=user.id, code=code)
        if code:
            # This comes last: everybody who registers by this code waits for its owner's row meanwhile.
            await come_by(work, user.id, code, is_new=True)
        account = await users.find_account(work.conn, user.id, work.moment)
    assert account is not None
    if code:
        # Only now: whoever is refused must not use up what others may register by.
        await app[LIMITER].allows("registration_by_code", code)
    app[METRICS].registrations.labels("yes" if code else "no").inc()
    return answer({"user": user_view(account, work.moment), **tokens}, 201, NO_STORE)

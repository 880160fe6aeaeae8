"""Registration."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.auth.passwords import PASSWORDS
from referral.auth.tokens import hash_token
from referral.changes import account_change, known_referral_change
from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.problems import Problem, translated
from referral.contract.schemas.registration import RegisteredSchema, RegistrationSchema
from referral.contract.schemas.users import user_view
from referral.database import DATABASE
from referral.handlers import API
from referral.ids import new_id
from referral.limits import ADDRESS, LIMITER, asker_of
from referral.links import LINKS
from referral.metrics import METRICS
from referral.queries import outbox, users
from referral.queries.clicks import Click
from referral.queries.codes import OwnedCode
from referral.queries.events import ATTRIBUTED, Attribution
from referral.queries.product_users import ProductUser
from referral.queries.referrals import Referral
from referral.rules.accounts import account_of, check_new_password, check_not_personal, check_not_reserved
from referral.rules.attributing import Refused, Way, attribution_of, click_on, refusing, ways_of
from referral.rules.audit import record_refusal
from referral.rules.enriching import look_profile_up
from referral.rules.event_contexts import Traces, own_context, traces_of
from referral.rules.former_addresses import is_known
from referral.rules.mailed_links import email_taken
from referral.rules.own_events import report_sign_up
from referral.rules.referring import check_code, come_first, use_last
from referral.rules.resets import take_resets_over
from referral.rules.rewarding import weigh
from referral.rules.signing_in import open_first_session
from referral.rules.suspecting import joined_by, suspect_referral
from referral.rules.work import Work, work_on
from referral.texts import email_key, fold_code, key_of
from referral.vendors.hunter import EMAIL_VERIFIER
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY

routes = web.RouteTableDef()

# Refusals that are recorded: somebody tries addresses, names or codes.
REFUSALS = {"referral-code-invalid", "email-taken", "username-taken", "email-undeliverable"}


@routes.post(f"{API}/auth/register")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="register",
    summary="Register",
    description="Makes an account and signs in. With a `referral_code` the account comes by the code's owner; with one that "
    "cannot be used there is no account. A `click_id` is for whoever gives no code; one that cannot be used causes nothing, "
    "which `attribution` says. A mail with a link to verify the address is on its way. "
    "An address that had an account before comes by nobody, which `attribution` says, and uses nothing of the code up.",
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
    if username:
        check_not_reserved(username, app[CONFIG])
    await app[LIMITER].hit("registration_by_address", request[ADDRESS])
    given: OwnedCode | None = None
    try:
        if code:
            # The code is judged first: what is said of it must not depend on whether the address has an account.
            async with app[DATABASE].reader() as conn:
                given = await check_code(conn, code, now())
        ways = await ways_of(request, code, body.get("click_id"), now())
        # A code was checked, and is not made up for by a click.
        way = ways[0] if ways else None
        click = click_on(ways, way.code) if way and way.code else None
        if way and way.code and way.reason is None:
            await app[LIMITER].check("registration_by_code", fold_code(way.code))
        await app[EMAIL_VERIFIER].check(email)
        password_hash = await app[PASSWORDS].hash(body["password"], asker_of(request))
        try:
            document = await _make_account(request, email, username, way, given, click, password_hash)
        except Refused as refused:
            [way] = refused.without_it([refused.way])
            document = await _make_account(request, email, username, way, given, click, password_hash)
        return answer(document, 201, NO_STORE)
    except Problem as problem:
        if problem.kind.name in REFUSALS:
            await record_refusal(
                request, "registration-refused", email=email_key(email), reason=problem.kind.name, code=code
            )
        raise


async def _make_account(
    request: web.Request,
    email: str,
    username: str | None,
    way: Way | None,
    given: OwnedCode | None,
    click: Click | None,
    password_hash: str,
) -> dict[str, Any]:
    """The account and its first session, as RegisteredSchema; `given` is the way's code, which was found before, and `click`
    one on its link. Raises Refused for a click that causes nothing after all."""
    app, key, links = request.app, email_key(email), request.app[LINKS]
    mails = ("mail_by_account", outbox.VERIFY_EMAIL, hash_token(key))
    is_mailed = await app[LIMITER].has_room(*mails)
    taken = {
        "users_email_key": email_taken(),
        "users_username_key": Problem("username-taken", "This username is taken."),
    }
    async with work_on(request) as work:
        user = users.NewUser(
            id=new_id(),
            email=email,
            email_key=key,
            username=username,
            username_key=key_of(username) if username else None,
            password_hash=password_hash,
            role="user",
            created_at=work.moment,
        )
        with translated(taken):
            await users.insert_user(work.conn, user)
        await take_resets_over(work, user.id, email)
        known = await is_known(work, email, user.id)
        if known:
            if given is not None:
                # Nothing of it is used, but it may have ended: that of whoever had this address, and has just left.
                await check_code(work.conn, given.code, work.moment)
            await users.refuse_attribution(work.conn, user.id, work.moment)
        code, attribution = way.code if way else None, attribution_of(way, is_known=known)
        leads = attribution.status == ATTRIBUTED
        tokens = await open_first_session(work, user.id, user.role)
        if is_mailed:
            await work.queue_mail(outbox.VERIFY_EMAIL, user.id, email)
        if not app[CONFIG].limits_unverified:
            await look_profile_up(work, user.id)
        await work.record("registered", actor=user.id, code=code, refused=attribution.reason)
        traces = await traces_of(work, own_context(request), work.moment, click if leads else None)
        if way and leads:
            # This comes late: everybody who registers by this code waits for its owner's row meanwhile.
            account = await _come(work, user, way, given, click, traces)
        else:
            account = account_of(user)
            work.announce(account_change("user.created", account, work.moment, links))
            await report_sign_up(work, user.id, await weigh(work, "signup", user.id, None), None, code, attribution, traces)
    # Limits are counted now: whoever is refused must use up neither the owner's mails nor what others may register by.
    if is_mailed:
        await app[LIMITER].allows(*mails)
    if code and leads:
        await app[LIMITER].allows("registration_by_code", fold_code(code))
    app[METRICS].registrations.labels("yes" if leads else "no").inc()
    return {"user": user_view(account, work.moment, links), "attribution": attribution._asdict(), **tokens}


async def _come(
    work: Work, user: users.NewUser, way: Way, given: OwnedCode | None, click: Click | None, traces: Traces
) -> users.Account:
    """Let a new account come by a code's owner, note what is suspicious of that, report its sign-up, and use the code, which
    is the last thing. Returns the account.

    Raises `referral-code-invalid` for a code that was given, and Refused for a click."""
    assert way.code is not None
    config, links = work.request.app[CONFIG], work.request.app[LINKS]
    with _refusing(way):
        code = given or await check_code(work.conn, way.code.upper(), work.moment)
    weighed = await weigh(work, "signup", user.id, code.referrer_id)
    with _refusing(way):
        owner, standing = await come_first(work, user.id, code, way.source)
    account = account_of(user, owner)
    work.announce(account_change("user.created", account, work.moment, links))
    if "signup" in config.attribution.converts_on:
        work.announce_referral("referral.created", user.id, owner.id)
    else:
        referral = Referral(None, user.id, None, user.username, None, user.email, work.moment, code.code, way.source)
        work.announce(known_referral_change("referral.created", referral, owner.id))
    made = ProductUser(user.id, None, user.created_at, user.email)
    joined = joined_by(made, work.moment, click, is_new=True)
    review = await suspect_referral(work, made, owner.id, joined, traces)
    standing = replace(standing, review=review)
    await report_sign_up(work, user.id, weighed, standing, way.code, Attribution(ATTRIBUTED), traces)
    # What is to be told goes out with the use.
    await work.tell()
    with _refusing(way):
        await use_last(work, code)
    return account


def _refusing(way: Way) -> AbstractContextManager[None]:
    return refusing(way) if way.source == "click" else nullcontext()

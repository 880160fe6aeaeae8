"""Second factors: how one is switched on and off, and how whoever signs in shows it.

A code of the app is good once, within half a minute of its time; each recovery code is good once. Wrong ones count against
the limit of wrong passwords of the account.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.auth.sealing import SEAL, SealBroken
from referral.auth.totp import new_recovery_codes, new_secret, recovery_hash, step_of, uri_of
from referral.clock import SECOND, now
from referral.config.public_url import PUBLIC_URL
from referral.contract.problems import Problem
from referral.database import DATABASE
from referral.limits import LIMITER
from referral.queries import second_factors
from referral.queries.second_factors import SecondFactor
from referral.queries.users import Credentials
from referral.rules.accounts import check_own_password, own_contact
from referral.rules.audit import record_refusal
from referral.rules.work import Work, work_on

UseCode = Callable[[Work], Awaitable[None]]
# How long what was begun can be confirmed (ms): who finds the session open later learns no secret that may come to count.
BEGUN_FOR = 600 * SECOND


class SecondFactorNeeded(Exception):
    """The account has a second factor, and no code was given."""


class WrongCode(Exception):
    """The code is none of the app's, was used before, or is no recovery code."""


class Begun(NamedTuple):
    """What an authenticator app has to know: the secret, and the URI of its QR code."""

    secret: str
    uri: str


async def own_second_factor(request: web.Request) -> SecondFactor | None:
    """The second factor of whoever is signed in, switched on or only begun, a short time ago."""
    async with request.app[DATABASE].reader() as conn:
        found = await second_factors.find_second_factor(conn, request[IDENTITY].user_id)
    return None if found is None or _is_over(found, now()) else found


def _is_over(found: SecondFactor, moment: int) -> bool:
    """Whether it was begun too long before this moment (ms) to be confirmed."""
    return not found.is_on and moment - found.created_at > BEGUN_FOR


async def begin(request: web.Request, password: str) -> Begun:
    """Begin a second factor of whoever is signed in, which a code has to confirm; one that was begun before is replaced.

    Raises a problem for a wrong password: a stolen token must not keep the owner out. And where one is switched on.
    """
    await check_own_password(request, password, "second-factor-refused")
    secret = new_secret()
    async with work_on(request) as work:
        await work.hold_caller()
        sealed = request.app[SEAL].seal(secret)
        if not await second_factors.insert_second_factor(work.conn, request[IDENTITY].user_id, sealed, work.moment):
            raise Problem("second-factor-state", "The account has a second factor. Switch it off to begin another one.")
    return await _begun(request, secret)


async def find_begun(request: web.Request, found: SecondFactor) -> Begun:
    """What an app has to know of one that was begun. Raises a problem when it cannot be read any more."""
    return await _begun(request, _opened(request, found))


async def _begun(request: web.Request, secret: str) -> Begun:
    contact = await own_contact(request)
    account = contact.email or contact.username or contact.user_id
    return Begun(secret, uri_of(secret, account, request.app[PUBLIC_URL].host))


def _opened(request: web.Request, found: SecondFactor) -> str:
    try:
        return request.app[SEAL].open(found.secret)
    except SealBroken:
        raise Problem(
            "second-factor-state",
            "The secret cannot be read: the service's keys were changed. Its operator can reset the second factor.",
        ) from None


async def confirm(request: web.Request, code: str) -> list[str]:
    """Switch on what was begun, by a code of the app, and return the recovery codes, which nobody can read again.

    Raises a problem for a wrong code, and where nothing was begun.
    """
    user_id = request[IDENTITY].user_id
    async with _guessing(request, user_id), work_on(request) as work:
        await work.hold_caller()
        found = await second_factors.find_second_factor(work.conn, user_id)
        if found is None or found.is_on or _is_over(found, work.moment):
            raise _not_begun()
        step = step_of(_opened(request, found), code, work.moment)
        if step is None:
            raise WrongCode
        if not await second_factors.confirm_second_factor(work.conn, user_id, found.secret, step, work.moment):
            raise _not_begun()
        codes = new_recovery_codes()
        for text in codes:
            await second_factors.insert_recovery_code(work.conn, user_id, recovery_hash(text) or "")
        await work.record("second-factor-on")
    return codes


def _not_begun() -> Problem:
    return Problem("second-factor-state", "No second factor was begun that a code could confirm.")


async def switch_off(request: web.Request, password: str, code: str) -> None:
    """Switch off the second factor of whoever is signed in. Raises a problem for a wrong password or code, and where none is
    switched on."""
    user_id = request[IDENTITY].user_id
    await check_own_password(request, password, "second-factor-refused")
    async with _guessing(request, user_id), work_on(request) as work:
        await work.hold_caller()
        # Read behind the lock: one that is confirmed meanwhile must not go with any code.
        found = await second_factors.find_second_factor(work.conn, user_id)
        if found is None:
            raise _none()
        if found.is_on:
            await _use(found, code, work)
            await work.record("second-factor-off")
        await second_factors.delete_second_factor(work.conn, user_id)


def _none() -> Problem:
    return Problem("second-factor-state", "The account has no second factor.")


@asynccontextmanager
async def _guessing(request: web.Request, user_id: str) -> AsyncIterator[None]:
    """As `proving`, of whoever is signed in: a wrong code is a problem."""
    try:
        async with _counting(request, user_id):
            yield
    except WrongCode:
        raise Problem("wrong-code", "The code is wrong, or was used already.") from None


@asynccontextmanager
async def _counting(request: web.Request, user_id: str) -> AsyncIterator[None]:
    async with request.app[LIMITER].guess("login_by_account", "second factor", user_id) as was_wrong:
        try:
            yield
        except WrongCode:
            await was_wrong()
            await record_refusal(request, "second-factor-refused", user=user_id)
            raise


@asynccontextmanager
async def proving(request: web.Request, account: Credentials, code: str | None) -> AsyncIterator[UseCode]:
    """The block signs in an account whose password was shown, and calls what it gets in its unit of work, which uses the
    code up; an account without a second factor needs none.

    Raises SecondFactorNeeded, WrongCode, and a problem after too many wrong codes.
    """
    if not account.has_second_factor:
        yield _need_nothing
    elif not code:
        raise SecondFactorNeeded
    else:
        async with _counting(request, account.user_id):
            yield partial(_use_of, account.user_id, code)


async def _need_nothing(work: Work) -> None:
    pass


async def _use_of(user_id: str, code: str, work: Work) -> None:
    found = await second_factors.find_second_factor(work.conn, user_id)
    if found is not None and found.is_on:
        await _use(found, code, work)


async def _use(found: SecondFactor, code: str, work: Work) -> None:
    step = step_of(_opened(work.request, found), code, work.moment) if len(code) <= 64 else None
    if step is not None and await second_factors.use_step(work.conn, found.user_id, step):
        return
    code_hash = recovery_hash(code)
    if code_hash is None or not await second_factors.use_recovery_code(work.conn, found.user_id, code_hash, work.moment):
        raise WrongCode
    await work.record("recovery-code-used", actor=found.user_id)

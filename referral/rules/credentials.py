"""A name and a password, checked: the one rule of whoever signs in, by the token endpoint and at the back office.

Every refusal costs the same work and counts against the same limits, so that neither its time nor the number of tries tells
which accounts exist.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson
from aiohttp import web
from marshmallow import ValidationError

from referral.auth.passwords import PASSWORDS
from referral.auth.sealing import SEAL, SealBroken
from referral.auth.tokens import hash_token
from referral.clock import SECOND, now
from referral.contract.problems import Problem
from referral.contract.schemas.fields import Email, Username
from referral.database import DATABASE
from referral.limits import ADDRESS, LIMITER, asker_of
from referral.queries import users
from referral.queries.audit import EventName
from referral.rules.audit import record_refusal
from referral.rules.work import Work
from referral.texts import email_key, key_of

# What a sealed text is for, and for how long it proves that the password was shown.
PROOF = "a sign-in whose second factor is due"
PROOF_TTL = 300 * SECOND


class WrongCredentials(Exception):
    """Nobody whom the endpoint admits has this name and this password."""


class SuspendedAccount(Exception):
    """Name and password are right, and the account is suspended."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An account whose password somebody has just shown; `fresh` is another hash of it, if the one kept is outdated."""

    account: users.Credentials
    fresh: str | None

    async def renewed(self, work: Work) -> users.Credentials:
        """The account, which keeps the fresh hash from here on."""
        account, known = self.account, self.account.password_hash
        if self.fresh and known and await users.update_password(work.conn, account.user_id, known, self.fresh):
            return replace(account, password_hash=self.fresh)
        return account


def anybody(account: users.Credentials) -> bool:
    """Everybody who has an account may sign in."""
    return True


async def check_credentials(
    request: web.Request, name: str, password: str, admits: Callable[[users.Credentials], bool] = anybody
) -> Shown:
    """The account of this username or e-mail, whose password this is, and which the endpoint `admits`: any other one counts
    as a wrong name.

    Raises WrongCredentials, SuspendedAccount, and a problem where there were too many tries; what is refused is recorded.
    """
    app = request.app
    email, username = _key_if(email_key, Email(), name), _key_if(key_of, Username(), name)
    # Wrong passwords are counted by the given name: one count for both names would tell which address belongs to which
    # username. And by address: whoever tries passwords must not lock the owner out, who comes from elsewhere.
    key = hash_token(email or username or name), request[ADDRESS]
    try:
        await app[LIMITER].hit("login_by_address", request[ADDRESS])
        async with app[LIMITER].guess("login_by_account", *key) as was_wrong:
            found = await _find_credentials(app, email, username)
            # An unknown name costs the same work: the time of a refusal must not tell which accounts exist.
            known = found.password_hash if found else None
            is_right = await app[PASSWORDS].check(password, known, asker_of(request))
            if not is_right or found is None or known is None or not admits(found):
                await was_wrong()
                await _record_sign_in(request, "sign-in-refused", found, email)
                raise WrongCredentials
    except Problem:
        # A flood of requests must not become a flood of writes.
        if await app[LIMITER].is_first("sign-in-limited", request[ADDRESS]):
            await _record_sign_in(request, "sign-in-limited", await _find_credentials(app, email, username), email)
        raise
    if found.suspended_at is not None:
        # Only whoever knows the password is told.
        await _record_sign_in(request, "sign-in-refused", found, email)
        raise SuspendedAccount
    # If the rounds were changed since, the hash is made anew: checking it must take as long as for an unknown user.
    fresh = await app[PASSWORDS].hash(password, asker_of(request)) if app[PASSWORDS].is_outdated(known) else None
    return Shown(found, fresh)


def prove_password(request: web.Request, account: users.Credentials) -> str:
    """A sealed text by which somebody who has shown this account's password proves it for five minutes, until it is
    changed."""
    known = hash_token(account.password_hash or "")
    facts = {"for": PROOF, "user": account.user_id, "password": known, "ends": now() + PROOF_TTL}
    return request.app[SEAL].seal(orjson.dumps(facts).decode())


async def find_proved(request: web.Request, proof: str) -> users.Credentials | None:
    """The account whose password was shown, as it is now; None for what proves nothing any more."""
    try:
        facts = orjson.loads(request.app[SEAL].open(proof))
    except (SealBroken, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("for") != PROOF or facts["ends"] <= now():
        return None
    async with request.app[DATABASE].reader() as conn:
        account = await users.find_credentials_by_id(conn, facts["user"])
    if account is None or account.password_hash is None or hash_token(account.password_hash) != facts["password"]:
        return None
    return account


def _key_if(fold: Callable[[str], str], field: Email | Username, name: str) -> str | None:
    """The key of a name, if it is one of this sort. No other is kept of a refused sign-in: people type passwords there."""
    try:
        return fold(field.deserialize(name))
    except ValidationError:
        return None


async def _find_credentials(app: web.Application, email: str | None, username: str | None) -> users.Credentials | None:
    async with app[DATABASE].reader() as conn:
        if email:
            return await users.find_credentials_by_email(conn, email)
        return await users.find_credentials_by_username(conn, username) if username else None


async def _record_sign_in(
    request: web.Request, event: EventName, found: users.Credentials | None, email: str | None
) -> None:
    # Recorded under the account or, where there is none, under the address, which is erased with the account.
    await record_refusal(request, event, user=found.user_id if found else None, email=None if found else email)

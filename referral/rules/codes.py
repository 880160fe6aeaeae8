"""How a code is made: for its owner, who asks for it, and by a product for one of its users."""

import secrets
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from referral.cache.codes import Load
from referral.changes import code_change
from referral.clock import DAY, SECOND, now, rfc_3339
from referral.config import CONFIG, Config
from referral.contract.problems import Problem, invalid
from referral.database import DATABASE
from referral.queries import codes, locks, users
from referral.queries.changes import ChangeType
from referral.rules.accounts import erased
from referral.rules.named_user import no_such_user
from referral.rules.product_users import check_not_admins
from referral.rules.work import Work
from referral.texts import fold_code

# Crockford's base32: no I, L, O and U, which are misread or make words.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# One of 32^8 codes is hardly ever taken, and never this many in a row.
ATTEMPTS = 20


def check_new_code(body: dict[str, Any], config: Config, pointer: str = "") -> None:
    """Raises a problem for the body of a new code (CodeCreationSchema) that no code can be made of, before anything is
    counted; `pointer` is where the body lies in the request's."""
    if "code" in body and _is_reserved(body["code"], config):
        raise invalid(f"{pointer}/code", "This word is reserved.")
    expiry_of(body, now(), config, pointer)


async def lock_owner(work: Work, text: str) -> None:
    """Lock the owner of the code that this text stands for, if there is one, before the code's row is taken.

    What becomes of a code is announced with whether its owner is suspended, and a suspension announces the code. If both
    went at once, whichever is told last would not know of the other one.
    """
    found = await codes.find_code(work.conn, text)
    if found is not None:
        await locks.lock_user(work.conn, found.referrer_id)


async def make_code(
    work: Work, owner_id: str, body: dict[str, Any], pointer: str = "", *, is_suspended: bool = False
) -> codes.Code:
    """Make the owner's current code, of a body that `check_new_code` has passed. The owner, who may be suspended, is locked.

    Raises a problem: `active-code-exists`, `code-taken`, or what `expiry_of` raises.
    """
    expires_at = expiry_of(body, work.moment, work.request.app[CONFIG], pointer)
    assert expires_at is not None
    code, replaced = await _insert(work, owner_id, body, expires_at)
    await users.increment_code_count(work.conn, owner_id)
    work.invalidates_code(*(ended.code for ended in replaced))
    changed: list[tuple[ChangeType, codes.Code]] = [*(("code.ended", ended) for ended in replaced), ("code.created", code)]
    work.announce(*(code_change(kind, one, owner_id, work.moment, is_suspended=is_suspended) for kind, one in changed))
    await work.record("code-made", user=owner_id, **facts_of(code), replaced=[ended.code for ended in replaced] or None)
    return code


async def make_code_of(work: Work, user_id: str, body: dict[str, Any]) -> codes.Code:
    """Make a user's current code for somebody else, as `make_code` does. Raises `not-found`, too, and `forbidden` as
    `check_not_admins`."""
    await locks.lock_user(work.conn, user_id)
    contact = await users.find_contact(work.conn, user_id)
    if contact is None:
        raise no_such_user()
    await check_not_admins(work, user_id)
    return await make_code(work, user_id, body, is_suspended=contact.suspended_at is not None)


async def end_code(work: Work, text: str, owner_id: str | None) -> bool:
    """End a code of this owner's, or of anybody's with None. One that had ended stays so. False when they have no such
    code. Raises `forbidden` as `check_not_admins`."""
    await lock_owner(work, text)
    ended = await codes.revoke_code(work.conn, text, owner_id, work.moment)
    if ended is None:
        return False
    await check_not_admins(work, ended.referrer_id)
    work.invalidates_code(ended.code)
    if ended.revoked_at == work.moment:
        work.announce_code("code.ended", ended.code)
        await work.record("code-ended", user=ended.referrer_id, code=ended.code)
    return True


def loading(app: web.Application, text: str) -> Load:
    """What asks the database for the active code of this text."""

    async def load() -> codes.ActiveCode | None:
        async with app[DATABASE].reader() as conn:
            return await codes.find_active_code(conn, text, now(), limited=app[CONFIG].limits_unverified)

    return load


async def _insert(work: Work, owner_id: str, body: dict[str, Any], expires_at: int) -> tuple[codes.Code, list[codes.Code]]:
    """Insert the code of the body's text or, without one, of a text nobody has, and return it with what it put aside."""
    conn, moment, max_uses, replaced = work.conn, work.moment, body.get("max_uses"), list[codes.Code]()
    if body.get("replace", False):
        replaced = await codes.revoke_codes_in_the_way(conn, owner_id, moment, replace=True)
    for chosen in [body["code"]] if "code" in body else _texts(work.request.app[CONFIG]):
        code = await codes.insert_code(conn, chosen, owner_id, moment, expires_at, max_uses)
        if code is None and not replaced:
            # What is in the way of a code, if anything is, can mostly be put aside in passing.
            replaced = await codes.revoke_codes_in_the_way(conn, owner_id, moment, replace=False)
            code = await codes.insert_code(conn, chosen, owner_id, moment, expires_at, max_uses) if replaced else None
        if code is not None:
            return code, replaced
        if await codes.find_code(conn, chosen) is None:
            if await users.find_contact(conn, owner_id) is None:
                raise erased()
            raise Problem("active-code-exists", "There is a current code; end it first, or send replace: true.")
    raise _taken()


def _texts(config: Config) -> Iterator[str]:
    """Texts that are hardly ever anybody's."""
    for _ in range(ATTEMPTS):
        text = "".join(ALPHABET[byte % 32] for byte in secrets.token_bytes(config.codes.length))
        if not _is_reserved(text, config):
            yield text


def _taken() -> Problem:
    return Problem("code-taken", "This text, or one that reads alike, is or was somebody's code. Choose another.")


def _is_reserved(text: str, config: Config) -> bool:
    return fold_code(text) in map(fold_code, config.codes.reserved)


def facts_of(code: codes.Code) -> dict[str, Any]:
    """What the record of events says of a code."""
    return {"code": code.code, "expires_at": rfc_3339(code.expires_at), "max_uses": code.max_uses}


def expiry_of(body: dict[str, Any], moment: int, config: Config, pointer: str = "") -> int | None:
    """The expiry asked for in ms, None if none is. Raises a problem for one that is past or too far off."""
    furthest = config.codes.max_ttl_days
    if "ttl_days" in body:
        if body["ttl_days"] > furthest:
            raise invalid(f"{pointer}/ttl_days", f"Must be at most {furthest} days.")
        return moment // SECOND * SECOND + int(body["ttl_days"]) * DAY
    if "expires_at" not in body:
        return None
    expires_at = int(body["expires_at"])
    if expires_at <= moment:
        raise invalid(f"{pointer}/expires_at", "Must be in the future.")
    if expires_at > moment + furthest * DAY:
        raise invalid(f"{pointer}/expires_at", f"Must be at most {furthest} days from now.")
    return expires_at

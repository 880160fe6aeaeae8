"""Redemptions: what users spend, or reserve to spend, of what is available to them. Nothing is ever spent that is not there.

The caller's id is the idempotency key, and is remembered for ever; one that found too little is not.
"""

from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from referral.auth.identity import is_operator
from referral.background.holds import give_back
from referral.changes import balance_changes, redemption_change
from referral.clock import SECOND, rfc_3339
from referral.config import CONFIG
from referral.contract.problems import Problem
from referral.contract.schemas.balances import balance_view, first_view, redemption_view
from referral.database import DATABASE, TransactionConflict
from referral.ledger import Account, Kind, Movement, move, spend
from referral.queries import ledger, locks
from referral.queries.ledger import CANCELLED, DONE, RELEASED, RESERVED, Balance, Redemption
from referral.rules.idempotency import Answered, hash_of, id_mismatch
from referral.rules.product_users import lock_known
from referral.rules.suspension import suspended
from referral.rules.units import check_unit
from referral.rules.work import Work, work_on


class _Known(Exception):
    """There is a redemption of this id already: the transaction has to be rolled back."""


async def redeem(request: web.Request, user_id: str, body: dict[str, Any], asked: Any) -> Answered:
    """Spend, or reserve, what `body` (RedemptionCreationSchema) says; `asked` is the JSON document that it was made of.

    Raises `insufficient-balance`, `user-suspended`, `id-mismatch`, `unit-unknown` and `not-found`.
    """
    body_hash = hash_of(asked)
    while True:
        async with request.app[DATABASE].reader() as conn:
            known = await ledger.find_redemption(conn, body["id"])
        if known is not None:
            is_alike = (known.unit, known.amount) == (body["unit"], body["amount"])
            # Of a user who was erased nothing else is left to compare.
            is_same = known.body_hash == body_hash if known.body_hash is not None else is_alike
            if known.user_id != user_id or not is_same:
                raise id_mismatch()
            return Answered(first_view(known), True)
        try:
            async with work_on(request) as work:
                return Answered(await _redeem(work, user_id, body, body_hash), False)
        except _Known:
            continue


async def _redeem(work: Work, user_id: str, body: dict[str, Any], body_hash: str) -> dict[str, Any]:
    await work.hold_caller()
    user = await lock_known(work, user_id)
    if await ledger.find_redemption(work.conn, body["id"]) is not None:
        raise _Known
    if user.suspended_at is not None:
        raise suspended()
    unit, amount, hold = body["unit"], body["amount"], body.get("hold_seconds")
    await locks.lock_account(work.conn, user_id, unit)
    balance = await ledger.find_balance(work.conn, user_id, unit)
    if balance is None:
        # What users have in a unit that is none any more can still be spent.
        check_unit(unit, work.request.app[CONFIG])
    if balance is None or balance.available < amount:
        available = 0 if balance is None else balance.available
        raise Problem("insufficient-balance", f"{available} {unit} are available.", available=available)
    due_at = None if hold is None else work.moment + hold * SECOND
    status = DONE if due_at is None else RESERVED
    expected = _after(balance, amount, is_reserved=due_at is not None)
    after = balance_view(expected)
    outcome = {"status": status, "expires_at": None if due_at is None else rfc_3339(due_at), "balance": after}
    redemption = Redemption(
        body["id"],
        user_id,
        unit,
        amount,
        status,
        body.get("reference"),
        body.get("note"),
        work.moment,
        due_at,
        int(not is_operator(work.request)),
        orjson.dumps(outcome).decode(),
        body_hash,
    )
    if not await ledger.insert_redemption(work.conn, redemption):
        raise _Known
    kind: Kind = "redemption" if due_at is None else "reservation"
    legs: tuple[Account, Account] = ("available", "spent" if due_at is None else "reserved")
    moved = await spend(work.conn, _movement(kind, redemption, legs), work.moment)
    if moved is None:
        raise TransactionConflict("less is available than a moment ago")
    work.announce(redemption_change("redemption.created", redemption, expected), *balance_changes([moved]))
    return redemption_view(redemption, after)


def _after(balance: Balance, amount: int, *, is_reserved: bool) -> Balance:
    if is_reserved:
        return replace(balance, available=balance.available - amount, reserved=balance.reserved + amount)
    return replace(balance, available=balance.available - amount, spent=balance.spent + amount)


def _movement(kind: Kind, redemption: Redemption, legs: tuple[Account, Account]) -> Movement:
    return Movement(
        kind,
        redemption.id,
        redemption.user_id,
        redemption.unit,
        legs,
        redemption.amount,
        redemption_id=redemption.id,
    )


async def locked(work: Work, redemption_id: str) -> Redemption:
    """The redemption of this id, which nobody else changes until the end of the transaction. Raises `not-found`."""
    await locks.lock_redemption(work.conn, redemption_id)
    found = await ledger.find_redemption(work.conn, redemption_id)
    if found is None:
        raise no_such_redemption()
    return found


def no_such_redemption() -> Problem:
    return Problem("not-found", "There is no such redemption.")


async def cancel(work: Work, redemption: Redemption) -> dict[str, Any]:
    """Give back what was spent; a reservation is released. Whatever was given back before stays as it is: whoever lost the
    answer asks again. Returns the redemption as it is then."""
    if redemption.status == RESERVED:
        return await release(work, redemption)
    if redemption.status == DONE:
        await ledger.end_redemption(work.conn, redemption.id, DONE, CANCELLED)
        back = _movement("cancellation", redemption, ("spent", "available"))
        moved = await move(work.conn, [back], work.moment)
        cancelled = replace(redemption, status=CANCELLED)
        work.announce(redemption_change("redemption.cancelled", cancelled, moved[0]), *balance_changes(moved))
    return await _now(work, redemption)


async def capture(work: Work, redemption: Redemption) -> dict[str, Any]:
    """Spend what is reserved. Raises `redemption-state`."""
    if redemption.status == RESERVED and redemption.due_at is not None and redemption.due_at <= work.moment:
        raise _refuse(redemption, "its time is over, and it is released at any moment")
    if redemption.status == RESERVED:
        await ledger.end_redemption(work.conn, redemption.id, RESERVED, DONE)
        moved = await move(work.conn, [_movement("capture", redemption, ("reserved", "spent"))], work.moment)
        captured = replace(redemption, status=DONE, due_at=None)
        work.announce(redemption_change("redemption.captured", captured, moved[0]), *balance_changes(moved))
    elif redemption.status != DONE:
        raise _refuse(redemption, "only a reserved one is captured")
    return await _now(work, redemption)


async def release(work: Work, redemption: Redemption) -> dict[str, Any]:
    """Give back what is reserved. Raises `redemption-state`."""
    if redemption.status == RESERVED:
        work.announce(*await give_back(work.conn, redemption, work.moment))
    elif redemption.status != RELEASED:
        raise _refuse(redemption, "only a reserved one is released")
    return await _now(work, redemption)


def _refuse(redemption: Redemption, why: str) -> Problem:
    return Problem("redemption-state", f"The redemption is {redemption.status}: {why}.")


async def _now(work: Work, redemption: Redemption) -> dict[str, Any]:
    found = await ledger.find_redemption(work.conn, redemption.id)
    balance = await ledger.find_balance(work.conn, redemption.user_id, redemption.unit)
    assert found is not None
    assert balance is not None
    return redemption_view(found, balance_view(balance))

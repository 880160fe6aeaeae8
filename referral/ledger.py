"""The ledger: money moves from one account of a user to another one of the same unit, by a transfer, or not at all.

Double-entry bookkeeping: an account's balance changes only together with an immutable row that says by what. The schema
keeps the sum of a user's accounts at zero, and each cause to one transfer of its kind.
"""

from collections import Counter
from typing import Any, Literal, NamedTuple

from referral.database import Connection
from referral.queries import ledger, locks
from referral.queries.ledger import Moved, Transfer

Account = Literal["programme", "pending", "available", "reserved", "spent"]
Kind = Literal[
    "reward",
    "approval",
    "void",
    "refund",
    "reversal",
    "retraction",
    "redemption",
    "reservation",
    "capture",
    "release",
    "cancellation",
]

ACCOUNTS: tuple[Account, ...] = ("programme", "pending", "available", "reserved", "spent")
# The rule of the schema that sums beyond 2^62 would break.
BOUNDS = "accounts_bounds"


def deltas(debit: Account, credit: Account, amount: int) -> dict[str, int]:
    """By how much a transfer changes the columns of an account's row, the sums that go along included."""
    found: dict[str, int] = dict.fromkeys(ACCOUNTS, 0)
    found[debit] -= amount
    found[credit] += amount
    return {
        **found,
        "earned": amount if (debit, credit) == ("pending", "available") else 0,
        "reversed": amount if (debit, credit) == ("available", "programme") else 0,
        "lines": int("available" in (debit, credit)),
    }


class Movement(NamedTuple):
    """An amount (at least 1, in the unit's smallest part) that moves from one account of a user's to another: `legs` are
    debit and credit. `reference` names the cause, which causes one transfer of this kind ever; the cause is a reward or a
    redemption."""

    kind: Kind
    reference: str
    user_id: str
    unit: str
    legs: tuple[Account, Account]
    amount: int
    reward_id: str | None = None
    redemption_id: str | None = None


async def move(conn: Connection, movements: list[Movement], at: int, *, opens: bool = False) -> list[Moved]:
    """Make these movements, in their order, at a time (ms), and return what the users have then. The accounts are there,
    unless this `opens` them.

    Raises ConstraintViolation (BOUNDS) for sums that the ledger cannot hold.
    """
    if not movements:
        return []
    moves = _sums(movements)
    if opens:
        found = await ledger.earn_on_accounts(conn, moves)
    else:
        if len(moves) > 1:
            await locks.lock_accounts(conn, [{"user_id": move["user_id"], "unit": move["unit"]} for move in moves])
        found = await ledger.move_accounts(conn, moves)
    await ledger.insert_transfers(conn, _transfers(movements, found, at))
    return found


async def spend(conn: Connection, movement: Movement, at: int) -> Moved | None:
    """Make a movement from `available` to `reserved` or `spent`, and return what the user has then. None, with nothing
    moved, where less is available."""
    amount, is_reserved = movement.amount, movement.legs[1] == "reserved"
    moved = await ledger.spend_on_account(
        conn,
        movement.user_id,
        movement.unit,
        amount,
        reserved=amount if is_reserved else 0,
        spent=0 if is_reserved else amount,
    )
    if moved is not None:
        await ledger.insert_transfers(conn, _transfers([movement], [moved], at))
    return moved


def _sums(movements: list[Movement]) -> list[dict[str, Any]]:
    """By how much each account's row changes, in one order of accounts."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for movement in movements:
        change = sums.setdefault((movement.user_id, movement.unit), Counter())
        change.update(deltas(*movement.legs, movement.amount))
    return [{"user_id": user_id, "unit": unit, **change} for (user_id, unit), change in sorted(sums.items())]


def _transfers(movements: list[Movement], found: list[Moved], at: int) -> list[Transfer]:
    """The rows of the movements: where `available` is moved, with what was available after each. What is known is how it
    stands after all of them, so that this goes backwards."""
    after = {(moved.user_id, moved.unit): (moved.available, moved.lines) for moved in found}
    transfers = []
    for movement in reversed(movements):
        place = (movement.user_id, movement.unit)
        available, line = after[place]
        is_line = "available" in movement.legs
        if is_line:
            sign = 1 if movement.legs[1] == "available" else -1
            after[place] = (available - sign * movement.amount, line - 1)
        transfers.append(
            Transfer(
                movement.kind,
                movement.reference,
                *place,
                *movement.legs,
                movement.amount,
                at,
                line if is_line else None,
                available if is_line else None,
                movement.reward_id,
                movement.redemption_id,
            )
        )
    return transfers[::-1]

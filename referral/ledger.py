"""The ledger: money moves from one account of a user to another one of the same unit, by a transfer, or not at all.

Double-entry bookkeeping: an account's balance changes only together with an immutable row that says by what. The schema
keeps the sum of a user's accounts at zero, and each cause to one transfer of its kind.
"""

from typing import Literal

from referral.database import Connection
from referral.queries import ledger
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


async def move(
    conn: Connection,
    kind: Kind,
    reference: str,
    user_id: str,
    unit: str,
    legs: tuple[Account, Account],
    amount: int,
    at: int,
    *,
    reward_id: str | None = None,
    redemption_id: str | None = None,
    least: int | None = None,
) -> bool:
    """Move an amount (at least 1, in the unit's smallest part) from one account of the user's to another, at a time (ms).

    `legs` are debit and credit; `reference` names the cause, which causes one transfer of this kind ever. False, with
    nothing moved, where less than `least` is available. The account must have been opened. Raises ConstraintViolation
    (BOUNDS) for sums that the ledger cannot hold.
    """
    debit, credit = legs
    moved: Moved | None = await ledger.move(conn, user_id, unit, deltas(debit, credit, amount), least)
    if moved is None:
        return False
    is_line = "available" in legs
    await ledger.insert_transfer(
        conn,
        Transfer(
            kind,
            reference,
            user_id,
            unit,
            debit,
            credit,
            amount,
            at,
            moved.lines if is_line else None,
            moved.available if is_line else None,
            reward_id,
            redemption_id,
        ),
    )
    return True

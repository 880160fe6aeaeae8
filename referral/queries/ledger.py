"""The ledger: statements of `sql/ledger.sql` and, of reservations that are due, of `sql/holds.*.sql`."""

from dataclasses import dataclass
from typing import Any

import orjson

from referral.database import Connection

DONE, RESERVED, RELEASED, CANCELLED = "done", "reserved", "released", "cancelled"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A movement to insert: `at` in ms; `line` and `available_after` where it is one of the statement's."""

    kind: str
    reference: str
    user_id: str
    unit: str
    debit: str
    credit: str
    amount: int
    at: int
    line: int | None
    available_after: int | None
    reward_id: str | None
    redemption_id: str | None


@dataclass(frozen=True, slots=True)
class Balance:
    """What a user has in a unit, in its smallest part."""

    unit: str
    pending: int
    available: int
    reserved: int
    earned: int
    spent: int
    reversed: int


@dataclass(frozen=True, slots=True)
class Moved(Balance):
    """What a user has in a unit after movements, and the number of the statement's last line."""

    user_id: str
    lines: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a statement; `at` in ms. `debit` says which account it took from."""

    kind: str
    caused_by: str
    at: int
    unit: str
    debit: str
    amount: int
    line: int
    available_after: int
    reward_id: str | None
    redemption_id: str | None
    reference: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Redemption:
    """Times in ms; `outcome` is the balance after it was made, as JSON text."""

    id: str
    user_id: str
    unit: str
    amount: int
    status: str
    reference: str | None
    note: str | None
    created_at: int
    due_at: int | None
    by_user: int
    outcome: str
    body_hash: str | None


async def earn_on_accounts(conn: Connection, moves: list[dict[str, Any]]) -> list[Moved]:
    """Change accounts by these sums (`user_id`, `unit`, and each column's); those that are not there are opened. Violates
    accounts_bounds for sums that pass the bounds."""
    return await conn.all("earn_on_accounts", Moved, moves=orjson.dumps(moves).decode())


async def move_accounts(conn: Connection, moves: list[dict[str, Any]]) -> list[Moved]:
    """As `earn_on_accounts`, of accounts that are there; of several, their rows are this transaction's."""
    return await conn.all("move_accounts", Moved, moves=orjson.dumps(moves).decode())


async def spend_on_account(
    conn: Connection, user_id: str, unit: str, amount: int, *, reserved: int = 0, spent: int = 0
) -> Moved | None:
    """Take an amount from what is available. None when less is."""
    return await conn.one(
        "spend_on_account", Moved, user_id=user_id, unit=unit, amount=amount, reserved=reserved, spent=spent
    )


async def insert_transfers(conn: Connection, transfers: list[Transfer]) -> None:
    """Insert the rows of movements that accounts have made. This is deferred."""
    conn.defer("insert_transfers", transfers=orjson.dumps(transfers).decode())


async def find_balance(conn: Connection, user_id: str, unit: str) -> Balance | None:
    return await conn.one("find_balance", Balance, user_id=user_id, unit=unit)


async def list_balances(conn: Connection, user_id: str) -> list[Balance]:
    return await conn.page("list_balances", Balance, user_id=user_id)


async def list_statement(conn: Connection, user_id: str, unit: str, before_line: int, limit: int) -> list[Line]:
    """The statement's lines before this one, newest first."""
    return await conn.page("list_statement", Line, user_id=user_id, unit=unit, before_line=before_line, page_size=limit)


async def list_transfers_of_reward(conn: Connection, reward_id: str) -> list[Transfer]:
    """All that moved the money of a reward, in its order."""
    return await conn.page("list_transfers_of_reward", Transfer, reward_id=reward_id)


async def find_line_count(conn: Connection, user_id: str, unit: str) -> int | None:
    """How many lines the statement has; None without an account."""
    return await conn.value("find_line_count", int, user_id=user_id, unit=unit)


async def insert_redemption(conn: Connection, redemption: Redemption) -> bool:
    """False when the id is taken. Violates redemptions_account without an account."""
    values = {name: getattr(redemption, name) for name in Redemption.__slots__ if name != "created_at"}
    return await conn.value("insert_redemption", str, now=redemption.created_at, **values) is not None


async def find_redemption(conn: Connection, redemption_id: str) -> Redemption | None:
    return await conn.one("find_redemption", Redemption, redemption_id=redemption_id)


async def end_redemption(conn: Connection, redemption_id: str, former: str, status: str) -> bool:
    """Bring a redemption from one state to another. False if it is not in the former one."""
    return await conn.value("end_redemption", str, redemption_id=redemption_id, former=former, status=status) is not None


async def find_next_due_redemption(conn: Connection) -> int | None:
    return await conn.value("find_next_due_redemption", int)


async def claim_due_redemptions(conn: Connection, now: int, batch_size: int) -> list[Redemption]:
    """Reservations whose time is over; their rows are this transaction's until its end."""
    return await conn.page("claim_due_redemptions", Redemption, now=now, batch_size=batch_size)


async def list_redemptions_of_user(conn: Connection, user_id: str, before: tuple[int, str], limit: int) -> list[Redemption]:
    """Redemptions made before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_redemptions_of_user",
        Redemption,
        user_id=user_id,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def forget_redemptions_of_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_redemptions_of_user", user_id=user_id)

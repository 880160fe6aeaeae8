"""Second factors of accounts, and recovery codes: statements of `sql/second_factors.sql`."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """`secret` is sealed; `confirmed_at` is None for one that was only begun. Times in ms. `recovery_codes` are those that
    are left."""

    user_id: str
    secret: str
    created_at: int
    confirmed_at: int | None
    last_step: int
    recovery_codes: int

    @property
    def is_on(self) -> bool:
        return self.confirmed_at is not None


async def insert_second_factor(conn: Connection, user_id: str, secret: str, now: int) -> bool:
    """Begin a second factor. False where one is switched on."""
    return await conn.value("insert_second_factor", str, user_id=user_id, secret=secret, now=now) is not None


async def find_second_factor(conn: Connection, user_id: str) -> SecondFactor | None:
    return await conn.one("find_second_factor", SecondFactor, user_id=user_id)


async def confirm_second_factor(conn: Connection, user_id: str, secret: str, step: int, now: int) -> bool:
    """Switch on the one that was begun with this sealed secret, by the code of a time step. False when it is no more."""
    found = await conn.value("confirm_second_factor", str, user_id=user_id, secret=secret, step=step, now=now)
    return found is not None


async def use_step(conn: Connection, user_id: str, step: int) -> bool:
    """Take the code of a time step. False when this one, or a later one, was taken before."""
    return await conn.value("use_step", str, user_id=user_id, step=step) is not None


async def insert_recovery_code(conn: Connection, user_id: str, code_hash: str) -> None:
    """Of a second factor that this transaction has switched on. This is deferred."""
    conn.defer("insert_recovery_code", user_id=user_id, code_hash=code_hash)


async def use_recovery_code(conn: Connection, user_id: str, code_hash: str, now: int) -> bool:
    """False when there is no such code, or it was used before."""
    return await conn.value("use_recovery_code", str, user_id=user_id, code_hash=code_hash, now=now) is not None


async def delete_second_factor(conn: Connection, user_id: str) -> int | None:
    """Delete the second factor with its recovery codes, and return since when it was on (ms)."""
    return await conn.value("delete_second_factor", int, user_id=user_id)


async def list_second_factors(conn: Connection) -> list[SecondFactor]:
    """All of them, whose recovery codes are not counted."""
    return await conn.all("list_second_factors", SecondFactor)


async def update_second_factor_secret(conn: Connection, user_id: str, secret: str, former: str) -> None:
    """Replace the sealed secret by the same, sealed anew, unless it is another one by now."""
    await conn.run("update_second_factor_secret", user_id=user_id, secret=secret, former=former)

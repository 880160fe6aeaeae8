"""Blocks: statements of `sql/blocks.sql`."""

from dataclasses import dataclass

from referral.database import Connection

EMAIL, EMAIL_DOMAIN, EXTERNAL_ID = "email", "email-domain", "external-id"
KINDS = (EMAIL_DOMAIN, EXTERNAL_ID, EMAIL)


@dataclass(frozen=True, slots=True)
class Block:
    """A value that is blocked, in the form in which it is compared; `created_at` in ms."""

    kind: str
    value: str
    note: str | None
    created_at: int


async def insert_block(conn: Connection, kind: str, value: str, note: str | None, now: int) -> Block | None:
    """None for a value that is blocked already."""
    return await conn.one("insert_block", Block, kind=kind, value=value, note=note, now=now)


async def update_block(conn: Connection, kind: str, value: str, note: str | None) -> Block | None:
    return await conn.one("update_block", Block, kind=kind, value=value, note=note)


async def find_block(conn: Connection, kind: str, value: str) -> Block | None:
    return await conn.one("find_block", Block, kind=kind, value=value)


async def delete_block(conn: Connection, kind: str, value: str) -> bool:
    """False for a value that is not blocked."""
    return await conn.value("delete_block", str, kind=kind, value=value) is not None


async def list_blocks(conn: Connection, before: tuple[int, str, str], limit: int) -> list[Block]:
    """Blocks from before the cursor (time in ms, kind, value), newest first."""
    return await conn.page(
        "list_blocks",
        Block,
        before_time=before[0],
        before_kind=before[1],
        before_value=before[2],
        page_size=limit,
    )


async def list_blocks_of_kind(conn: Connection, kind: str, before: tuple[int, str], limit: int) -> list[Block]:
    return await conn.page(
        "list_blocks_of_kind", Block, kind=kind, before_time=before[0], before_value=before[1], page_size=limit
    )


async def count_blocks(conn: Connection, most: int) -> int:
    """How many blocks there are, counted up to `most`."""
    return await conn.value("count_blocks", int, sample_size=most) or 0


async def count_blocks_of_kind(conn: Connection, kind: str, most: int) -> int:
    return await conn.value("count_blocks_of_kind", int, kind=kind, sample_size=most) or 0

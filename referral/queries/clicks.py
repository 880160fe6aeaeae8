"""Clicks on share links: statements of `sql/clicks*.sql`. A day is its first millisecond in UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class Click:
    """A click on the link of a code, at a time (ms); whether a robot made it, and the HMAC of the network that it came from,
    with the id of its key."""

    code: str
    clicked_at: int
    robot: int = 0
    network: str | None = None
    network_key: str | None = None


class NewVisitor(NamedTuple):
    """That somebody came by a code for the first time that day."""

    code: str
    day: int


async def find_click(conn: Connection, click_id: str) -> Click | None:
    return await conn.one("find_click", Click, click_id=click_id)


async def insert_click_key(conn: Connection, day: int, secret: str) -> None:
    """Keep the key of a day (hexadecimal digits), unless it has one."""
    await conn.run("insert_click_key", day=day, secret=secret)


async def find_click_key(conn: Connection, day: int) -> str | None:
    return await conn.value("find_click_key", str, day=day)


async def delete_click_keys(conn: Connection, before: int) -> None:
    """Throw away the keys of days before then (ms)."""
    await conn.run("delete_click_keys", before=before)


async def delete_old_visitors(conn: Connection, before: int, batch_size: int) -> int:
    """Delete so many visitors at most of days before then (ms), and return how many there were."""
    return len(await conn.values("delete_old_visitors", str, before=before, batch_size=batch_size))


async def delete_old_clicks(conn: Connection, before: int, batch_size: int) -> int:
    """Delete so many clicks at most that were made before then (ms), and return how many there were."""
    return len(await conn.values("delete_old_clicks", str, before=before, batch_size=batch_size))


async def insert_clicks(conn: Connection, clicks: Sequence[dict[str, Any]]) -> list[str]:
    """Keep clicks, `id`, `code`, `at` (ms), `robot` (0 or 1), `network` and `network_key` (texts or null) of each, and
    return the ids of those that were not there."""
    return await conn.values("insert_clicks", str, clicks=_json(clicks))


async def insert_visitors(conn: Connection, visitors: Sequence[dict[str, Any]]) -> list[NewVisitor]:
    """Keep visitors, `day`, `code` and `hash` of each, and return those who came for the first time."""
    return await conn.all("insert_visitors", NewVisitor, visitors=_json(visitors))


async def add_click_sums(conn: Connection, sums: Sequence[dict[str, Any]]) -> None:
    """Add to the sums of codes and days: `code`, `day`, `clicks`, `visitors`, `qr` and `robots` of each."""
    await conn.run("add_click_sums", sums=_json(sums))


def _json(rows: Sequence[Any]) -> str:
    return orjson.dumps(rows).decode()

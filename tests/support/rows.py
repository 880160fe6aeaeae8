"""A look into a test's database past the service, a user to insert, and changes that only time or an operator would make."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import psycopg

from referral.clock import now
from referral.database import is_postgres, sqlite_path
from referral.queries import users
from referral.texts import email_key, key_of

# What tells of changes. A change is in the first of them for a moment, and then in the others.
FEED = ("announcements", "changes", "change_subjects", "feed", "code_expiries")
# Sums of all of them, to which a worker adds at its own times; they say nothing of anybody.
SUMS = ("stat_deltas", "stat_days", "stat_state")
TABLES = (
    "users",
    "codes",
    "referrals",
    "sessions",
    "refresh_tokens",
    "session_cookies",
    "second_factors",
    "recovery_codes",
    "one_time_tokens",
    "outbox",
    "profiles",
    "profile_lookups",
    "audit_events",
    "former_addresses",
    "signing_key",
    "service_keys",
    "identities",
    "events",
    "context_keys",
    "event_contexts",
    "clicks",
    "click_keys",
    "click_visitors",
    "click_days",
    "rules",
    "rule_versions",
    "rule_usage",
    "rewards",
    "accounts",
    "transfers",
    "redemptions",
    "reversals",
    "signals",
    "reviews",
    "blocks",
    *FEED,
    "webhooks",
    "deliveries",
    "delivery_failures",
    "replays",
)


def user(name: str) -> users.NewUser:
    """A user to insert, whose id is the name."""
    email = f"{name}@example.com"
    return users.NewUser(name, email, email_key(email), name, key_of(name), "$2b$04$hash", "user", now())


async def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement in a transaction of its own, in a thread, and return its rows."""
    return await asyncio.to_thread(_run, url, statement)


def _run(url: str, statement: str) -> list[tuple[Any, ...]]:
    if is_postgres(url):
        with psycopg.connect(url, autocommit=True) as server:
            cursor = server.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
    with closing(sqlite3.connect(sqlite_path(url), isolation_level=None)) as file:
        return file.execute(statement).fetchall()


async def count(url: str, table: str, where: str = "1 = 1") -> int:
    """How many rows of the table there are."""
    return int((await sql(url, f"SELECT count(*) FROM {table} WHERE {where}"))[0][0])


async def outbox_is_empty(url: str) -> bool:
    """Whether all mail is sent."""
    return await count(url, "outbox") == 0


async def is_at_rest(url: str) -> bool:
    """Whether all mail is sent and all changes are told, so that nothing but requests changes the database."""
    return await outbox_is_empty(url) and await count(url, "announcements") == 0


async def everything(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables that requests write to."""
    return {table: sorted(await sql(url, f"SELECT * FROM {table}"), key=repr) for table in TABLES}


async def make_admin(url: str, user_id: str) -> None:
    """Give the role of an admin, as `createsuperuser` does."""
    await sql(url, f"UPDATE users SET role = 'admin' WHERE id = '{user_id}'")


async def expire(url: str, code: str) -> None:
    """Let the code's time have come a second ago."""
    await sql(
        url,
        "UPDATE codes SET created_at = created_at - 10 * (expires_at - created_at), expires_at = created_at - 1000 "
        f"WHERE code = '{code}'",
    )

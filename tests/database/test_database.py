"""The database: transactions and how they end, the schema's rules one by one, locks, durability and query plans.

What holds of every dialect runs on both; what is about SQLite's files and locks runs on SQLite.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import asyncpg
import psycopg
import pytest

from referral.database import Connection, ConstraintViolation, Database, DatabaseUnavailable, settle, sqlite, sqlite_path
from referral.database.opening import open_database
from referral.database.sqlite import SQLiteDatabase
from referral.database.sqlite_connections import Step
from referral.database.statements import Statement, load_statements
from referral.ids import new_id
from referral.queries import audit, codes, locks, one_time_tokens, outbox, sessions, users
from referral.texts import email_key, key_of
from tests.support.confined import full_disk
from tests.support.ledger_rows import LEDGER_RULES, LEDGER_WORLD, MANY_REWARDS
from tests.support.rows import sql, user

ROOT = Path(__file__).resolve().parent.parent.parent


async def names(database: Database) -> set[str]:
    """Which of the users that the tests make are there."""
    found = set()
    async with database.reader() as conn:
        for name in ("alice", "bob", "carol"):
            if await users.find_contact(conn, name):
                found.add(name)
    return found


async def insert(database: Database, *several: users.NewUser) -> None:
    """Make users in one transaction."""
    async with database.transaction() as conn:
        for one in several:
            await users.insert_user(conn, one)


# Transactions


async def test_a_transaction_that_ends_well_is_seen_by_readers(database: Database) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user("alice"))
        assert await names(database) == set()
    assert await names(database) == {"alice"}


async def test_an_exception_rolls_back_and_goes_on_up(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as conn:
            await users.insert_user(conn, user("alice"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await names(database) == set()


async def test_a_broken_rule_rolls_back_what_came_before_it(database: Database) -> None:
    with pytest.raises(ConstraintViolation):
        await insert(database, user("alice"), user("alice"))
    assert await names(database) == set()


async def make_two(database: Database, arrived: asyncio.Event | None = None) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user("alice"))
        if arrived:
            arrived.set()
            await asyncio.sleep(60)
        await users.insert_user(conn, user("bob"))


async def test_a_cancellation_between_statements_rolls_back(database: Database) -> None:
    arrived = asyncio.Event()
    task = asyncio.create_task(make_two(database, arrived))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(database) == set()


async def test_wherever_a_cancellation_strikes_all_or_nothing_is_kept_and_the_next_transaction_works(
    database: Database,
) -> None:
    outcomes = set()
    for steps in range(60):
        task = asyncio.create_task(make_two(database))
        for _ in range(steps):
            await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept = await names(database)
        assert kept in (set(), {"alice", "bob"})
        outcomes.add(len(kept))
        async with database.transaction() as conn:
            await users.insert_user(conn, user("carol"))
            conn._statements["empty"] = Statement("DELETE FROM users")  # type: ignore[attr-defined]
            await conn.run("empty")
    assert outcomes == {0, 2}, "the sweep covers cancellations before and after the commit"


async def test_settle_waits_for_the_end_however_often_it_is_cancelled() -> None:
    ended = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        ended.append(True)

    task = asyncio.create_task(settle(work()))
    for _ in range(3):
        await asyncio.sleep(0.005)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


async def test_settle_passes_results_and_failures_on() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    assert await settle(asyncio.sleep(0, "result")) == "result"
    with pytest.raises(ZeroDivisionError):
        await settle(fail())


# The schema's rules

# Statement, and the name of the rule it breaks; None where SQLite does not tell names (foreign keys).
ALICE = "id, email, email_key, username, username_key, password_hash, role, created_at) VALUES ("
CODE = "INSERT INTO codes (code, referrer_id, created_at, expires_at, max_uses, uses) VALUES "
KEYED = "INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at) VALUES "
REFERRAL = "INSERT INTO referrals (user_id, referrer_id, code, joined_at) VALUES "
MAIL = "INSERT INTO outbox (id, kind, user_id, recipient, language, params, created_at, next_attempt_at) VALUES "
KEY = "INSERT INTO signing_key (id, algorithm, fingerprint, previous, claimed_at) VALUES "
EVENT = "INSERT INTO audit_events (id, at, event, user_id, email, detail) VALUES "
TOKEN = "INSERT INTO one_time_tokens (token_hash, user_id, purpose, created_at, expires_at) VALUES "
SERVICE_KEY = "INSERT INTO service_keys (id, name, scope, key_hash, created_at) VALUES "
IDENTITY = "INSERT INTO identities (issuer, subject, user_id, created_at) VALUES "
REPORTED = "INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunds, attribution) VALUES "
CONTEXT = "INSERT INTO event_contexts (event_id, kind, user_id, key_id, hash) VALUES "
CLICK = "INSERT INTO clicks (id, code, clicked_at, robot) VALUES "
CLICK_KEY = "INSERT INTO click_keys (day, secret) VALUES "
VISITOR = "INSERT INTO click_visitors (day, code, hash) VALUES "
CLICK_DAY = "INSERT INTO click_days (code, day, referrer_id, clicks, visitors, qr, robots) VALUES "
ANNOUNCED = "INSERT INTO announcements (number, id, type, at, subject_id, data) VALUES "
CHANGE = "INSERT INTO changes (seq, id, type, at, subject_id, version, data) VALUES "
WEBHOOK = "INSERT INTO webhooks (id, url, types, status, secret, created_at, disabled_at, disabled_reason) VALUES "
DELIVERY = "INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at, delivered_at) VALUES "
FAILURE = "INSERT INTO delivery_failures (id, seq, webhook_id, at, error, milliseconds) VALUES "
STAT = "INSERT INTO stat_days (day, what, unit, count, billions, amount) VALUES "
REPLAY = "INSERT INTO replays (webhook_id, since, types, next_seq, last_seq) VALUES "
SIGNAL = "INSERT INTO signals (user_id, kind, reference, weight, at) VALUES "
REVIEW = "INSERT INTO reviews (user_id, status, opened_at, score, decided_at, decided_by_user, reason) VALUES "
# What has not the shape of a word; which words there are is the program's to say.
NO_WORDS = ("", "xy", "Signed-In", "signed in", "-signed", "x" * 41)
RULES: list[tuple[str, str | None]] = [
    (f"INSERT INTO users ({ALICE}'alice', 'x', 'x', 'x', 'x', 'x', 'user', 1)", "users_pkey"),
    (f"INSERT INTO users ({ALICE}'x', 'X', 'alice@example.com', 'x', 'x', 'x', 'user', 1)", "users_email_key"),
    (f"INSERT INTO users ({ALICE}'x', 'x', 'x', 'ALICE', 'alice', 'x', 'user', 1)", "users_username_key"),
    ("UPDATE users SET role = 'owner' WHERE id = 'alice'", "users_role"),
    ("UPDATE users SET referral_count = -1 WHERE id = 'alice'", "users_referral_count"),
    ("UPDATE users SET code_count = -1 WHERE id = 'alice'", "users_code_count"),
    ("UPDATE users SET username = NULL WHERE id = 'alice'", "users_username_pair"),
    ("UPDATE users SET username_key = NULL WHERE id = 'alice'", "users_username_pair"),
    ("UPDATE users SET erased_at = 1 WHERE id = 'alice'", "users_personal_data"),
    ("UPDATE users SET email = NULL WHERE id = 'alice'", "users_personal_data"),
    ("UPDATE users SET email_key = NULL WHERE id = 'alice'", "users_personal_data"),
    ("UPDATE users SET email_verified_at = 1 WHERE id = 'named'", "users_personal_data"),
    ("UPDATE users SET external_id = '42' WHERE id = 'alice'", "users_external_id"),
    ("UPDATE users SET name = 'Alice' WHERE id = 'alice'", "users_name_pair"),
    ("UPDATE users SET name_key = 'alice' WHERE id = 'alice'", "users_name_pair"),
    *(
        (f"UPDATE users SET {column} WHERE id = 'erased'", "users_product_data")
        for column in (
            "external_id = 'x'",
            "name = 'x', name_key = 'x'",
            "metadata = '{}'",
        )
    ),
    *(
        (f"UPDATE users SET {column} WHERE id = 'erased'", "users_personal_data")
        for column in (
            "email = 'x'",
            "email_key = 'x'",
            "password_hash = 'x'",
            "email_verified_at = 1",
            "username = 'x', username_key = 'x'",
        )
    ),
    ("UPDATE users SET suspended_at = 1 WHERE id = 'alice'", "users_suspension"),
    ("UPDATE users SET suspended_reason = 'x' WHERE id = 'alice'", "users_suspension"),
    ("UPDATE users SET suspended_at = 1, suspended_reason = 'x' WHERE id = 'erased'", "users_suspension"),
    (f"{CODE}('REVOKED1', 'carol', 1, 2, NULL, 0)", "codes_pkey"),
    ("UPDATE codes SET code_key = 'A11CES-1' WHERE code = 'REVOKED1'", "codes_code_key_folded"),
    ("UPDATE codes SET code_key = 'REVOKED1' WHERE code = 'REVOKED1'", "codes_code_key_folded"),
    (f"{KEYED}('BY-EMA1I', 'BY-EMA11', 'carol', 1, 2)", "codes_code_key_folded"),
    (f"{KEYED}('FO1DED-L', 'F01DED-1', 'carol', 1, 2)", "codes_code_key"),
    (f"{CODE}('ALICES-2', 'alice', 1, 2, NULL, 0)", "codes_one_unrevoked"),
    (f"{CODE}('lower', 'carol', 1, 2, NULL, 0)", "codes_text"),
    (f"{CODE}('ABC', 'carol', 1, 2, NULL, 0)", "codes_text"),
    (f"{CODE}('{33 * 'A'}', 'carol', 1, 2, NULL, 0)", "codes_text"),
    (f"{CODE}('CURRENT', 'carol', 1, 2, NULL, 0)", "codes_not_reserved"),
    (f"{CODE}('BY-EMAIL', 'carol', 1, 2, NULL, 0)", "codes_not_reserved"),
    (f"{CODE}('CAROL', 'carol', 2, 2, NULL, 0)", "codes_expiry"),
    (f"{CODE}('CAROL', 'carol', 1, 2, 0, 0)", "codes_max_uses"),
    (f"{CODE}('CAROL', 'carol', 1, 2, 1, 2)", "codes_uses"),
    (f"{CODE}('CAROL', 'carol', 1, 2, NULL, -1)", "codes_uses"),
    ("UPDATE codes SET uses = uses + 1 WHERE code = 'USED-UP'", "codes_uses"),
    (f"{CODE}('CAROL', 'nobody', 1, 2, NULL, 0)", None),
    (f"{REFERRAL}('bob', 'carol', 'ALICES-1', 1)", "referrals_pkey"),
    (f"{REFERRAL}('alice', 'alice', 'ALICES-1', 1)", "referrals_not_self"),
    (f"{REFERRAL}('nobody', 'alice', 'ALICES-1', 1)", None),
    (f"{REFERRAL}('carol', 'nobody', 'ALICES-1', 1)", None),
    (f"{REFERRAL}('carol', 'alice', 'NONE', 1)", None),
    ("DELETE FROM users WHERE id = 'alice'", None),
    ("INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('session', 'alice', 1, 2)", "sessions_pkey"),
    ("INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('x', 'nobody', 1, 2)", None),
    (
        "INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES ('token', 'session', 1)",
        "refresh_tokens_pkey",
    ),
    ("INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES ('x', 'none', 1)", None),
    ("INSERT INTO session_cookies VALUES ('cookie', 'cookies', 1)", "session_cookies_pkey"),
    ("INSERT INTO session_cookies VALUES ('x', 'session', 1)", "session_cookies_of_session"),
    ("INSERT INTO session_cookies VALUES ('x', 'none', 1)", None),
    ("INSERT INTO second_factors (user_id, secret, created_at) VALUES ('alice', 'x', 1)", "second_factors_pkey"),
    ("INSERT INTO second_factors (user_id, secret, created_at) VALUES ('nobody', 'x', 1)", None),
    ("INSERT INTO recovery_codes (user_id, code_hash) VALUES ('alice', 'recovery')", "recovery_codes_pkey"),
    ("INSERT INTO recovery_codes (user_id, code_hash) VALUES ('bob', 'x')", None),
    ("INSERT INTO former_addresses (address_hash, left_at) VALUES ('hash', 1)", "former_addresses_pkey"),
    ("INSERT INTO former_addresses (address_hash, user_id, left_at) VALUES ('x', 'nobody', 1)", None),
    (f"{TOKEN}('token', 'alice', 'verify-email', 1, 2)", "one_time_tokens_pkey"),
    *((f"{TOKEN}('x', 'alice', '{word}', 1, 2)", "one_time_tokens_purpose") for word in NO_WORDS),
    (f"{TOKEN}('x', 'nobody', 'verify-email', 1, 2)", None),
    (f"{MAIL}('mail', 'code', 'alice', 'x', 'en', '', 1, 1)", "outbox_pkey"),
    *((f"{MAIL}('x', '{word}', 'alice', 'x', 'en', '', 1, 1)", "outbox_kind") for word in NO_WORDS),
    (f"{MAIL}('x', 'code', NULL, 'x', 'en', '', 1, 1)", "outbox_user"),
    (f"{MAIL}('x', 'code', 'nobody', 'x', 'en', '', 1, 1)", None),
    ("INSERT INTO profiles (user_id, provider, profile, fetched_at) VALUES ('alice', 'x', '{}', 1)", "profiles_pkey"),
    ("INSERT INTO profiles (user_id, provider, profile, fetched_at) VALUES ('nobody', 'x', '{}', 1)", None),
    ("INSERT INTO profile_lookups (user_id, created_at, next_attempt_at) VALUES ('alice', 1, 1)", "profile_lookups_pkey"),
    ("INSERT INTO profile_lookups (user_id, created_at, next_attempt_at) VALUES ('nobody', 1, 1)", None),
    ("INSERT INTO cache_epoch (id, epoch) VALUES (2, 1)", "cache_epoch_one_row"),
    ("INSERT INTO cache_epoch (id, epoch) VALUES (1, 1)", "cache_epoch_pkey"),
    (f"{KEY}(1, 'EdDSA', '{64 * 'e'}', NULL, 1)", "signing_key_pkey"),
    (f"{KEY}(2, 'EdDSA', '{64 * 'e'}', NULL, 1)", "signing_key_one_row"),
    (f"{KEY}(1, 'EdDSA', 'short', NULL, 1)", "signing_key_fingerprints"),
    (f"{KEY}(1, 'EdDSA', '{64 * 'e'}', 'short', 1)", "signing_key_fingerprints"),
    (f"{SERVICE_KEY}('key', 'x', 'read', '{64 * 'f'}', 1)", "service_keys_pkey"),
    (f"{SERVICE_KEY}('x', 'x', 'read', '{64 * 'e'}', 1)", "service_keys_key_hash"),
    (f"{SERVICE_KEY}('x', 'x', 'read', 'short', 1)", "service_keys_hash"),
    *(
        (f"{SERVICE_KEY}('x', 'x', '{word}', '{64 * 'f'}', 1)", "service_keys_scope")
        for word in NO_WORDS
        if word != "-signed"
    ),
    (f"{IDENTITY}('https://a.example.com', 'one', 'bob', 1)", "identities_pkey"),
    (f"{IDENTITY}('https://a.example.com', 'two', 'nobody', 1)", None),
    (f"{REPORTED}('bought', 'seen', 'alice', 1, 1, NULL, NULL, NULL, 'none')", "events_pkey"),
    (f"{REPORTED}('x', 'seen', 'nobody', 1, 1, NULL, NULL, NULL, 'none')", None),
    (f"{REPORTED}('x', 'refund', 'alice', 1, 1, 'USD', 1, 'nothing', 'none')", None),
    *((f"{REPORTED}('x', '{word}', 'alice', 1, 1, NULL, NULL, NULL, 'none')", "events_type") for word in ("", "A", "a b")),
    (f"{REPORTED}('x', 'seen', 'alice', 1, 1, NULL, NULL, NULL, 'No')", "events_attribution"),
    (f"{REPORTED}('x', 'seen', 'alice', 1, 1, 'USD', NULL, NULL, 'none')", "events_value"),
    (f"{REPORTED}('x', 'seen', 'alice', 1, 1, NULL, 1, NULL, 'none')", "events_value"),
    (f"{REPORTED}('x', 'seen', 'alice', 1, 1, 'USD', -1, NULL, 'none')", "events_value"),
    (f"{REPORTED}('x', 'refund', 'alice', 1, 1, 'USD', 1, NULL, 'none')", "events_refunds"),
    (f"{REPORTED}('x', 'seen', 'alice', 1, 1, 'USD', 1, 'bought', 'none')", "events_refunds"),
    (f"{REPORTED}('x', 'refund', 'alice', 1, 1, NULL, NULL, 'bought', 'none')", "events_refunds"),
    ("UPDATE events SET refunded = 101 WHERE id = 'bought'", "events_refunded"),
    ("UPDATE events SET refunded = -1 WHERE id = 'bought'", "events_refunded"),
    ("INSERT INTO context_keys (id, secret, created_at) VALUES ('key', 'x', 1)", "context_keys_pkey"),
    (f"{CONTEXT}('bought', 'ip', 'alice', 'key', '{64 * 'e'}')", "event_contexts_pkey"),
    (f"{CONTEXT}('bought', 'device', 'alice', 'key', 'short')", "event_contexts_hash"),
    (f"{CLICK}('clicked', 'ALICES-1', 1, 0)", "clicks_pkey"),
    (f"{CLICK}('x', 'NOBODYS', 1, 0)", None),
    (f"{CLICK}('x', 'ALICES-1', 1, 2)", "clicks_robot"),
    (f"{CLICK_KEY}(0, '{64 * 'e'}')", "click_keys_pkey"),
    (f"{CLICK_KEY}(1, '{64 * 'e'}')", "click_keys_day"),
    (f"{CLICK_KEY}(86400000, 'short')", "click_keys_secret"),
    (f"{VISITOR}(0, 'ALICES-1', '{32 * 'e'}')", "click_visitors_pkey"),
    (f"{VISITOR}(0, 'ALICES-1', 'short')", "click_visitors_hash"),
    (f"{CLICK_DAY}('ALICES-1', 0, 'alice', 1, 1, 1, 1)", "click_days_pkey"),
    (f"{CLICK_DAY}('NOBODYS', 0, 'alice', 1, 1, 1, 1)", None),
    (f"{CLICK_DAY}('ALICES-1', 1, 'alice', 1, 1, 1, 1)", "click_days_day"),
    ("UPDATE click_days SET visitors = 4", "click_days_counts"),
    ("UPDATE click_days SET qr = 4", "click_days_counts"),
    ("UPDATE click_days SET clicks = 0", "click_days_counts"),
    ("UPDATE click_days SET robots = -1", "click_days_counts"),
    (f"{CONTEXT}('nothing', 'ip', 'alice', 'key', '{64 * 'e'}')", None),
    (f"{CONTEXT}('bought', 'device', 'nobody', 'key', '{64 * 'e'}')", None),
    (f"{CONTEXT}('bought', 'device', 'alice', 'none', '{64 * 'e'}')", None),
    (f"{EVENT}('event', 1, 'signed-in', 'alice', NULL, '{{}}')", "audit_events_pkey"),
    *((f"{EVENT}('x', 1, '{word}', 'alice', NULL, '{{}}')", "audit_events_event") for word in NO_WORDS),
    (f"{EVENT}('x', 1, 'signed-in', 'alice', 'x', '{{}}')", "audit_events_email"),
    (f"{ANNOUNCED}(1, 'x', 'user.created', 1, 'alice', '{{}}')", "announcements_pkey"),
    ("INSERT INTO feed (id, last_seq, gone_seq) VALUES (1, 0, 0)", "feed_pkey"),
    ("INSERT INTO feed (id, last_seq, gone_seq) VALUES (2, 0, 0)", "feed_one_row"),
    ("UPDATE feed SET gone_seq = 2", "feed_order"),
    ("UPDATE feed SET gone_seq = -1", "feed_order"),
    ("UPDATE feed SET last_seq = -1", "feed_order"),
    ("INSERT INTO change_subjects (subject_id, version) VALUES ('alice', 1)", "change_subjects_pkey"),
    (f"{CHANGE}(1, 'x', 'user.created', 1, 'alice', 2, '{{}}')", "changes_pkey"),
    (f"{CHANGE}(2, 'told', 'user.created', 1, 'alice', 2, '{{}}')", "changes_id"),
    (f"{CHANGE}(2, 'x', 'user.created', 1, 'alice', 1, '{{}}')", "changes_version_once"),
    (f"{CHANGE}(2, 'x', 'user.created', 1, 'alice', 0, '{{}}')", "changes_version"),
    *(
        (f"{CHANGE}(2, 'x', '{word}', 1, 'alice', 2, '{{}}')", "changes_type")
        for word in ("", "xy", "User.created", "x" * 41)
    ),
    ("INSERT INTO code_expiries (id, expires_at, code) VALUES (1, 1, '')", "code_expiries_pkey"),
    ("INSERT INTO code_expiries (id, expires_at, code) VALUES (2, 1, '')", "code_expiries_one_row"),
    ("INSERT INTO referrers_lock (id) VALUES (1)", "referrers_lock_pkey"),
    ("INSERT INTO referrers_lock (id) VALUES (2)", "referrers_lock_one_row"),
    (f"{WEBHOOK}('hook', 'x', '[]', 'enabled', 'x', 1, NULL, NULL)", "webhooks_pkey"),
    *((f"{WEBHOOK}('x', 'x', '[]', '{word}', 'x', 1, 1, 'x')", "webhooks_status") for word in ("", "xy", "On", "x" * 21)),
    (f"{WEBHOOK}('x', 'x', '[]', 'enabled', 'x', 1, 1, 'x')", "webhooks_disabled"),
    (f"{WEBHOOK}('x', 'x', '[]', 'disabled', 'x', 1, NULL, NULL)", "webhooks_disabled"),
    (f"{WEBHOOK}('x', 'x', '[]', 'disabled', 'x', 1, 1, NULL)", "webhooks_disabled"),
    ("UPDATE webhooks SET previous_secret = 'x'", "webhooks_previous"),
    ("UPDATE webhooks SET previous_until = 1", "webhooks_previous"),
    (f"{DELIVERY}(1, 'hook', 'waiting', 0, NULL)", "deliveries_pkey"),
    (f"{DELIVERY}(2, 'hook', 'waiting', 0, NULL)", None),
    (f"{DELIVERY}(1, 'none', 'waiting', 0, NULL)", None),
    *((f"{DELIVERY}(1, 'other', '{word}', NULL, NULL)", "deliveries_status") for word in ("", "xy", "Failed", "x" * 21)),
    (f"{DELIVERY}(1, 'other', 'waiting', NULL, NULL)", "deliveries_waiting"),
    (f"{DELIVERY}(1, 'other', 'failed', 0, NULL)", "deliveries_waiting"),
    (f"{DELIVERY}(1, 'other', 'delivered', NULL, NULL)", "deliveries_delivered"),
    (f"{DELIVERY}(1, 'other', 'failed', NULL, 1)", "deliveries_delivered"),
    ("UPDATE deliveries SET attempts = -1", "deliveries_attempts"),
    ("UPDATE deliveries SET status = 'failed', next_attempt_at = NULL, leased_until = 1", "deliveries_leased"),
    (f"{FAILURE}('f', 1, 'hook', 1, 'x', 5)", "delivery_failures_pkey"),
    (f"{FAILURE}('g', 1, 'hook', 1, 'x', -1)", "delivery_failures_milliseconds"),
    (f"{FAILURE}('g', 1, 'other', 1, 'x', 5)", None),
    (f"{REPLAY}('hook', 1, '[]', 0, 1)", "replays_pkey"),
    (f"{REPLAY}('none', 1, '[]', 0, 1)", None),
    (f"{REPLAY}('other', 1, '[]', 2, 1)", "replays_order"),
    (f"{REPLAY}('other', 1, '[]', -1, 1)", "replays_order"),
    (f"{SIGNAL}('bob', 'burst', '', 1, 1)", "signals_pkey"),
    (f"{SIGNAL}('alice', 'burst', '', 1, 1)", None),
    *((f"{SIGNAL}('bob', '{word}', 'x', 1, 1)", "signals_kind") for word in ("", "xy", "Burst", "x" * 41)),
    (f"{SIGNAL}('bob', 'burst', 'x', 1001, 1)", "signals_weight"),
    (f"{SIGNAL}('bob', 'burst', 'x', -1, 1)", "signals_weight"),
    ("UPDATE signals SET judged = 2", "signals_judged"),
    (f"{REVIEW}('bob', 'open', 1, 1, NULL, NULL, NULL)", "reviews_pkey"),
    (f"{REVIEW}('carol', 'open', 1, 1, NULL, NULL, NULL)", None),
    (f"{REVIEW}('dave', 'cleared', 1, 1, 1, 'nobody', NULL)", None),
    *(
        (f"UPDATE reviews SET {change}", rule)
        for change, rule in (
            ("status = ''", "reviews_status"),
            ("score = -1", "reviews_score"),
            ("status = 'open'", "reviews_decided"),
            ("decided_at = NULL, decided_by_user = NULL, reason = NULL", "reviews_decided"),
            ("decided_by_user = NULL", "reviews_decider"),
            ("decided_by_key = 'shop'", "reviews_decider"),
            ("status = 'open', decided_at = NULL, decided_by_user = NULL", "reviews_decider"),
            ("suspends = 2", "reviews_suspends"),
            (
                "suspends = 1, status = 'open', decided_at = NULL, decided_by_user = NULL, reason = NULL",
                "reviews_suspends",
            ),
        )
    ),
    ("INSERT INTO blocks (kind, value, created_at) VALUES ('email', 'x@example.com', 1)", "blocks_pkey"),
    ("INSERT INTO blocks (kind, value, created_at) VALUES ('E mail', 'x', 1)", "blocks_kind"),
    ("INSERT INTO stat_deltas (number, day, what, unit, count, amount) VALUES (0, 0, '', '', 0, 0)", "stat_deltas_pkey"),
    (f"{STAT}(0, 'x', '', 1, 0, 1)", "stat_days_pkey"),
    (f"{STAT}(1, 'x', '', 1, 0, 1)", "stat_days_day"),
    ("INSERT INTO stat_state (id, filled) VALUES (1, 1)", "stat_state_pkey"),
    ("INSERT INTO stat_state (id, filled) VALUES (2, 1)", "stat_state_one_row"),
    ("UPDATE stat_state SET filled = 2", "stat_state_filled"),
    *LEDGER_RULES,
]

# Where every rule above can be broken by one statement.
WORLD = [
    *(
        f"INSERT INTO users ({ALICE}'{name}', '{name}', '{name}@example.com', '{name}', '{name}', 'x', 'user', 1)"
        for name in ("alice", "bob", "carol")
    ),
    "INSERT INTO users (id, role, created_at, erased_at) VALUES ('erased', 'user', 1, 2)",
    "INSERT INTO users (id, role, created_at, external_id) VALUES ('named', 'user', 1, '42')",
    f"{CODE}('REVOKED1', 'alice', 1, 2, NULL, 0)",
    "UPDATE codes SET revoked_at = 1 WHERE code = 'REVOKED1'",
    f"{CODE}('ALICES-1', 'alice', 1, 2, NULL, 1)",
    f"{KEYED}('FOLDED-I', 'F01DED-1', 'erased', 1, 2)",
    f"{CODE}('USED-UP', 'bob', 1, 2, 1, 1)",
    f"{REFERRAL}('bob', 'alice', 'ALICES-1', 1)",
    "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('session', 'alice', 1, 2)",
    "INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES ('token', 'session', 1)",
    "INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('cookies', 'bob', 1, 2)",
    "INSERT INTO session_cookies VALUES ('cookie', 'session', 1)",
    "INSERT INTO second_factors (user_id, secret, created_at) VALUES ('alice', 'x', 1)",
    "INSERT INTO recovery_codes (user_id, code_hash) VALUES ('alice', 'recovery')",
    "INSERT INTO former_addresses (address_hash, left_at) VALUES ('hash', 1)",
    f"{TOKEN}('token', 'alice', 'verify-email', 1, 2)",
    f"{MAIL}('mail', 'code', 'alice', 'x', 'en', '', 1, 1)",
    "INSERT INTO profiles (user_id, provider, profile, fetched_at) VALUES ('alice', 'x', '{}', 1)",
    "INSERT INTO profile_lookups (user_id, created_at, next_attempt_at) VALUES ('alice', 1, 1)",
    f"{EVENT}('event', 1, 'signed-in', 'alice', NULL, '{{}}')",
    f"{KEY}(1, 'HS256', '{64 * 'f'}', NULL, 1)",
    f"{SERVICE_KEY}('key', 'shop', 'write', '{64 * 'e'}', 1)",
    f"{IDENTITY}('https://a.example.com', 'one', 'alice', 1)",
    f"{REPORTED}('bought', 'purchase', 'alice', 1, 1, 'USD', 100, NULL, 'none')",
    "INSERT INTO context_keys (id, secret, created_at) VALUES ('key', 'x', 1)",
    f"{CONTEXT}('bought', 'ip', 'alice', 'key', '{64 * 'e'}')",
    f"{REPORTED}('seen', 'seen', 'bob', 1, 1, NULL, NULL, NULL, 'none')",
    f"{CLICK}('clicked', 'ALICES-1', 1, 0)",
    f"{CLICK_KEY}(0, '{64 * 'e'}')",
    f"{VISITOR}(0, 'ALICES-1', '{32 * 'e'}')",
    f"{CLICK_DAY}('ALICES-1', 0, 'alice', 3, 3, 3, 1)",
    f"{ANNOUNCED}(1, 'announced', 'user.suspended', 1, 'alice', '{{}}')",
    f"{CHANGE}(1, 'told', 'user.created', 1, 'alice', 1, '{{}}')",
    "INSERT INTO change_subjects (subject_id, version) VALUES ('alice', 1)",
    "UPDATE feed SET last_seq = 1",
    f"{WEBHOOK}('hook', 'x', '[]', 'enabled', 'x', 1, NULL, NULL)",
    f"{WEBHOOK}('other', 'x', '[]', 'enabled', 'x', 1, NULL, NULL)",
    f"{DELIVERY}(1, 'hook', 'waiting', 0, NULL)",
    f"{FAILURE}('f', 1, 'hook', 1, 'x', 5)",
    f"{REPLAY}('hook', 1, '[]', 0, 1)",
    f"{SIGNAL}('bob', 'burst', '', 40, 1)",
    f"{REVIEW}('bob', 'cleared', 1, 40, 2, 'carol', 'A family')",
    "INSERT INTO blocks (kind, value, created_at) VALUES ('email', 'x@example.com', 1)",
    f"{STAT}(0, 'x', '', 1, 0, 1)",
    "INSERT INTO stat_deltas (number, day, what, unit, count, amount) VALUES (0, 0, '', '', 0, 0)",
    *LEDGER_WORLD,
]


async def execute(database: Database, *statements: str) -> list[tuple[object, ...]]:
    """Run statements that are not in `sql/` in one transaction and return the last one's rows."""
    async with database.transaction() as conn:
        for sql in statements:
            conn._statements["of a test"] = Statement(sql)  # type: ignore[attr-defined]
            rows = await conn.rows("of a test", {})  # type: ignore[attr-defined]
    return list(rows)


async def test_each_rule_of_the_schema_is_kept_and_named_alike_on_every_dialect(database: Database) -> None:
    await execute(database, *WORLD)
    for statement, rule in RULES:
        with pytest.raises(ConstraintViolation) as broken:
            await execute(database, statement)
        if rule is not None:
            assert broken.value.constraint == rule, statement


def test_no_rule_of_the_schema_is_left_out_above(migrated_database: Path) -> None:
    with closing(sqlite3.connect(migrated_database)) as connection:
        definitions = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name NOT LIKE '%yoyo%'"
        schema = "\n".join(text for (text,) in connection.execute(definitions))
    named = set(re.findall(r"CONSTRAINT (\w+)", schema)) | set(re.findall(r"CREATE UNIQUE INDEX (\w+)", schema))
    keyed = {f"{table}_pkey" for table in re.findall(r"CREATE TABLE (\w+)", schema)}
    tried = {rule for _, rule in RULES}
    assert tried - {None} == named | keyed
    # One insert for each foreign key.
    assert len([sql for sql, rule in RULES if rule is None and sql.startswith("INSERT")]) == schema.count("REFERENCES")


async def test_transfers_are_neither_changed_nor_deleted(database: Database, database_url: str) -> None:
    await execute(database, *WORLD)
    for change in ("UPDATE transfers SET amount = 6", "DELETE FROM transfers"):
        with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="transfers are immutable"):
            await sql(database_url, change)
    assert await sql(database_url, "SELECT amount FROM transfers") == [(5,)]


async def test_a_snapshot_sees_one_moment_whatever_is_committed_meanwhile(database: Database) -> None:
    await insert(database, user("alice"))
    async with database.snapshot() as conn:
        assert await users.find_contact(conn, "alice")
        await insert(database, user("bob"))
        assert await users.find_contact(conn, "bob") is None
        assert await names(database) == {"alice", "bob"}
    async with database.snapshot() as conn:
        assert await users.find_contact(conn, "bob")


async def test_e_mail_and_username_are_unique_without_case(database: Database) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user("straße"))
    for other in (
        replace(user("carol"), email_key=email_key("Straße@EXAMPLE.COM")),
        replace(user("carol"), username_key=key_of("Straße")),
        replace(user("carol"), username_key=key_of("\U0001d412traße")),
    ):
        with pytest.raises(ConstraintViolation) as broken:
            await insert(database, other)
        assert broken.value.constraint == ("users_username_key" if "carol" in other.email_key else "users_email_key")


async def test_the_end_of_a_session_takes_its_refresh_tokens_along(database: Database) -> None:
    await execute(database, *WORLD)
    async with database.transaction() as conn:
        await sessions.delete_session(conn, "session")
        assert await sessions.find_session_of_refresh_token(conn, "token") is None


async def test_a_code_text_taken_by_anybody_is_refused_without_an_error(database: Database) -> None:
    await execute(database, *WORLD)
    async with database.transaction() as conn:
        for text in ("FOLDED-I", "FOLDED-1", "F0LDED-L"):
            assert await codes.insert_code(conn, text, "carol", 1, 2, None) is None
        assert await codes.insert_code(conn, "CAROLS-1", "carol", 1, 2, None) is not None


async def test_a_text_stands_for_its_own_code_before_one_that_folds_alike(database: Database) -> None:
    # As an upgrade leaves them: of two that fold alike, one has no key.
    await execute(
        database,
        *WORLD,
        "UPDATE codes SET revoked_at = 1 WHERE referrer_id = 'bob'",
        f"{KEYED}('PROM0', 'PR0M0', 'bob', 1, 2)",
        "UPDATE codes SET revoked_at = 1 WHERE code = 'PROM0'",
        f"{KEYED}('PROMO', NULL, 'carol', 1, 9)",
    )
    async with database.transaction() as conn:
        for text, found in (("PROMO", "PROMO"), ("PROM0", "PROM0"), ("PR0MO", "PROM0"), ("PR0M0", "PROM0")):
            code = await codes.find_code(conn, text)
            assert code is not None
            assert code.code == found
            active = await codes.find_active_code(conn, text, 3, limited=False)
            assert (active.code if active else None) == ("PROMO" if found == "PROMO" else None)
            used = await codes.use_code(conn, text, 3)
            assert (used.code if used else None) == ("PROMO" if found == "PROMO" else None)
            edited = await codes.update_code(conn, text, "carol", codes.CodeChange(9, False, None))
            assert (edited.code if edited else None) == ("PROMO" if found == "PROMO" else None)
            assert await users.increment_referral_count(conn, text)
        ended = await codes.revoke_code(conn, "PROMO", "carol", 5)
        assert ended is not None
        assert (ended.code, ended.revoked_at, ended.uses) == ("PROMO", 5, 1)
    counts = await execute(database, "SELECT id, referral_count FROM users WHERE referral_count > 0 ORDER BY id")
    assert list(map(tuple, counts)) == [("bob", 3), ("carol", 1)]


async def test_the_total_of_codes_costs_the_same_however_many_there_are(file: Path) -> None:
    statements = load_statements("sqlite")
    parameters = {"referrer_id": "alice", "before_time": 2**62, "before_code": "~", "page_size": 51}
    with closing(sqlite3.connect(file)) as connection:
        for statement in WORLD:
            connection.execute(statement)

        def steps(name: str) -> int:
            """How many instructions SQLite's machine takes for the statement."""
            taken = 0

            def count() -> int:
                nonlocal taken
                taken += 1
                return 0

            connection.set_progress_handler(count, 1)
            connection.execute(statements[name].sql, parameters).fetchall()
            connection.set_progress_handler(None, 0)
            return taken

        made = (
            "INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at, revoked_at)"
            " VALUES (:text, :text, 'alice', :number, 9999999, 9)"
        )
        rows = [{"text": f"F{number:05}", "number": number} for number in range(10_000)]
        connection.executemany(made, rows[:100])
        few = {name: steps(name) for name in ("find_code_count", "list_codes")}
        connection.executemany(made, rows[100:])
        assert {name: steps(name) for name in few} == few
        # Counting would be seen.
        statements["find_code_count"] = Statement("SELECT count(*) FROM codes WHERE referrer_id = :referrer_id")
        assert steps("find_code_count") > 10_000


async def test_a_wrong_statement_looks_like_the_bug_it_is(database: Database) -> None:
    for statement in ("SELECT nonsense FROM users", "SELECT 1 FROM nowhere", "SELEC 1"):
        with pytest.raises((sqlite3.OperationalError, asyncpg.SyntaxOrAccessError)):
            await execute(database, statement)


# SQLite's files and locks


@pytest.fixture
def file(tmp_path: Path, migrated_database: Path) -> Path:
    path = tmp_path / "of this test.db"
    shutil.copy(migrated_database, path)
    return path


@pytest.fixture
async def lite(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLiteDatabase]:
    """A SQLite database that waits for another process for a tenth of a second."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 100)
    database = await SQLiteDatabase.open(file)
    yield database
    await database.close()


@contextmanager
def held_up(database: SQLiteDatabase) -> Iterator[None]:
    """The writer's thread is busy for the time of the block: what is sent to it waits."""
    go_on = threading.Event()
    database._writer.raw._tx.put_nowait((None, go_on.wait))
    try:
        yield
    finally:
        go_on.set()


async def cancelled_while_held_up(task: asyncio.Task[None], database: SQLiteDatabase, times: int = 1) -> None:
    """Cancel a task that waits for the writer's thread; it has to see that to its end before it gives in."""
    for _ in range(times):
        await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_during_begin_leaves_no_transaction_open(lite: SQLiteDatabase, times: int) -> None:
    with held_up(lite):
        task = asyncio.create_task(make_two(lite))
        await cancelled_while_held_up(task, lite, times)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lite._writer.raw.in_transaction
    await make_two(lite)
    assert await names(lite) == {"alice", "bob"}


async def test_a_cancelled_statement_that_still_runs_is_rolled_back(lite: SQLiteDatabase) -> None:
    inserted, go_on = asyncio.Event(), asyncio.Event()

    async def insert() -> None:
        async with lite.transaction() as conn:
            await users.insert_user(conn, user("alice"))
            inserted.set()
            await go_on.wait()
            await users.insert_user(conn, user("bob"))

    task = asyncio.create_task(insert())
    await inserted.wait()
    with held_up(lite):
        go_on.set()
        await cancelled_while_held_up(task, lite)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lite._writer.raw.in_transaction
    assert await names(lite) == set()


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_during_commit_waits_for_it(lite: SQLiteDatabase, times: int) -> None:
    leaving = asyncio.Event()

    async def insert() -> None:
        async with lite.transaction() as conn:
            await users.insert_user(conn, user("alice"))
            await leaving.wait()

    task = asyncio.create_task(insert())
    while not lite._writer.raw.in_transaction:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    with held_up(lite):
        leaving.set()
        await cancelled_while_held_up(task, lite, times)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(lite) == {"alice"}


async def test_a_cancellation_during_rollback_waits_for_it(lite: SQLiteDatabase) -> None:
    failing = asyncio.Event()

    async def insert() -> None:
        async with lite.transaction() as conn:
            await users.insert_user(conn, user("alice"))
            await failing.wait()
            raise ZeroDivisionError

    task = asyncio.create_task(insert())
    await asyncio.sleep(0.02)
    with held_up(lite):
        failing.set()
        await cancelled_while_held_up(task, lite)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    await make_two(lite)
    assert await names(lite) == {"alice", "bob"}


async def test_while_another_process_writes_writers_are_told_and_readers_go_on(lite: SQLiteDatabase, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(make_two(lite), make_two(lite), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable, DatabaseUnavailable]
    assert await names(lite) == set()
    other.execute("COMMIT")
    other.close()
    await make_two(lite)
    assert await names(lite) == {"alice", "bob"}


async def test_nobody_waits_behind_a_writer_that_is_stuck_longer_than_for_another_process(lite: SQLiteDatabase) -> None:
    with held_up(lite):
        stuck = asyncio.create_task(make_two(lite))
        await asyncio.sleep(0)
        with pytest.raises(DatabaseUnavailable, match="wait to write"):
            await make_two(lite)
    await stuck
    assert await names(lite) == {"alice", "bob"}


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_transactions_run_one_at_a_time_and_what_was_told_is_kept(
    lite: SQLiteDatabase, seed: int
) -> None:
    # A tenth of a second of patience; transactions that fail, break a rule, do nothing or dawdle; cancellations anywhere.
    chance, inside = random.Random(seed), 0
    rest: list[asyncio.Task[str]] = []

    async def work(name: str) -> str:
        nonlocal inside
        kind = chance.choice(("insert", "insert", "insert", "idle", "fail", "break a rule", "defer", "dawdle"))
        async with lite.transaction() as conn:
            inside += 1
            try:
                assert inside == 1
                if kind != "idle":
                    await users.insert_user(conn, user(name))
                if kind == "fail":
                    raise ZeroDivisionError
                if kind == "break a rule":
                    await users.insert_user(conn, user(name))
                if kind == "defer":
                    await be_recorded(conn, name)
                if kind == "dawdle":
                    await asyncio.sleep(chance.choice((0, 0.01, 0.05)))
                assert inside == 1
            finally:
                inside -= 1
        return kind

    for number in range(150):
        rest.append(asyncio.create_task(work(f"person{number}")))
        if chance.random() < 0.3:
            chance.choice(rest).cancel()
        await asyncio.sleep(chance.choice((0, 0, 0, 0.002)))
    outcomes = await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), 30)
    expected = {str, asyncio.CancelledError, ZeroDivisionError, ConstraintViolation, DatabaseUnavailable}
    assert {type(outcome) for outcome in outcomes} <= expected
    assert sum(isinstance(outcome, str) for outcome in outcomes) > 3
    assert not lite._writer.raw.in_transaction
    recorded = await events(lite)
    async with lite.reader() as conn:
        for number, outcome in enumerate(outcomes):
            found = await users.find_contact(conn, f"person{number}") is not None
            if isinstance(outcome, str):
                assert found == (outcome != "idle"), (number, outcome)
                assert (f"person{number}" in recorded) == (outcome == "defer")
            elif not isinstance(outcome, asyncio.CancelledError):
                assert not found, (number, outcome)
    await insert(lite, user("afterwards"))


async def test_readers_cannot_write(lite: SQLiteDatabase) -> None:
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        async with lite.reader() as conn:
            await users.insert_user(conn, user("alice"))


async def insert_and_fill(database: SQLiteDatabase, name: str, fill: Callable[[], None]) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user(name))
        fill()


async def test_a_full_disk_at_commit_is_reported_and_leaves_nothing_behind(lite: SQLiteDatabase, file: Path) -> None:
    await insert(lite, user("carol"))
    with full_disk(file) as fill, pytest.raises(DatabaseUnavailable):
        await insert_and_fill(lite, "alice", fill)
    assert await names(lite) == {"carol"}
    await make_two(lite)
    assert await names(lite) == {"alice", "bob", "carol"}


async def test_a_statement_that_finds_the_database_full_is_reported(lite: SQLiteDatabase) -> None:
    [(pages,)] = await lite._writer.raw.execute_fetchall("PRAGMA page_count")
    await lite._writer.raw.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseUnavailable, match="full"):
        await insert(lite, *(user(f"{number}{'x' * 500}") for number in range(200)))
    await lite._writer.raw.execute_fetchall("PRAGMA max_page_count = 1000000")
    await make_two(lite)
    assert await names(lite) == {"alice", "bob"}


@pytest.mark.parametrize("goes_on", [True, False])
async def test_what_follows_an_undone_transaction_is_refused(lite: SQLiteDatabase, goes_on: bool) -> None:
    async def work() -> None:
        async with lite.transaction() as conn:
            await users.insert_user(conn, user("alice"))
            # As SQLite does when the disk is full, behind a caller who takes no notice.
            await lite._writer.raw.rollback()
            if goes_on:
                await users.insert_user(conn, user("bob"))

    with pytest.raises(DatabaseUnavailable, match="the transaction was undone"):
        await work()
    assert await names(lite) == set()


async def test_a_transaction_in_which_nothing_is_done_is_none(lite: SQLiteDatabase) -> None:
    async with lite.transaction():
        pass
    assert not lite._writer.raw.in_transaction
    async with lite.transaction() as conn:
        await users.insert_user(conn, user("alice"))
    assert await names(lite) == {"alice"}


async def test_what_is_to_be_done_later_is_done_by_the_commit_and_undone_with_the_rest(
    lite: SQLiteDatabase,
) -> None:
    event = audit.Event(new_id(), 1, "registered", None, None, None, None, None, "{}")

    async def fail() -> None:
        async with lite.transaction() as conn:
            await audit.insert_event(conn, replace(event, id=new_id()))
            raise ZeroDivisionError

    async with lite.transaction() as conn:
        await audit.insert_event(conn, event)
    with pytest.raises(ZeroDivisionError):
        await fail()
    async with lite.reader() as conn:
        assert [found.id for found in await audit.find_events(conn, None, 0, 10)] == [event.id]


@pytest.fixture
def patient(lite: SQLiteDatabase, monkeypatch: pytest.MonkeyPatch) -> SQLiteDatabase:
    """One whose writers wait for their turn however slow the machine is."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 60_000)
    return lite


@pytest.fixture
async def commits(patient: SQLiteDatabase) -> list[str]:
    """The commits that the writer makes."""
    seen: list[str] = []
    await patient._writer.raw.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


async def test_transactions_that_wait_for_their_turn_are_committed_as_one(
    patient: SQLiteDatabase, commits: list[str]
) -> None:
    people = [user(f"person{number}") for number in range(20)]

    async def join(person: users.NewUser) -> None:
        async with patient.transaction() as conn:
            await users.insert_user(conn, person)
            assert commits == []
        # None of them is over before what it did is durable.
        assert commits == ["COMMIT"]

    await asyncio.gather(*map(join, people))
    async with patient.reader() as conn:
        assert [await users.find_contact(conn, person.id) is not None for person in people] == [True] * 20
    assert not patient._writer.raw.in_transaction


async def fail_after_inserting(database: SQLiteDatabase, name: str) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user(name))
        raise ZeroDivisionError


async def join_and_be_recorded(database: SQLiteDatabase, name: str, event_id: str) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user(name))
        await be_recorded(conn, event_id)


@pytest.mark.parametrize("fails_first", [True, False])
async def test_one_that_fails_leaves_those_committed_with_it_alone(
    patient: SQLiteDatabase, commits: list[str], fails_first: bool
) -> None:
    work = [
        join_and_be_recorded(patient, "alice", "first"),
        join_and_be_recorded(patient, "bob", "second"),
        join_and_be_recorded(patient, "alice", "third"),
        insert(patient, user("carol")),
    ]
    work.insert(0 if fails_first else 2, fail_after_inserting(patient, "mallory"))
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers if answer) == ["ConstraintViolation", "ZeroDivisionError"]
    assert len(commits) == 1
    assert await names(patient) == {"alice", "bob", "carol"}
    assert await events(patient) == {"first", "second"}


async def be_recorded(conn: Connection, event_id: str) -> None:
    await audit.insert_event(conn, audit.Event(event_id, 1, "registered", None, None, None, None, None, "{}"))


async def be_recorded_only(database: SQLiteDatabase, event_id: str) -> None:
    async with database.transaction() as conn:
        await be_recorded(conn, event_id)


async def events(database: SQLiteDatabase) -> set[str]:
    async with database.reader() as conn:
        return {found.id for found in await audit.find_events(conn, None, 0, 1_000)}


# None of `sql/` breaks a rule when it is deferred, and yet it must be told to nobody else if one does.
BREAKING: list[tuple[str, str | None]] = [
    ("INSERT INTO cache_epoch (id, epoch) VALUES (1, 1)", "cache_epoch_pkey"),
    ("INSERT INTO cache_epoch (id, epoch) VALUES (2, 1)", "cache_epoch_one_row"),
    # No statement of SQLite's at all: text that no encoding can hold.
    ("DELETE FROM users WHERE id = '\ud800'", None),
]


async def insert_and_defer(database: Database, name: str, sql: str) -> None:
    async with database.transaction() as conn:
        await users.insert_user(conn, user(name))
        conn._statements["breaking"] = Statement(sql)  # type: ignore[attr-defined]
        conn.defer("breaking")


def is_broken_by_the_deferred_statement(answer: object, rule: str | None) -> bool:
    if rule is None:
        return isinstance(answer, UnicodeEncodeError)
    return isinstance(answer, ConstraintViolation) and (answer.constraint, answer.statement) == (rule, "breaking")


@pytest.mark.parametrize(("sql", "rule"), BREAKING)
@pytest.mark.parametrize("position", [0, 1, 3])
async def test_when_a_deferred_statement_fails_its_own_transaction_has_and_no_other(
    patient: SQLiteDatabase, commits: list[str], sql: str, rule: str | None, position: int
) -> None:
    work = [insert(patient, user(name)) for name in ("alice", "bob", "carol")]
    work.insert(position, insert_and_defer(patient, "mallory", sql))
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert is_broken_by_the_deferred_statement(answers.pop(position), rule)
    assert answers == [None, None, None]
    assert len(commits) == 1
    assert await names(patient) == {"alice", "bob", "carol"}
    assert not patient._writer.raw.in_transaction
    async with patient.reader() as conn:
        assert await users.find_contact(conn, "mallory") is None


@pytest.mark.parametrize(("sql", "rule"), BREAKING[:2])
async def test_a_rule_that_a_deferred_statement_breaks_in_a_lone_transaction_is_told_as_one(
    database: Database, sql: str, rule: str
) -> None:
    with pytest.raises(ConstraintViolation) as broken:
        await insert_and_defer(database, "alice", sql)
    assert (broken.value.constraint, broken.value.statement) == (rule, "breaking")
    assert "breaking" in str(broken.value)
    assert rule in str(broken.value)
    assert await names(database) == set()
    await make_two(database)


async def test_a_deferred_statement_that_breaks_a_rule_is_named_by_the_statement_after_it(database: Database) -> None:
    async def work() -> None:
        async with database.transaction() as conn:
            conn._statements["breaking"] = Statement(BREAKING[0][0])  # type: ignore[attr-defined]
            conn.defer("breaking")
            await users.insert_user(conn, user("alice"))

    with pytest.raises(ConstraintViolation) as broken:
        await work()
    # PostgreSQL, which runs both in one round trip, may name both.
    assert broken.value.constraint == "cache_epoch_pkey"
    assert broken.value.statement.split(" and ")[0] == "breaking"
    assert await names(database) == set()


async def test_what_a_deferred_statement_returns_cannot_be_read_before_it_has_run(database: Database) -> None:
    await execute(database, *WORLD)
    async with database.transaction() as conn:
        ended = conn.defer("revoke_codes_in_the_way", referrer_id="alice", now=3, replace=1)
        with pytest.raises(RuntimeError, match="revoke_codes_in_the_way has not run"):
            ended.values(str)
        # Neither has it run by itself meanwhile.
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="has not run"):
            ended.values(str)
        assert await codes.find_current_code(conn, "alice", 0) is None
        assert ended.values(str) == ["ALICES-1"]


async def test_what_is_deferred_to_the_commit_can_be_read_after_it(database: Database) -> None:
    await execute(database, *WORLD)
    async with database.transaction() as conn:
        ended = conn.defer("revoke_codes_in_the_way", referrer_id="alice", now=3, replace=1)
    assert ended.values(str) == ["ALICES-1"]


async def test_outside_a_transaction_nothing_is_deferred_or_locked(database: Database) -> None:
    async with database.reader() as conn:
        with pytest.raises(RuntimeError, match="only a transaction"):
            conn.defer("revoke_codes_in_the_way", referrer_id="alice", now=3, replace=1)
        with pytest.raises(RuntimeError, match="only a transaction"):
            await locks.lock_user(conn, "alice")


async def test_the_failure_of_one_that_has_not_begun_takes_nothing_from_the_one_before_it(patient: SQLiteDatabase) -> None:
    async def fail_at_once() -> None:
        async with patient.transaction():
            raise ZeroDivisionError

    work = [insert(patient, user("alice")), fail_at_once()]
    for event_id in ("first", "second", "third"):
        work += [be_recorded_only(patient, event_id), fail_at_once()]
    work += [be_recorded_only(patient, "fourth"), be_recorded_only(patient, "fifth"), fail_at_once()]
    answers = await asyncio.gather(*work, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers if answer] == ["ZeroDivisionError"] * 5
    assert await events(patient) == {"first", "second", "third", "fourth", "fifth"}


async def test_one_that_does_nothing_may_be_among_them(patient: SQLiteDatabase) -> None:
    async def idle() -> None:
        async with patient.transaction():
            pass

    await asyncio.gather(idle(), insert(patient, user("alice")), idle(), idle(), insert(patient, user("bob")), idle())
    assert await names(patient) == {"alice", "bob"}
    assert not patient._writer.raw.in_transaction


async def test_when_their_commit_fails_all_of_them_have(patient: SQLiteDatabase, file: Path) -> None:
    await insert(patient, user("carol"))
    with full_disk(file) as fill:
        answers = await asyncio.gather(
            insert(patient, user("alice")),
            insert(patient, user("bob")),
            # What it was refused for may have been done by one that failed: it cannot say so.
            insert(patient, user("bob")),
            insert_and_fill(patient, "dave", fill),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 4
    # Each is told which statement failed them all, and of what.
    assert len({str(answer) for answer in answers}) == 1
    assert re.fullmatch(r"a commit that several transactions shared failed at \w+: .*(full|disk I/O error)", str(answers[0]))
    assert await names(patient) == {"carol"}
    await make_two(patient)
    assert await names(patient) == {"alice", "bob", "carol"}


async def test_when_sqlite_undoes_one_all_of_them_have_failed(patient: SQLiteDatabase) -> None:
    async def undone() -> None:
        async with patient.transaction() as conn:
            await users.insert_user(conn, user("bob"))
            await patient._writer.raw.rollback()

    answers = await asyncio.gather(
        insert(patient, user("alice")), undone(), insert(patient, user("carol")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    assert await names(patient) == set()
    await make_two(patient)
    assert await names(patient) == {"alice", "bob"}


async def test_when_a_statement_makes_sqlite_undo_them_all_each_is_told_which(patient: SQLiteDatabase) -> None:
    [(pages,)] = await patient._writer.raw.execute_fetchall("PRAGMA page_count")
    await patient._writer.raw.execute_fetchall(f"PRAGMA max_page_count = {pages}")

    async def fill() -> None:
        async with patient.transaction() as conn:
            for number in range(200):
                await users.insert_user(conn, user(f"{number}{'x' * 500}"))

    answers = await asyncio.gather(
        insert(patient, user("alice")), fill(), insert(patient, user("bob")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
    assert all("insert_user: database or disk is full" in str(answer) for answer in answers), answers
    await patient._writer.raw.execute_fetchall("PRAGMA max_page_count = 1000000")
    await make_two(patient)


async def test_one_that_is_cancelled_is_undone_alone_and_waits_for_the_commit_of_the_others(patient: SQLiteDatabase) -> None:
    entered = asyncio.Event()

    async def stall() -> None:
        async with patient.transaction() as conn:
            await users.insert_user(conn, user("bob"))
            entered.set()
            await asyncio.sleep(60)

    alice, bob, carol = (
        asyncio.create_task(work) for work in (insert(patient, user("alice")), stall(), insert(patient, user("carol")))
    )
    await entered.wait()
    assert not alice.done()
    bob.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bob
    assert alice.done()
    await asyncio.gather(alice, carol)
    assert await names(patient) == {"alice", "carol"}


async def test_the_undoing_of_one_never_undoes_another_that_has_ended(patient: SQLiteDatabase) -> None:
    async def fail_before_the_beginning() -> None:
        async with patient.transaction() as conn:
            # What the one before left to be done fails, and so there is nothing yet to be undone.
            patient._writer._ahead.insert(0, Step("of a test", "RELEASE nothing"))
            await users.insert_user(conn, user("carol"))

    answers = await asyncio.gather(
        insert(patient, user("alice")), insert(patient, user("bob")), fail_before_the_beginning(), return_exceptions=True
    )
    assert [type(answer) for answer in answers[:2]] == [DatabaseUnavailable] * 2
    assert answers[2] is not None
    assert await names(patient) == set()
    await make_two(patient)


async def test_a_cancellation_is_no_failure_though_the_commit_fails(patient: SQLiteDatabase) -> None:
    entered = asyncio.Event()

    async def stall() -> None:
        async with patient.transaction() as conn:
            await users.insert_user(conn, user("bob"))
            await patient._writer.raw.rollback()
            entered.set()
            await asyncio.sleep(60)

    alice, bob = (asyncio.create_task(work) for work in (insert(patient, user("alice")), stall()))
    await entered.wait()
    bob.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bob
    with pytest.raises(DatabaseUnavailable):
        await alice


async def test_connections_are_durable_and_keep_foreign_keys(lite: SQLiteDatabase) -> None:
    for connection in (lite._writer, lite._reader):
        settings = {
            name: next(iter(await connection.raw.execute_fetchall(f"PRAGMA {name}")))[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 100}


@pytest.mark.parametrize("content", [None, b"this is no database" * 100])
async def test_a_missing_or_corrupt_file_cannot_be_opened_and_leaves_no_thread(
    tmp_path: Path, content: bytes | None, eventually: Callable[..., Awaitable[object]]
) -> None:
    path = tmp_path / "bad.db"
    if content:
        path.write_bytes(content)
    before = threading.active_count()
    with pytest.raises(DatabaseUnavailable, match=re.escape(str(path))):
        await open_database(f"sqlite:///{path}")
    # aiosqlite tells the thread of a connection that failed to end, and does not wait for it.
    await eventually(lambda: threading.active_count() == before)
    assert path.exists() == bool(content)


def test_urls_name_files_as_sqlalchemy_does(tmp_path: Path) -> None:
    assert sqlite_path("sqlite:///var/referral.db") == tmp_path / "var/referral.db"
    assert sqlite_path("sqlite:////var/lib/my ref%er?al.db") == Path("/var/lib/my ref%er?al.db")


async def test_a_path_with_spaces_percent_and_question_marks_is_opened(tmp_path: Path, migrated_database: Path) -> None:
    path = tmp_path / "a %20 strange?mode=ro #name.db"
    shutil.copy(migrated_database, path)
    database = await open_database(f"sqlite:///{path}")
    await make_two(database)
    assert await names(database) == {"alice", "bob"}
    await database.close()
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name}


WRITER = """
import asyncio, itertools, sys
from referral.database.opening import open_database
from referral.queries import users

async def main():
    database = await open_database(sys.argv[1])
    for number in itertools.count():
        name = f"user{number}"
        async with database.transaction() as conn:
            await users.insert_user(conn, users.NewUser(name, name, name, name, name, "hash", "user", 1))
            await users.find_account(conn, name, 1)
        print(number, flush=True)

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(file: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite:///{file}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 100:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert acknowledged >= 100
    database = await SQLiteDatabase.open(file)
    async with database.reader() as conn:
        for number in range(acknowledged + 1):
            assert await users.find_contact(conn, f"user{number}"), number
        # At most the one whose acknowledgement was not read any more.
        assert await users.find_contact(conn, f"user{acknowledged + 2}") is None
    [(verdict,)] = await database._writer.raw.execute_fetchall("PRAGMA integrity_check")
    assert verdict == "ok"
    await database.close()


# Query plans

# Statements that only the hourly housekeeping or an operator's command runs; they may scan.
BACKGROUND = {
    "list_admins",
    # One row, at the beginning of a demo.
    "find_any_user",
    "find_mail",
    "list_second_factors",
    "retry_failed_mail",
    "delete_failed_mail",
    "delete_used_refresh_tokens",
    "forget_context_secrets",
    "delete_old_contexts",
    "delete_context_keys",
    "forget_networks",
    "find_end_of_old",
    # Before the metrics are told, of each webhook.
    "count_waiting_deliveries",
    "find_oldest_waiting_delivery",
    # `run.py verify` reads everything.
    *re.findall(r"-- name: (\w+)", (ROOT / "sql" / "verify.sql").read_text()),
    # Pages of rows are summed by that, and once after an upgrade.
    *(name for name in load_statements("sqlite") if re.fullmatch(r"sum_\w+_rows", name)),
}
# Of tables that have a few rows.
SMALL = {
    "list_context_keys",
    "count_service_keys",
    "list_service_keys",
    "count_rules",
    "find_feed",
    "lock_feed",
    "find_told_expiry",
    # What has waited for a few seconds to be added to the sums.
    "sum_stats",
    "are_stats_filled",
    "count_webhooks",
    "count_ailing_webhooks",
    "list_webhooks",
    "list_all_webhooks",
    "hold_enabled_webhooks",
    "list_replays",
}
# They read so many rows from the beginning of an index.
FIRST_ROWS = {"list_announcements", "take_deltas", "find_oldest_delta"}

MANY_ROWS = """
CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i FROM n;
INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, created_at)
    SELECT 'u' || i, 'e' || i, 'e' || i, 'n' || i, 'n' || i, 'x', 'user', i FROM n;
INSERT INTO codes (code, referrer_id, created_at, expires_at, revoked_at)
    SELECT 'CODE' || i, 'u' || i, i, i + 1, CASE WHEN i % 2 THEN i END FROM n;
INSERT INTO referrals (user_id, referrer_id, code, joined_at) SELECT 'u' || (i + 1), 'u1', 'CODE1', i FROM n WHERE i < 3000;
INSERT INTO sessions (id, user_id, created_at, expires_at) SELECT 's' || i, 'u' || i, i, i + 1 FROM n;
INSERT INTO refresh_tokens (token_hash, session_id, created_at) SELECT 't' || i, 's' || i, i FROM n;
INSERT INTO session_cookies SELECT 'c' || i, 's' || i, i FROM n;
INSERT INTO second_factors (user_id, secret, created_at, confirmed_at) SELECT 'u' || i, 'x', i, i FROM n;
INSERT INTO recovery_codes (user_id, code_hash) SELECT 'u' || i, 'r' || i FROM n;
INSERT INTO one_time_tokens (token_hash, user_id, purpose, created_at, expires_at)
    SELECT 't' || i, 'u' || i, 'verify-email', i, i + 1 FROM n;
INSERT INTO outbox (id, kind, user_id, recipient, language, params, created_at, next_attempt_at)
    SELECT 'm' || i, 'code', 'u' || i, 'e' || i, 'en', '{}', i, i FROM n;
INSERT INTO profiles (user_id, provider, profile, fetched_at) SELECT 'u' || i, 'x', '{}', i FROM n;
INSERT INTO audit_events (id, at, event, actor_id, user_id, detail)
    SELECT i, i, 'signed-in', 'u' || i, 'u' || i, '{}' FROM n;
UPDATE users SET external_id = 'x' || id, name = 'n' || id, name_key = 'n' || id;
INSERT INTO service_keys (id, name, scope, key_hash, created_at)
    SELECT 'k' || i, 'k', 'read', substr(printf('%08d', i) || hex(zeroblob(32)), 1, 64), i FROM n;
INSERT INTO identities (issuer, subject, user_id, created_at) SELECT 'i', 's' || i, 'u' || i, i FROM n;
INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, attribution)
    SELECT 'e' || i, CASE i % 2 WHEN 0 THEN 'purchase' ELSE 'seen' END, 'u' || (i % 100 + 1), i, i, 'USD', i, 'none' FROM n;
INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunds, attribution)
    SELECT 'r' || i, 'refund', 'u' || (i % 100 + 1), i, i, 'USD', i, 'e' || i, 'none' FROM n;
INSERT INTO context_keys (id, secret, created_at) SELECT 'k' || i, 'x', i FROM n WHERE i < 5;
INSERT INTO event_contexts (event_id, kind, user_id, key_id, hash)
    SELECT 'e' || i, 'ip', 'u' || (i % 100 + 1), 'k1', hex(zeroblob(32)) FROM n;
INSERT INTO clicks (id, code, clicked_at, robot) SELECT 'c' || i, 'CODE' || (i % 100 + 1), i, 0 FROM n;
INSERT INTO click_keys (day, secret) SELECT i * 86400000, hex(zeroblob(32)) FROM n;
INSERT INTO click_visitors (day, code, hash)
    SELECT (i % 50) * 86400000, 'CODE' || i, hex(zeroblob(16)) FROM n;
INSERT INTO click_days (code, day, referrer_id, clicks, visitors, qr, robots)
    SELECT 'CODE' || (i % 100 + 1), i * 86400000, 'u' || (i % 100 + 1), 1, 1, 1, 1 FROM n;
UPDATE events SET referrer_id = 'u1' WHERE id LIKE 'e%'; UPDATE clicks SET network = 'x', network_key = 'k1';
UPDATE event_contexts SET referrer_id = 'u1', at = 1;
UPDATE referrals SET conversions = 1, converted_at = joined_at;
INSERT INTO announcements (id, type, at, subject_id, user_id, data)
    SELECT 'a' || i, 'user.created', i, 'u' || i, 'u' || i, '{}' FROM n;
INSERT INTO changes (seq, id, type, at, subject_id, version, user_id, data)
    SELECT i, 'g' || i, 'user.created', i, 'u' || i, 1, 'u' || i, '{}' FROM n;
INSERT INTO change_subjects (subject_id, version) SELECT 'u' || i, 1 FROM n; UPDATE feed SET last_seq = 3000; INSERT INTO
webhooks (id, url, types, status, secret, created_at) SELECT 'w' || i, 'x', '[]', 'enabled', 'x', i FROM n WHERE i < 5;
INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at) SELECT i, 'w1', 'waiting', i FROM n; INSERT INTO
delivery_failures (id, seq, webhook_id, at, error, milliseconds) SELECT 'f' || i, i, 'w1', i, 'x', 1 FROM n; INSERT INTO
replays (webhook_id, since, types, next_seq, last_seq) VALUES ('w1', 1, '[]', 1, 2);
INSERT INTO signals (user_id, kind, reference, weight, evidence, at)
    SELECT 'u' || i, CASE i % 2 WHEN 0 THEN 'burst' ELSE 'same-device' END, '', 50, '{}', i FROM n WHERE i > 1;
INSERT INTO reviews (user_id, status, score, opened_at) SELECT 'u' || i, 'open', 50, i FROM n WHERE i > 1;
INSERT INTO blocks (kind, value, created_at)
    SELECT CASE i % 2 WHEN 0 THEN 'email' ELSE 'external-id' END, 'v' || i, i FROM n;
"""
MANY_ROWS += MANY_REWARDS


def scans(connection: sqlite3.Connection, sql: str) -> list[str]:
    """The steps of the statement's plan that go through a whole table or index."""
    parameters = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    # What a statement makes up itself is small: a constant row, the CTEs and limited selects that it names.
    own = {"CONSTANT", *re.findall(r"(\w+) \([\w, ]+\) AS \(", sql), *re.findall(r"WITH (\w+) AS", sql)}
    own |= set(re.findall(r"\) AS (\w+)", sql)) | {"json_each"}
    return [step for step in plan if step.startswith("SCAN") and step.split()[1] not in own]


@pytest.mark.parametrize("with_statistics", [False, True])
def test_no_statement_that_a_request_runs_scans_a_table(file: Path, with_statistics: bool) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(MANY_ROWS)
    if with_statistics:
        connection.executescript("ANALYZE")
    found = {name: scans(connection, statement.sql) for name, statement in load_statements("sqlite").items()}
    connection.close()
    assert len(found) > 40
    assert {name: steps for name, steps in found.items() if steps and name not in BACKGROUND | SMALL | FIRST_ROWS} == {}


def test_a_scan_would_be_seen(file: Path) -> None:
    connection = sqlite3.connect(file)
    assert scans(connection, "SELECT id FROM users u WHERE email = :email")
    assert scans(connection, "SELECT count(*) FROM codes")
    assert not scans(connection, "SELECT id FROM users WHERE id = :id")
    connection.close()


async def test_every_word_of_the_program_has_the_shape_that_the_schema_wants(database: Database) -> None:
    # The Literals are the lists; the words of events are tried in test_statements.py.
    async with database.transaction() as conn:
        await users.insert_user(conn, user("alice"))
        for kind in get_args(outbox.MailKind):
            await outbox.insert_mail(conn, new_id(), kind, "alice", "x", "en", 1)
        for purpose in get_args(one_time_tokens.Purpose):
            await one_time_tokens.insert_one_time_token(conn, new_id(), "alice", purpose, "x", None, 1, 2)

"""Housekeeping: what has expired or is old enough is deleted, once an hour."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from referral import clock
from referral.background.clicks import first_day_kept, first_key_kept
from referral.config import Config
from referral.database import Connection, ConstraintViolation, Database, DatabaseUnavailable, committed
from referral.queries import (
    audit,
    changes,
    clicks,
    deliveries,
    event_contexts,
    former_addresses,
    one_time_tokens,
    outbox,
    reviews,
    sessions,
)

log = logging.getLogger(__name__)

# In seconds. Expired sessions and tokens are refused by their times; deleting them only keeps the tables small.
INTERVAL = 3_600.0
# Long enough to be found by an operator and sent again; no longer, because it holds an address.
FAILED_MAIL_KEPT = 30 * clock.DAY
# Events deleted in one transaction.
OLD_EVENTS = 1_000
# Kinds of signals whose evidence comes of HMACs of contexts, and is kept as long as these.
EVIDENCE_OF_CONTEXTS = ("same-payment", "same-device", "same-network")
# Clicks and visitors deleted in one transaction.
OLD_CLICKS = 2_000
# Changes deleted in one transaction, each with what was delivered of it to each webhook.
OLD_CHANGES = 200
# Seconds before it is tried again where something else got in between.
PAUSE = 1.0


async def keep_house(config: Config, database: Database) -> None:
    """Delete what is old, once an hour, for ever."""
    while True:
        try:
            # First, because there is a time by which keys have to be gone.
            await _delete_old_visitors(database)
            await _delete_expired(config, database)
            await _delete_old_events(config, database)
            await _delete_old_contexts(config, database)
            await _delete_old_clicks(config, database)
            await _delete_old_changes(config, database)
            await database.purge()
        except DatabaseUnavailable as error:
            log.warning("housekeeping put off: %s", error)
        except Exception:
            log.exception("housekeeping failed and goes on")
        await asyncio.sleep(INTERVAL)


async def _delete_expired(config: Config, database: Database) -> None:
    async with database.transaction() as conn:
        now = clock.now()
        await sessions.delete_expired_sessions(conn, now)
        await sessions.delete_used_refresh_tokens(conn, now - config.auth.refresh_token_ttl * clock.SECOND)
        await one_time_tokens.delete_expired_one_time_tokens(conn, now)
        await outbox.delete_failed_mail(conn, now - FAILED_MAIL_KEPT)
        await former_addresses.delete_former_addresses(conn, now - config.attribution.readdress_days * clock.DAY)


async def _delete_all(database: Database, size: int, delete: Callable[[Connection], Awaitable[int]]) -> None:
    """Delete until there is nothing more: each transaction so many rows at most. Another worker may do the same, and have
    this one begin anew."""
    while await committed(database, delete) == size:
        pass


async def _delete_old_contexts(config: Config, database: Database) -> None:
    async with database.transaction() as conn:
        await event_contexts.forget_context_secrets(conn, clock.now() - config.context.keep_days * clock.DAY)

    async def delete(conn: Connection) -> int:
        count = await event_contexts.delete_old_contexts(conn, OLD_EVENTS)
        count = count if count == OLD_EVENTS else await event_contexts.forget_networks(conn, OLD_EVENTS)
        if count < OLD_EVENTS:
            await event_contexts.delete_context_keys(conn)
        return count

    await _delete_all(database, OLD_EVENTS, delete)
    for kind in EVIDENCE_OF_CONTEXTS:
        before = clock.now() - config.context.keep_days * clock.DAY
        await _delete_all(
            database,
            OLD_EVENTS,
            partial(reviews.forget_old_evidence, kind=kind, before=before, batch_size=OLD_EVENTS),
        )


async def _delete_old_visitors(database: Database) -> None:
    first = first_key_kept(clock.now())
    async with database.transaction() as conn:
        await clicks.delete_click_keys(conn, first)
    await _delete_all(database, OLD_CLICKS, lambda conn: clicks.delete_old_visitors(conn, first, OLD_CLICKS))


async def _delete_old_clicks(config: Config, database: Database) -> None:
    before = first_day_kept(config, clock.now())
    await _delete_all(database, OLD_CLICKS, lambda conn: clicks.delete_old_clicks(conn, before, OLD_CLICKS))


async def _delete_old_events(config: Config, database: Database) -> None:
    for delete, days in (
        (audit.delete_old_events_of_nobody, config.audit.keep_days_unknown),
        (audit.delete_old_events, config.audit.keep_days),
    ):
        if days:
            before = clock.now() - days * clock.DAY
            await _delete_all(database, OLD_EVENTS, partial(delete, before=before, batch_size=OLD_EVENTS))


async def _delete_old_changes(config: Config, database: Database) -> None:
    before = clock.now() - config.webhooks.keep_days * clock.DAY
    has_more = True
    while has_more:
        try:
            has_more = await committed(database, lambda conn: _delete_some_changes(conn, before))
        except ConstraintViolation:
            # One of them has just been replayed, or tried in vain.
            await asyncio.sleep(PAUSE)


async def _delete_some_changes(conn: Connection, before: int) -> bool:
    """Delete the oldest changes, as far as they are older than a time (ms); whether there were any."""
    # Nobody numbers changes meanwhile, so that whoever reads what is kept sees what is there.
    await changes.lock_feed(conn)
    end = await changes.find_end_of_old(conn, before, OLD_CHANGES)
    if end is None:
        return False
    await changes.forget_changes_to(conn, end)
    await deliveries.delete_failures_to(conn, end)
    await deliveries.delete_deliveries_to(conn, end)
    await changes.delete_changes_to(conn, end)
    return True

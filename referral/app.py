"""The one place where the parts meet."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import web

from referral import clock, queries
from referral.auth.passwords import PASSWORDS, PasswordHasher
from referral.auth.tokens import SIGNER, open_signer
from referral.background.mailer import MAILER, Mailer
from referral.background.profiles import PROFILE_WORKER, ProfileWorker
from referral.cache.codes import CACHE, open_cache
from referral.cache.sessions import LIVE_SESSIONS, open_live_sessions
from referral.config import CONFIG, Config
from referral.config.addresses import networks
from referral.contract.access import refuse_undeclared
from referral.database import DATABASE, DatabaseUnavailable, open_database
from referral.handlers import codes, pages, service, users
from referral.handlers import sessions as session_handlers
from referral.handlers import tokens as auth
from referral.limits import LIMITER, PROXIES, RateLimiter
from referral.metrics import METRICS, Metrics
from referral.queries import audit, one_time_tokens, outbox, sessions
from referral.vendors.client import open_vendor_session
from referral.vendors.hunter import EMAIL_VERIFIER, EmailVerifier
from referral.vendors.profiles import ProfileProvider
from referral.web.bodies import MAX_BODY
from referral.web.cors import allowing, answering_preflights
from referral.web.middlewares import answer_problems, meeting_expectations, observe, prepare

log = logging.getLogger(__name__)

# Expired sessions and tokens are refused by their times; deleting them only keeps the tables small.
HOUSEKEEPING_INTERVAL = 3_600.0
# Long enough to be found by an operator and sent again; no longer, because it holds an address.
FAILED_MAIL_KEPT = 30 * clock.DAY
# Events deleted in one transaction.
OLD_EVENTS = 1_000


def create_app(config: Config) -> web.Application:
    """The application on a migrated database.

    Raises ConfigError when the secret cannot be kept, UndeclaredAccess for an endpoint that does not say who may call it.
    """
    app = web.Application(client_max_size=MAX_BODY, middlewares=[observe, answer_problems, prepare])
    app[CONFIG] = config
    app[METRICS] = Metrics()
    app[SIGNER] = open_signer(config)
    app[PROXIES] = networks(config.server.trusted_proxies)
    for module in (service, auth, session_handlers, users, codes, pages):
        app.add_routes(meeting_expectations(route) for route in module.routes)
    refuse_undeclared(app.router.routes())
    if config.server.cors_origins:
        app.middlewares.insert(1, answering_preflights(config.server.cors_origins))
        app.on_response_prepare.append(allowing(config.server.cors_origins))
    app.cleanup_ctx.extend([_metrics, _passwords, _database, _cache, _mailer, _vendors, _housekeeping])
    return app


async def _metrics(app: web.Application) -> AsyncIterator[None]:
    yield
    app[METRICS].write()


async def _passwords(app: web.Application) -> AsyncIterator[None]:
    app[PASSWORDS] = PasswordHasher(app[CONFIG].auth.bcrypt_rounds)
    yield
    app[PASSWORDS].close()


async def _database(app: web.Application) -> AsyncIterator[None]:
    app[DATABASE] = await open_database(app[CONFIG].database.url, queries.records())
    yield
    await app[DATABASE].close()


async def _cache(app: web.Application) -> AsyncIterator[None]:
    config, changes = app[CONFIG], None
    if config.cache.url.startswith(("redis:", "rediss:")):
        # Imported here: redis-py takes longer to load than the default start can spare.
        from referral.cache.redis.client import RedisClient
        from referral.cache.redis.epoch import RedisChanges

        changes = RedisChanges(RedisClient(config.cache.url, app[METRICS]), app[DATABASE])
    app[CACHE] = open_cache(config.cache.url, app[METRICS], changes)
    app[LIVE_SESSIONS] = open_live_sessions(config.cache.url, changes)
    app[LIMITER] = RateLimiter(config.limits, changes.redis if changes else None)
    yield
    if changes:
        await changes.redis.close()


async def _mailer(app: web.Application) -> AsyncIterator[None]:
    app[MAILER] = Mailer(app[CONFIG], app[DATABASE], app[METRICS])
    async for _ in _running(app[MAILER].run()):
        yield


async def _vendors(app: web.Application) -> AsyncIterator[None]:
    config = app[CONFIG]
    async with open_vendor_session() as session:
        app[EMAIL_VERIFIER] = EmailVerifier(config.hunter, session, app[METRICS])
        provider = ProfileProvider(config.enrichment, session)
        app[PROFILE_WORKER] = ProfileWorker(provider, app[DATABASE], app[METRICS])
        async for _ in _running(app[PROFILE_WORKER].run()):
            yield
        await app[EMAIL_VERIFIER].close()


async def _housekeeping(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(_keep_house(app)):
        yield


async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run in the background until the application ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _keep_house(app: web.Application) -> None:
    while True:
        try:
            async with app[DATABASE].transaction() as conn:
                await sessions.delete_expired_sessions(conn, clock.now())
                kept = app[CONFIG].auth.refresh_token_ttl * clock.SECOND
                await sessions.delete_used_refresh_tokens(conn, clock.now() - kept)
                await one_time_tokens.delete_expired_one_time_tokens(conn, clock.now())
                await outbox.delete_failed_mail(conn, clock.now() - FAILED_MAIL_KEPT)
            await _delete_old_events(app)
        except DatabaseUnavailable as error:
            log.warning("housekeeping put off: %s", error)
        except Exception:
            log.exception("housekeeping failed and goes on")
        await asyncio.sleep(HOUSEKEEPING_INTERVAL)


async def _delete_old_events(app: web.Application) -> None:
    days = app[CONFIG].audit.keep_days
    count = OLD_EVENTS if days else 0
    while count == OLD_EVENTS:
        async with app[DATABASE].transaction() as conn:
            count = await audit.delete_old_events(conn, clock.now() - days * clock.DAY, OLD_EVENTS)

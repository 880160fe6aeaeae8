"""The one place where the parts meet."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from types import ModuleType
from typing import Any

from aiohttp import web

from referral import queries
from referral.auth.context_keys import CONTEXT_KEYS, ContextKeys
from referral.auth.issuers import ISSUERS, Issuers
from referral.auth.passwords import PASSWORDS, PasswordHasher
from referral.auth.sealing import SEAL, open_seal
from referral.auth.tokens import SIGNER, open_signer
from referral.background.clicks import CLICKS, Clicks
from referral.background.expiries import ExpiryWorker
from referral.background.holds import HoldWorker
from referral.background.housekeeping import keep_house
from referral.background.mailer import MAILER, Mailer
from referral.background.profiles import PROFILE_WORKER, ProfileWorker
from referral.background.programme_stats import StatsWorker
from referral.background.relay import RELAY, Relay
from referral.background.reminders import ReminderWorker
from referral.background.webhooks import WEBHOOKS, Webhooks
from referral.cache import CACHES, open_caches
from referral.cache.codes import CODE_CACHE
from referral.cache.sessions import SESSION_CACHE
from referral.config import CONFIG, Config
from referral.config.addresses import networks
from referral.config.public_url import PUBLIC_URL, parse_public_url
from referral.contract.access import MAX_BODY, OAUTH_PATHS, Errors, paths_of, refuse_undeclared
from referral.database import DATABASE
from referral.database.opening import open_database
from referral.handlers import (
    audit,
    balances,
    blocks,
    changes,
    clicks,
    code_lookups,
    codes,
    deliveries,
    discovery,
    emails,
    events,
    leaderboard,
    links,
    outbox,
    pages,
    passwords,
    product_users,
    programme_stats,
    referrals,
    registration,
    reviews,
    rewards,
    rules,
    scripts,
    second_factors,
    service,
    service_keys,
    sessions,
    stats,
    tokens,
    users,
    webhooks,
)
from referral.handlers.admin import account as admin_account
from referral.handlers.admin import audit as admin_audit
from referral.handlers.admin import blocks as admin_blocks
from referral.handlers.admin import deliveries as admin_deliveries
from referral.handlers.admin import keys as admin_keys
from referral.handlers.admin import outbox as admin_outbox
from referral.handlers.admin import overview as admin_overview
from referral.handlers.admin import reviews as admin_reviews
from referral.handlers.admin import reward_giving as admin_reward_giving
from referral.handlers.admin import rewards as admin_rewards
from referral.handlers.admin import rule_forms as admin_rule_forms
from referral.handlers.admin import rules as admin_rules
from referral.handlers.admin import second_factor as admin_second_factor
from referral.handlers.admin import signing_in as admin_signing_in
from referral.handlers.admin import user_actions as admin_user_actions
from referral.handlers.admin import users as admin_users
from referral.handlers.admin import webhook_actions as admin_webhook_actions
from referral.handlers.admin import webhooks as admin_webhooks
from referral.limits import LIMITER, PROXIES, RateLimiter
from referral.links import LINKS, Links
from referral.log import LOG_REQUEST, open_request_log
from referral.metrics import METRICS, Metrics
from referral.rules.leaderboard import LEADERBOARD, Leaderboard
from referral.rules.strangers import STRANGERS_EVENTS, StrangersEvents
from referral.vendors.client import open_vendor_session
from referral.vendors.hunter import EMAIL_VERIFIER, EmailVerifier
from referral.vendors.profiles import ProfileProvider
from referral.web.callers import KEY_USES, KeyUses
from referral.web.cors import allowing, answering_preflights, permitting
from referral.web.drain import LEAVING, Leaving
from referral.web.headers import preparing_headers
from referral.web.middlewares import answer_problems, meeting_expectations, observe, prepare
from referral.webhooks.guard import GUARD, Guard
from referral.webhooks.sending import Sender

# One line a domain; OpenAPI lists their operations in this order.
HANDLERS: tuple[ModuleType, ...] = (
    service,
    registration,
    tokens,
    passwords,
    emails,
    discovery,
    sessions,
    users,
    second_factors,
    referrals,
    codes,
    code_lookups,
    links,
    clicks,
    scripts,
    product_users,
    events,
    rules,
    rewards,
    reviews,
    blocks,
    balances,
    changes,
    stats,
    programme_stats,
    leaderboard,
    webhooks,
    deliveries,
    service_keys,
    audit,
    outbox,
    pages,
    admin_signing_in,
    admin_overview,
    admin_account,
    admin_second_factor,
    admin_users,
    admin_user_actions,
    # Before the rewards: its path is none of a reward.
    admin_reward_giving,
    admin_rewards,
    admin_webhooks,
    admin_webhook_actions,
    admin_deliveries,
    admin_keys,
    admin_audit,
    admin_outbox,
    admin_reviews,
    admin_blocks,
    admin_rule_forms,
    admin_rules,
)


def create_app(config: Config, leaving: Leaving | None = None) -> web.Application:
    """The application on a migrated database, of a service whose processes share `leaving` if it has several.

    Raises ConfigError when the secret cannot be kept, UndeclaredAccess for an endpoint that does not say who may call it.
    """
    app = web.Application(client_max_size=MAX_BODY, middlewares=[observe, answer_problems, prepare])
    app[CONFIG] = config
    app[LEAVING] = leaving or Leaving()
    app[PUBLIC_URL] = parse_public_url(config.server.public_url)
    app[LINKS] = Links(config)
    app[METRICS] = Metrics()
    app[SIGNER] = open_signer(config)
    app[LOG_REQUEST] = open_request_log()
    app[STRANGERS_EVENTS] = StrangersEvents()
    app[CONTEXT_KEYS] = ContextKeys(config.context.keep_days)
    app[KEY_USES] = KeyUses()
    app[PROXIES] = networks(config.server.trusted_proxies)
    for module in HANDLERS:
        app.add_routes(meeting_expectations(route) for route in module.routes)
    refuse_undeclared(app.router.routes())
    app[OAUTH_PATHS] = paths_of(Errors.OAUTH, app.router.routes())
    app.on_response_prepare.append(preparing_headers(config.server.public_url))
    if config.server.cors_origins or config.links.allowed_origins:
        permitted = permitting(config.server.cors_origins, {clicks.PATH: config.links.allowed_origins})
        app.middlewares.insert(1, answering_preflights(permitted))
        app.on_response_prepare.append(allowing(permitted))
    app.on_shutdown.append(_stop_waiting)
    app.cleanup_ctx.extend(
        [
            _metrics,
            _passwords,
            _database,
            _clicks,
            _cache,
            _mailer,
            _webhooks,
            _relay,
            _vendors,
            _holds,
            _expiries,
            _stats,
            _leaderboard,
            _reminders,
            _housekeeping,
        ]
    )
    return app


async def _metrics(app: web.Application) -> AsyncIterator[None]:
    yield
    app[METRICS].write()


async def _passwords(app: web.Application) -> AsyncIterator[None]:
    app[PASSWORDS] = PasswordHasher(app[CONFIG].auth.bcrypt_rounds)
    yield
    app[PASSWORDS].close()


async def _database(app: web.Application) -> AsyncIterator[None]:
    settings = app[CONFIG].database
    app[DATABASE] = await open_database(
        settings.url,
        queries.records(),
        replica_url=settings.replica_url,
        pool_size=settings.pool_size,
        pooler_keeps_statements=settings.pooler_keeps_statements,
    )
    yield
    await app[DATABASE].close()


async def _clicks(app: web.Application) -> AsyncIterator[None]:
    app[CLICKS] = Clicks(app[DATABASE], app[METRICS], app[CONTEXT_KEYS])
    async for _ in _running(app[CLICKS].run()):
        yield
    await app[CLICKS].end()


async def _webhooks(app: web.Application) -> AsyncIterator[None]:
    settings = app[CONFIG].webhooks
    app[SEAL] = open_seal(app[CONFIG].auth)
    guard = app[GUARD] = Guard(networks(settings.allowed_networks))
    sender = Sender(guard, settings.timeout)
    app[WEBHOOKS] = Webhooks(settings, app[DATABASE], app[SEAL], sender, app[MAILER], app[METRICS])
    async for _ in _running(app[WEBHOOKS].run()):
        yield
    await sender.close()
    await guard.close()


async def _relay(app: web.Application) -> AsyncIterator[None]:
    app[RELAY] = Relay(app[DATABASE], app[WEBHOOKS].deliver)
    async for _ in _running(app[RELAY].run()):
        yield


async def _stop_waiting(app: web.Application) -> None:
    app[RELAY].close()


async def _cache(app: web.Application) -> AsyncIterator[None]:
    caches = app[CACHES] = open_caches(app[CONFIG].cache, app[METRICS], app[DATABASE])
    app[CODE_CACHE], app[SESSION_CACHE] = caches.codes, caches.sessions
    app[LIMITER] = RateLimiter(app[CONFIG].limits, caches.invalidation.redis if caches.invalidation else None)
    if caches.invalidation:
        await caches.invalidation.start()
    yield
    if caches.invalidation:
        await caches.invalidation.close()


async def _mailer(app: web.Application) -> AsyncIterator[None]:
    app[MAILER] = Mailer(app[CONFIG], app[DATABASE], app[METRICS])
    async for _ in _running(app[MAILER].run()):
        yield


async def _vendors(app: web.Application) -> AsyncIterator[None]:
    config = app[CONFIG]
    async with open_vendor_session() as session:
        app[ISSUERS] = Issuers(config.identity.issuers, session)
        app[EMAIL_VERIFIER] = EmailVerifier(config.hunter, session, app[METRICS])
        provider = ProfileProvider(config.enrichment, session)
        app[PROFILE_WORKER] = ProfileWorker(provider, app[DATABASE], app[METRICS])
        async for _ in _running(app[PROFILE_WORKER].run()):
            yield
        await app[EMAIL_VERIFIER].close()
        await app[ISSUERS].close()


async def _holds(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(HoldWorker(app[DATABASE], app[RELAY]).run()):
        yield


async def _expiries(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(ExpiryWorker(app[DATABASE], app[RELAY]).run()):
        yield


async def _stats(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(StatsWorker(app[DATABASE]).run()):
        yield


async def _leaderboard(app: web.Application) -> AsyncIterator[None]:
    app[LEADERBOARD] = Leaderboard(app[DATABASE])
    yield
    await app[LEADERBOARD].close()


async def _reminders(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(ReminderWorker(app[CONFIG].fraud, app[DATABASE], app[RELAY], app[MAILER]).run()):
        yield


async def _housekeeping(app: web.Application) -> AsyncIterator[None]:
    async for _ in _running(keep_house(app[CONFIG], app[DATABASE])):
        yield


async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run in the background until the application ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

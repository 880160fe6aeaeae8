"""What the parts of the application share, by typed key."""

from typing import Any

from aiohttp import web

from referral.auth.passwords import PasswordHasher
from referral.auth.tokens import Signer
from referral.background.mailer import Mailer
from referral.background.profiles import Enricher
from referral.cache.codes import Cache
from referral.cache.sessions import LiveSessions
from referral.config import Config
from referral.database import Database
from referral.limits import Networks, RateLimiter
from referral.metrics import Metrics
from referral.queries.sessions import LiveSession
from referral.vendors.hunter import EmailVerifier

CONFIG = web.AppKey("config", Config)
DATABASE = web.AppKey("database", Database)
CACHE = web.AppKey("cache", Cache)
PASSWORDS = web.AppKey("passwords", PasswordHasher)
SIGNER = web.AppKey("signer", Signer)
LIMITER = web.AppKey("limiter", RateLimiter)
PROXIES: web.AppKey[Networks] = web.AppKey("proxies", tuple)
LIVE_SESSIONS = web.AppKey("live_sessions", LiveSessions)
MAILER = web.AppKey("mailer", Mailer)
EMAIL_VERIFIER = web.AppKey("email_verifier", EmailVerifier)
ENRICHER = web.AppKey("enricher", Enricher)
METRICS = web.AppKey("metrics", Metrics)

IDENTITY = web.RequestKey("identity", LiveSession)
BODY = web.RequestKey("body", dict[str, Any])
QUERY = web.RequestKey("query", dict[str, Any])
ADDRESS = web.RequestKey("address", str)
REQUEST_ID = web.RequestKey("request_id", str)

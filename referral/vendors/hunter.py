"""Whether mail to an address arrives, as Hunter's Email Verifier says (https://hunter.io/api-documentation/v2#email-verifier)."""

import asyncio
import logging
from typing import Any

from aiohttp import ClientSession, web
from cachetools import TTLCache
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from referral.config.sections import HUNTER_STATUSES, UNPROCESSABLE, Hunter
from referral.contract.problems import Problem
from referral.metrics import Metrics
from referral.texts import email_key
from referral.vendors.client import Breaker, NoAnswer, ask_vendor

log = logging.getLogger(__name__)

# Verdicts are cached for a day, in this process, so that a form that is sent twice costs one credit. Failures are not.
REMEMBERED = 86_400.0
REMEMBERED_ENTRIES = 10_000

# Hunter's own statuses: "still verifying, ask again" (which costs nothing), and "the address's own server behaved oddly".
# These two, 400 and 422 are about one address: Hunter itself is well.
VERIFYING = 202
ODD_MAIL_SERVER = 222
ABOUT_THE_ADDRESS = (VERIFYING, ODD_MAIL_SERVER, 400, 422)
# The person asked Hunter not to process their data.
CLAIMED = 451

# Between two questions about an address that is still being verified, in seconds.
POLL_PAUSE = 0.5

RETRY_AFTER = "10"


class _Verdict(Schema):
    class Meta:
        unknown = EXCLUDE

    status = fields.String(required=True, validate=validate.OneOf(HUNTER_STATUSES))


class _Answer(Schema):
    class Meta:
        unknown = EXCLUDE

    data = fields.Nested(_Verdict, required=True)


class EmailVerifier:
    """Asks Hunter about addresses, as `hunter.*` says; without a key it accepts them all."""

    def __init__(self, settings: Hunter, session: ClientSession, metrics: Metrics) -> None:
        self._settings = settings
        self._url = f"{settings.base_url.rstrip('/')}/email-verifier"
        self._session = session
        self._metrics = metrics
        self._breaker = Breaker()
        self._remembered: TTLCache[str, str] = TTLCache(REMEMBERED_ENTRIES, REMEMBERED)
        self._asking: dict[str, asyncio.Task[str | None]] = {}

    async def check(self, email: str) -> None:
        """Return if the address may be registered, after `hunter.timeout` seconds at most. Without a key, at once.

        Raises Problem: `email-undeliverable` for the words of `hunter.refuse`, whichever it is in the same words;
        `email-check-unavailable` when there is no verdict and `hunter.on_unavailable` is `reject`.
        """
        if not self._settings.api_key:
            return
        status = await self._status(email)
        if status is None:
            self._metrics.email_checks.labels("unavailable").inc()
            if self._settings.on_unavailable == "reject":
                raise Problem(
                    "email-check-unavailable",
                    "The address cannot be checked at the moment.",
                    headers={"Retry-After": RETRY_AFTER},
                )
        elif status in self._settings.refuse:
            self._metrics.email_checks.labels("refused").inc()
            raise Problem("email-undeliverable", "This e-mail address cannot be used. Give another one.")
        else:
            self._metrics.email_checks.labels("passed").inc()

    async def close(self) -> None:
        """Give up what is still being asked for clients that hung up."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _status(self, email: str) -> str | None:
        """Hunter's status of the address or UNPROCESSABLE, remembered or asked for; None when there is none to be had."""
        key = email_key(email)
        if key in self._remembered:
            return self._remembered[key]
        task = self._asking.get(key)
        if task is None:
            if not self._breaker.allows():
                return None
            task = self._asking[key] = asyncio.create_task(self._verify(key, email))
            task.add_done_callback(lambda _: self._asking.pop(key))
        # Shielded: others may wait for the same answer when this request is cancelled.
        return await asyncio.shield(task)

    async def _verify(self, key: str, email: str) -> str | None:
        code, status, reason = 0, None, "no answer in time"
        try:
            async with asyncio.timeout(self._settings.timeout):
                code, document = await self._ask(email)
                while code == VERIFYING:
                    await asyncio.sleep(POLL_PAUSE)
                    code, document = await self._ask(email)
                status = _status_of(code, document)
        except NoAnswer as error:
            reason = str(error)
        except TimeoutError:
            pass
        if status:
            self._remembered[key] = status
        else:
            log.warning("Hunter gave no verdict on an address: %s", reason)
        if status or code in ABOUT_THE_ADDRESS:
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        return status

    async def _ask(self, email: str) -> tuple[int, Any]:
        return await ask_vendor(self._session, self._url, {"email": email}, {"X-API-KEY": self._settings.api_key})


def _status_of(code: int, document: Any) -> str:
    """Raises NoAnswer."""
    if code == CLAIMED:
        return UNPROCESSABLE
    if code != 200:
        raise NoAnswer(f"HTTP {code}")
    try:
        return str(_Answer().load(document)["data"]["status"])
    except ValidationError:
        raise NoAnswer("an answer that is none of Hunter's") from None


EMAIL_VERIFIER = web.AppKey("email_verifier", EmailVerifier)

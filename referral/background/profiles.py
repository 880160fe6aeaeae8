"""What a provider publicly knows of a new user: asked in the background, kept as the `profile` of the account.

Clearbit's Enrichment API (https://clearbit.com/docs#enrichment-api) and Hunter's Combined Enrichment in Clearbit's format
(https://hunter.io/api-documentation/v2#combined-enrichment) give the same members, Hunter's under `data`.
"""

import asyncio
import logging
import random
import re
from typing import Any

import orjson
from aiohttp import ClientSession, web
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from referral import clock
from referral.config.sections import Enrichment
from referral.database import Database, DatabaseUnavailable
from referral.metrics import Metrics
from referral.queries import profiles, users
from referral.vendors.client import NoAnswer, ask_vendor

log = logging.getLogger(__name__)

CLEARBIT_URL = "https://person.clearbit.com"
HUNTER_URL = "https://api.hunter.io/v2"

# Seconds for one answer: nobody waits for it.
TIMEOUT = 10.0
BATCH = 10
# Longer than a batch of hanging answers; a look-up whose worker died waits this long.
LEASE = 300 * clock.SECOND
# Pauses double from here, up to the hour, until the registration is this long ago.
FIRST_PAUSE = 10 * clock.SECOND
LONGEST_PAUSE = 3_600 * clock.SECOND
GIVE_UP_AFTER = clock.DAY
# How long a look-up that another process queued may go unnoticed, in seconds.
LONGEST_SLEEP = 15.0

# Nothing is known; the address is not one they take (400, 422); the person asked not to be processed (451).
NOTHING_KNOWN = (400, 404, 422, 451)

# RFC 3986's characters, of which none can leave an HTML attribute.
PAGE = re.compile(r"https?://[a-z0-9.-]+(:\d+)?([/?#][\w\-.~:/?#\[\]@!$&'()*+,;=%]*)?\Z", re.ASCII | re.IGNORECASE)
HANDLE = re.compile(r"[\w.%/-]{1,150}\Z", re.ASCII)


class _Answer(Schema):
    class Meta:
        unknown = EXCLUDE


def _text(longest: int, **kwargs: Any) -> fields.String:
    return fields.String(validate=[validate.Length(1, longest), _printable], **kwargs)


def _printable(text: str) -> None:
    if not text.isprintable():
        raise ValidationError("Must be printable.")


def _url() -> fields.String:
    return fields.String(validate=[validate.Length(max=2_048), validate.Regexp(PAGE)])


class _Name(_Answer):
    full_name = _text(200, data_key="fullName")


class _Employment(_Answer):
    title = _text(200)
    name = _text(200)
    domain = _text(253)


class _Account(_Answer):
    handle = fields.String(validate=validate.Regexp(HANDLE))


class _Person(_Answer):
    name = fields.Nested(_Name)
    location = _text(200)
    avatar = _url()
    site = _url()
    employment = fields.Nested(_Employment)
    linkedin = fields.Nested(_Account)
    twitter = fields.Nested(_Account)
    github = fields.Nested(_Account)


class _Company(_Answer):
    name = _text(200)
    domain = _text(253)


class _Combined(_Answer):
    person = fields.Nested(_Person)
    company = fields.Nested(_Company)


def read_profile(document: Any) -> dict[str, str | None] | None:
    """The profile (`schemas.ProfileSchema`) in a provider's answer; None when the answer knows nothing.

    A member of the wrong type, too long, unprintable or no http(s) URL counts as unknown. Raises NoAnswer when the
    document is no answer of this sort at all.
    """
    found = document.get("data", document) if isinstance(document, dict) else None
    if not isinstance(found, dict) or not {"person", "company"} & found.keys():
        raise NoAnswer("an answer that is none of the provider's")
    try:
        known = _Combined().load(found)
    except ValidationError as error:
        known = error.valid_data
    person, company = known.get("person", {}), known.get("company", {})
    employment = person.get("employment", {})
    profile = {
        "name": person.get("name", {}).get("full_name"),
        "title": employment.get("title"),
        "company": employment.get("name") or company.get("name"),
        "domain": employment.get("domain") or company.get("domain"),
        "location": person.get("location"),
        "site": person.get("site"),
        "avatar": person.get("avatar"),
        "linkedin": _page("https://www.linkedin.com/", _linkedin(person)),
        "twitter": _page("https://twitter.com/", person.get("twitter", {}).get("handle")),
        "github": _page("https://github.com/", person.get("github", {}).get("handle")),
    }
    return profile if any(profile.values()) else None


def _linkedin(person: dict[str, Any]) -> str | None:
    # Clearbit's handles are paths ("in/alexmaccaw", "pub/alex-maccaw/78/929/ab5"), Hunter's the last part alone.
    handle: str | None = person.get("linkedin", {}).get("handle")
    return f"in/{handle}" if handle and "/" not in handle else handle


def _page(site: str, handle: str | None) -> str | None:
    return site + handle if handle else None


class Enricher:
    """Makes the look-ups that wait. `run()` is its worker; `wake()` tells it that one was queued."""

    def __init__(self, settings: Enrichment, session: ClientSession, database: Database, metrics: Metrics) -> None:
        self._provider = settings.provider
        if self._provider == "clearbit":
            self.url = f"{(settings.base_url or CLEARBIT_URL).rstrip('/')}/v2/combined/find"
            self._parameters: dict[str, str] = {}
            self._headers = {"Authorization": f"Bearer {settings.api_key}"}
        else:
            self.url = f"{(settings.base_url or HUNTER_URL).rstrip('/')}/combined/find"
            self._parameters = {"clearbit_format": "true"}
            self._headers = {"X-API-KEY": settings.api_key}
        self._session = session
        self._database = database
        self._metrics = metrics
        self._queued = asyncio.Event()

    def wake(self) -> None:
        """Call after the commit that queued a look-up."""
        self._queued.set()

    async def run(self) -> None:
        """Make the look-ups that are due, and sleep until more are, for ever; without a provider, do nothing."""
        while self._provider:
            self._queued.clear()
            try:
                while await self.look_up_due():
                    pass
                pause = await self._pause()
            except DatabaseUnavailable as error:
                log.warning("the profile look-ups cannot be read: %s", error)
                pause = LONGEST_SLEEP
            except Exception:
                log.exception("the enrichment worker failed and goes on")
                pause = LONGEST_SLEEP
            try:
                async with asyncio.timeout(pause):
                    await self._queued.wait()
            except TimeoutError:
                pass

    async def _pause(self) -> float:
        async with self._database.reader() as conn:
            due = await profiles.find_next_lookup_time(conn)
        return LONGEST_SLEEP if due is None else min(max((due - clock.now()) / 1000, 0.0), LONGEST_SLEEP)

    async def look_up_due(self) -> int:
        """Make one batch of the look-ups that are due and return how many were taken from the queue."""
        now = clock.now()
        async with self._database.reader() as conn:
            due = await profiles.find_next_lookup_time(conn)
        if due is None or due > now:
            return 0
        async with self._database.transaction() as conn:
            batch = await profiles.claim_lookups(conn, now, now + LEASE, BATCH)
        for lookup in batch:
            await self._look_up(lookup)
        return len(batch)

    async def _look_up(self, lookup: profiles.Lookup) -> None:
        async with self._database.reader() as conn:
            contact = await users.find_contact(conn, lookup.user_id)
        if contact is None:
            return  # erased since it was taken, and the row with it
        try:
            async with asyncio.timeout(TIMEOUT):
                profile = await self._ask(contact.email)
        except NoAnswer as error:
            await self._retry_or_give_up(lookup, str(error))
        except TimeoutError:
            await self._retry_or_give_up(lookup, "no answer in time")
        else:
            await self._keep(lookup, profile)

    async def _ask(self, email: str) -> dict[str, str | None] | None:
        """Raises NoAnswer when it is worth asking again, a 202 ("queued") included."""
        parameters = {"email": email, **self._parameters}
        code, document = await ask_vendor(self._session, self.url, parameters, self._headers)
        if code in NOTHING_KNOWN:
            return None
        if code != 200:
            raise NoAnswer(f"HTTP {code}")
        return read_profile(document)

    async def _keep(self, lookup: profiles.Lookup, profile: dict[str, str | None] | None) -> None:
        async with self._database.transaction() as conn:
            ours = await profiles.delete_lookup(conn, lookup.user_id)
            if ours and profile:
                text = orjson.dumps(profile).decode()
                await profiles.insert_profile(conn, lookup.user_id, self._provider, text, clock.now())
        self._metrics.enrichments.labels("stored" if ours and profile else "unknown").inc()

    async def _retry_or_give_up(self, lookup: profiles.Lookup, error: str) -> None:
        now = clock.now()
        pause = min(FIRST_PAUSE * 2 ** min(lookup.attempts - 1, 20), LONGEST_PAUSE)
        next_attempt_at = now + int(pause * random.uniform(0.75, 1.25))
        given_up = next_attempt_at > lookup.created_at + GIVE_UP_AFTER
        async with self._database.transaction() as conn:
            if given_up:
                await profiles.delete_lookup(conn, lookup.user_id)
            else:
                await profiles.postpone_lookup(conn, lookup.user_id, next_attempt_at)
        if given_up:
            log.error("the profile of user %s is given up: %s", lookup.user_id, error)
        else:
            log.info("the profile of user %s is asked for again in %d s: %s", lookup.user_id, pause // 1000, error)
        self._metrics.enrichments.labels("failed" if given_up else "postponed").inc()


ENRICHER = web.AppKey("enricher", Enricher)

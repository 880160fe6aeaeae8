"""What a provider publicly knows of somebody.

Clearbit's Enrichment API (https://clearbit.com/docs#enrichment-api) and Hunter's Combined Enrichment in Clearbit's format
(https://hunter.io/api-documentation/v2#combined-enrichment) give the same members, Hunter's under `data`.
"""

import re
from typing import Any

from aiohttp import ClientSession
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from referral.config.sections import Enrichment
from referral.vendors.client import NoAnswer, ask_vendor

CLEARBIT_URL = "https://person.clearbit.com"
HUNTER_URL = "https://api.hunter.io/v2"

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


class ProfileProvider:
    """Clearbit or Hunter, as `enrichment.*` says; `is_set` tells whether there is one."""

    def __init__(self, settings: Enrichment, session: ClientSession) -> None:
        self.name = settings.provider
        if self.name == "clearbit":
            self.url = f"{(settings.base_url or CLEARBIT_URL).rstrip('/')}/v2/combined/find"
            self._parameters: dict[str, str] = {}
            self._headers = {"Authorization": f"Bearer {settings.api_key}"}
        else:
            self.url = f"{(settings.base_url or HUNTER_URL).rstrip('/')}/combined/find"
            self._parameters = {"clearbit_format": "true"}
            self._headers = {"X-API-KEY": settings.api_key}
        self._session = session

    @property
    def is_set(self) -> bool:
        return bool(self.name)

    async def ask(self, email: str) -> dict[str, str | None] | None:
        """The profile of the person with this address; None when nothing is known. The caller has to bound the time.

        Raises NoAnswer when it is worth asking again, also for a 202 ("queued").
        """
        code, document = await ask_vendor(self._session, self.url, {"email": email, **self._parameters}, self._headers)
        if code in NOTHING_KNOWN:
            return None
        if code != 200:
            raise NoAnswer(f"HTTP {code}")
        return read_profile(document)

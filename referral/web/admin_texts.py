"""The texts of the back office in the reader's language.

Pages are written in English; each sentence is the key of its Russian one in `templates/admin/ru/`, which has a file for each
area of pages.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from markupsafe import Markup

from referral.mail.compose import LANGUAGES, language_of
from referral.web.admin_words import CHANGES, DETAILS, EVENTS, MAILS, REASONS, SCOPES

RUSSIAN = Path(__file__).resolve().parent.parent / "templates" / "admin" / "ru"
# Keeps the language that somebody chose. It names nobody.
LANGUAGE_COOKIE = "referral-admin-language"

MINUS, NO_BREAK = "\u2212", "\xa0"

# What an action's redirect says of it in the address, by a word, and what the page then says. Whatever else an address has
# is shown by no page.
SAID = {
    "signed-out": "You are signed out.",
    "session-ended": "The session has ended.",
    "sessions-ended": "All other sessions have ended.",
    "password-changed": "The password is changed. Sign in by it.",
    "second-factor-off": "The second factor is switched off.",
    "second-factor-required": "Admins need a second factor here. Switch one on to go on.",
    "user-suspended": "The user is suspended.",
    "user-was-suspended": "The user was suspended already. The first reason stays.",
    "user-unsuspended": "The suspension has ended.",
    "user-was-not-suspended": "The user was not suspended any more.",
    "code-made": "The code is made.",
    "code-ended": "The code has ended.",
    "users-sessions-ended": "All sessions of the user have ended.",
    "user-erased": "The user is erased.",
    "review-cleared": "The referral is cleared.",
    "review-rejected": "The referral is rejected.",
    "review-decided": "The referral is decided already: see below by whom.",
    "referral-reported": "The report is kept.",
    "block-made": "It is blocked.",
    "block-deleted": "It is blocked no more.",
    "reward-approved": "The reward is approved.",
    "reward-rejected": "The reward is void.",
    "reward-reversed": "It is taken back.",
    "reward-fulfilled": "The delivery is noted.",
    "reward-given": "The reward is given.",
    "reward-moved-on": "This cannot be done with the reward as it is now: somebody or something was faster.",
    "webhook-changed": "The webhook is changed.",
    "webhook-enabled": "The webhook is enabled: what happens from now on is sent.",
    "webhook-disabled": "The webhook is disabled: nothing more is sent.",
    "webhook-deleted": "The webhook is deleted.",
    "webhook-replayed": "The replay has begun: what is to be sent again is being queued.",
    "webhook-made-before": "The webhook was made already, and its secret was shown then. If nobody kept it, rotate it.",
    "webhook-rotated-before": "The secret was rotated meanwhile, and shown then. Nothing was done now.",
    "key-made-before": "The key was made already, and shown then. If nobody kept it, revoke it and make another one.",
    "key-revoked": "The key is revoked: calls by it are refused.",
    "mail-retried": "The mail is sent now.",
    "delivery-retried": "The delivery is sent again at once.",
    "rule-made": "The rule is made.",
    "rule-changed": "The rule is changed.",
    "rule-unchanged": "The rule was like that already: nothing has changed.",
    "rule-enabled": "The rule is enabled.",
    "rule-disabled": "The rule is disabled.",
}

# Words of the database as people read them: states, roles, kinds.
WORDS = {
    "active": "active",
    "admin": "admin",
    "approved": "approved",
    "available": "available",
    "balance": "balance",
    "cancelled": "cancelled",
    "cleared": "cleared",
    "converted": "converted",
    "coupon": "coupon",
    "custom": "custom",
    "delivered": "delivered",
    "disabled": "disabled",
    "done": "done",
    "dropped": "dropped",
    "email": "e-mail address",
    "email-domain": "domain of addresses",
    "enabled": "enabled",
    "ended": "ended",
    "erased": "erased",
    "exhausted": "used up",
    "expired": "expired",
    "external-id": "id in the product",
    "failed": "failed",
    "failing": "failing",
    "fulfilled": "fulfilled",
    "joined": "joined",
    "not-yet": "not yet",
    "open": "open",
    "pending": "pending",
    "read": "read",
    "rejected": "rejected",
    "released": "released",
    "reserved": "reserved",
    "reversed": "taken back",
    "revoked": "revoked",
    "suspended": "suspended",
    "user": "user",
    "void": "void",
    "waiting": "waiting",
    "write": "write",
    **CHANGES,
    **DETAILS,
    **EVENTS,
    **MAILS,
    **REASONS,
    **SCOPES,
}


class Texts:
    """Sentences in one language. What is put into them is escaped, and they may have markup of their own."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._known = _russian() if language == "ru" else {}
        # Between groups of three digits; neither breaks a line.
        self._separator, self.point = (NO_BREAK, ",") if language == "ru" else (",", ".")

    def __call__(self, text: str, **values: Any) -> Markup:
        """The sentence with `%(name)s` replaced by the values, if there are any; a literal percent sign is doubled then."""
        found = self._known.get(text, text)
        assert isinstance(found, str), text
        return Markup(found) % values if values else Markup(found)  # noqa: S704

    def plural(self, one: str, many: str, count: int, **values: Any) -> Markup:
        """As `__call__`, in the form that the number wants, which is `%(count)s`. Its Russian has three forms."""
        forms = self._known.get(one, [one, many])
        assert isinstance(forms, list), one
        return Markup(forms[self._form(count)]) % {"count": self.number(count), **values}  # noqa: S704

    def _form(self, count: int) -> int:
        if self.language != "ru":
            return 0 if count == 1 else 1
        if count % 10 == 1 and count % 100 != 11:
            return 0
        return 1 if count % 10 in (2, 3, 4) and count % 100 not in (12, 13, 14) else 2

    def word(self, word: str) -> Markup:
        """A word of the database as people read it; one that nobody knows as it is."""
        known = WORDS.get(word)
        return self(known) if known else Markup.escape(word)

    def number(self, number: int) -> str:
        """The number with its digits in groups, and a minus sign that no line ends with."""
        digits = f"{abs(number):,}".replace(",", self._separator)
        return f"{MINUS}{digits}" if number < 0 else digits

    def percent(self, per_mille: int) -> str:
        """The part as a percentage, to a tenth."""
        return f"{self.decimal(per_mille, 1)}{NO_BREAK if self.language == 'ru' else ''}%"

    def decimal(self, amount: int, exponent: int) -> str:
        """The amount with so many digits behind the point."""
        whole, rest = divmod(abs(amount), 10**exponent)
        behind = f"{self.point}{rest:0{exponent}}" if exponent else ""
        return f"{MINUS if amount < 0 else ''}{self.number(whole)}{behind}"


@cache
def _russian() -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for file in sorted(RUSSIAN.glob("*.toml")):
        found |= tomllib.loads(file.read_text())
    return found


@cache
def texts_in(language: str) -> Texts:
    return Texts(language)


def texts_of(request: web.BaseRequest) -> Texts:
    """The texts in the language that was chosen by `?lang=`, which a cookie keeps, or that the browser asks for."""
    for chosen in (request.query.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if chosen in LANGUAGES:
            return texts_in(chosen)
    return texts_in(language_of(request.headers.get("Accept-Language", "")))

"""Signals of suspicious referrals in plain words: what each kind is called, and what its evidence says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from markupsafe import Markup

from referral.clock import SECOND
from referral.web.admin_people import theirs
from referral.web.admin_texts import Texts
from referral.web.admin_values import time_of


@dataclass(frozen=True, slots=True)
class SignalText:
    """A signal as people read it: a title of some words, a sentence, and the ids of the users whom the evidence names, the
    referrer first."""

    title: Markup
    sentence: Markup
    users: list[str] = field(default_factory=list)


def signal_title(_: Texts, kind: str) -> Markup:
    """What a kind of signals is called; one that nobody knows as it is."""
    titles = {
        "same-email": _("The same mailbox"),
        "same-payment": _("The same means of payment"),
        "same-device": _("The same device"),
        "same-network": _("The same network"),
        "same-domain": _("Addresses of the same firm"),
        "seen-before": _("Known before the click"),
        "disposable-email": _("A throwaway address"),
        "refunds": _("Many refunds"),
        "burst": _("Many within an hour"),
        "bot-click": _("Clicked by a robot"),
        "too-fast": _("Too fast for a person"),
        "blocked": _("Blocked"),
        "reported": _("Reported by somebody"),
    }
    return titles.get(kind) or Markup.escape(kind)


def signal_text(_: Texts, kind: str, evidence: str | None, referrer_id: str | None = None) -> SignalText:
    """A signal in plain words, by its evidence: JSON text, or None where that is no longer kept. Where the referrer is
    given, the sentence tells them from others whom the evidence names."""
    title = signal_title(_, kind)
    if evidence is None:
        return SignalText(title, _("What showed it is no longer kept: evidence is deleted after 90 days."))
    known = orjson.loads(evidence)
    members: dict[str, Any] = known if isinstance(known, dict) else {"evidence": known}
    listed = members.get("users")
    users = [user for user in listed if isinstance(user, str)] if isinstance(listed, list) else []
    users.sort(key=lambda user: user != referrer_id)
    try:
        sentence = _SENTENCES[kind](_, {**members, "who": _who(_, users, referrer_id)})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        # Of another version of the service.
        sentence = _members(members)
    return SignalText(title, sentence, users)


def _who(_: Texts, users: list[str], referrer_id: str | None) -> Markup:
    """Who has the same."""
    others = len(users) - (referrer_id in users)
    if referrer_id is None:
        return _.plural("%(count)s other user", "%(count)s other users", others)
    if not others:
        return _("the referrer")
    if referrer_id in users:
        return _.plural(
            "the referrer and %(count)s other whom they brought",
            "the referrer and %(count)s others whom they brought",
            others,
        )
    return _.plural("%(count)s other whom the referrer brought", "%(count)s others whom the referrer brought", others)


def _members(members: Mapping[str, Any]) -> Markup:
    """Evidence of a kind that nobody knows, as it is."""
    shown = [Markup("<bdi>{}: {}</bdi>").format(name, value) for name, value in members.items()]
    return Markup(", ").join(shown)


def _at(time: str) -> Markup:
    return time_of(round(datetime.fromisoformat(time).timestamp()) * SECOND)


def _same_email(_: Texts, known: Mapping[str, Any]) -> Markup:
    ways = {
        "plus-part": _("what follows a plus sign"),
        "dots": _("dots"),
        "googlemail": _("googlemail.com for gmail.com"),
        "case": _("capital letters"),
    }
    differences = Markup(", ").join(ways.get(way, way) for way in str(known["differs_by"]).split(", "))
    return _("Mail to the address reaches the referrer: the addresses differ by nothing but %(what)s.", what=differences)


def _same_payment(_: Texts, known: Mapping[str, Any]) -> Markup:
    return _("Paid with the same means of payment as %(who)s.", who=known["who"])


def _same_device(_: Texts, known: Mapping[str, Any]) -> Markup:
    return _("Used the same device as %(who)s.", who=known["who"])


def _same_network(_: Texts, known: Mapping[str, Any]) -> Markup:
    return _("Came from the same network within a day as %(who)s.", who=known["who"])


def _same_domain(_: Texts, known: Mapping[str, Any]) -> Markup:
    domain = theirs(known["domain"])
    return _("Both have an address at %(domain)s, which is no mail provider for everybody.", domain=domain)


def _seen_before(_: Texts, known: Mapping[str, Any]) -> Markup:
    since, clicked = _at(known["known_since"]), _at(known["clicked_at"])
    return _(
        "The product has known them since %(since)s, and the click came after that, at %(at)s.", since=since, at=clicked
    )


def _disposable(_: Texts, known: Mapping[str, Any]) -> Markup:
    domain = theirs(known["domain"])
    return _("The address is at %(domain)s, where anybody gets a mailbox for some minutes.", domain=domain)


def _refunds(_: Texts, known: Mapping[str, Any]) -> Markup:
    refunded, purchases = _.number(known["refunded"]), _.number(known["purchases"])
    return _(
        "Refunded wholly, of the purchases by all whom the referrer brought: %(refunded)s of %(purchases)s.",
        refunded=refunded,
        purchases=purchases,
    )


def _burst(_: Texts, known: Mapping[str, Any]) -> Markup:
    return _.plural(
        "Within an hour %(count)s user came by this referrer.",
        "Within an hour %(count)s users came by this referrer.",
        known["in_the_hour"],
    )


def _bot_click(_: Texts, known: Mapping[str, Any]) -> Markup:
    return _("It was a program that opened the link, at %(at)s.", at=_at(known["clicked_at"]))


def _too_fast(_: Texts, known: Mapping[str, Any]) -> Markup:
    seconds = known["seconds"]
    if seconds == 0:
        return _("Joined less than a second after the click.")
    return _.plural(
        "Joined %(count)s second after the click: nobody reads a page so fast.",
        "Joined %(count)s seconds after the click: nobody reads a page so fast.",
        seconds,
    )


def _blocked(_: Texts, known: Mapping[str, Any]) -> Markup:
    names = {
        "email": _("the e-mail address"),
        "email-domain": _("the domain of the e-mail address"),
        "external-id": _("the product's id"),
    }
    kinds = [known["block"]] if "block" in known else known["blocks"]
    shown = Markup(", ").join(names.get(kind, kind) for kind in kinds)
    return _("On the list of blocks: %(what)s.", what=shown)


def _reported(_: Texts, known: Mapping[str, Any]) -> Markup:
    return theirs(known["note"])


_SENTENCES: Mapping[str, Callable[[Texts, Mapping[str, Any]], Markup]] = {
    "same-email": _same_email,
    "same-payment": _same_payment,
    "same-device": _same_device,
    "same-network": _same_network,
    "same-domain": _same_domain,
    "seen-before": _seen_before,
    "disposable-email": _disposable,
    "refunds": _refunds,
    "burst": _burst,
    "bot-click": _bot_click,
    "too-fast": _too_fast,
    "blocked": _blocked,
    "reported": _reported,
}

"""Why something led to nothing, and what made a referral look suspicious, in sentences. The words are those of the API."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from markupsafe import Markup

from referral.web.admin_people import theirs
from referral.web.admin_texts import Texts
from referral.web.admin_values import time_of


def attribution_reason(word: str, texts: Texts) -> Markup:
    """Why a code or a click made nobody come by anybody."""
    _ = texts
    known = {
        "unknown": _("there is no such code or click"),
        "expired": _("the code had expired"),
        "revoked": _("the code had been ended"),
        "exhausted": _("the code had been used as often as it may"),
        "own-code": _("it is the user's own code"),
        "cycle": _("its owner came by this very user, directly or over others"),
        "already-referred": _("the user had come by somebody else, and that stays so"),
        "too-late": _("the user was known, or had bought, before"),
        "click-expired": _("the click was too long ago"),
        "suspended": _("its owner or the user was suspended"),
        "known-address": _("somebody with this address had an account before"),
    }
    return known.get(word) or theirs(word)


def skip_reason(word: str, texts: Texts) -> Markup:
    """Why a rule gave nothing for an event."""
    _ = texts
    known = {
        "not-referred": _("the user came by nobody"),
        "disabled": _("the rule was switched off"),
        "not-yet": _("the rule had not begun"),
        "ended": _("the rule was over"),
        "condition": _("its conditions were not met"),
        "unit": _("the value is in another unit than the rule's"),
        "times": _("it has given as often as it may for this referral"),
        "per-referrer": _("the referrer has got as many of its rewards as they may"),
        "budget": _("its budget is used up"),
        "rejected": _("the referral was rejected"),
        "suspended": _("whoever would have got it was suspended"),
        "nothing": _("it came to nothing"),
    }
    return known.get(word) or theirs(word)


def signal_name(kind: str, texts: Texts) -> Markup:
    """What a kind of signal says, in a few words."""
    _ = texts
    known = {
        "same-email": _("The same mailbox as the referrer"),
        "same-payment": _("The same means of payment"),
        "same-device": _("The same device"),
        "same-network": _("The same network within a day"),
        "seen-before": _("Known before the click"),
        "disposable-email": _("A throw-away address"),
        "same-domain": _("An address at the referrer's own domain"),
        "refunds": _("Many purchases given back"),
        "burst": _("Many referrals at once"),
        "bot-click": _("The click was a robot's"),
        "too-fast": _("Signed up too fast"),
        "blocked": _("On the list of blocks"),
        "reported": _("Reported by somebody"),
    }
    return known.get(kind) or theirs(kind)


def signal_evidence(kind: str, evidence: str | None, who: Callable[[str], Markup], texts: Texts) -> Markup:
    """The evidence of a signal, JSON text, as a sentence; `who` links to the user of an id."""
    _ = texts
    if evidence is None:
        return _("What it was seen by is not kept any more.")
    found: dict[str, Any] = orjson.loads(evidence)
    try:
        sentence = _sentence(kind, found, who, texts)
    except (KeyError, TypeError, ValueError):
        sentence = None
    return sentence or Markup(", ").join(theirs(f"{name}: {value}") for name, value in found.items())


def _sentence(kind: str, found: dict[str, Any], who: Callable[[str], Markup], texts: Texts) -> Markup | None:
    _ = texts
    if kind in ("same-payment", "same-device", "same-network"):
        return _("Shared with %(users)s.", users=Markup(", ").join(who(user_id) for user_id in found["users"]))
    if kind == "same-email":
        return _("Both addresses lead to one mailbox. They differ by: %(parts)s.", parts=theirs(found["differs_by"]))
    if kind == "seen-before":
        times = {"known": _moment(found["known_since"]), "clicked": _moment(found["clicked_at"])}
        return _("The product has known them since %(known)s, and the click was at %(clicked)s.", **times)
    if kind == "disposable-email":
        return _("Anybody gets an address at %(domain)s for a few minutes.", domain=theirs(found["domain"]))
    if kind == "same-domain":
        return _("Both have an address at %(domain)s, where not everybody gets one.", domain=theirs(found["domain"]))
    if kind == "bot-click":
        return _("The click of %(clicked)s looked like a program's.", clicked=_moment(found["clicked_at"]))
    if kind == "too-fast":
        return _.plural(
            "They came %(count)s second after the click.", "They came %(count)s seconds after the click.", found["seconds"]
        )
    if kind == "burst":
        return _.plural(
            "%(count)s user came by the referrer within an hour.",
            "%(count)s users came by the referrer within an hour.",
            found["in_the_hour"],
        )
    if kind == "refunds":
        counts = {"refunded": _.number(found["refunded"]), "purchases": _.number(found["purchases"])}
        return _("Of %(purchases)s purchases by the referrer's referrals, %(refunded)s were given back.", **counts)
    if kind == "blocked":
        return _("Somebody has blocked it: %(blocks)s.", blocks=theirs(", ".join(found["blocks"])))
    if kind == "reported":
        return _("The report says: %(note)s", note=theirs(found["note"]))
    return None


def _moment(text: str) -> Markup:
    return time_of(int(datetime.fromisoformat(text).timestamp() * 1000))

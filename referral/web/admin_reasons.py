"""Why something led to nothing, in sentences. The words are those of the API."""

from markupsafe import Markup

from referral.web.admin_people import theirs
from referral.web.admin_texts import Texts


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

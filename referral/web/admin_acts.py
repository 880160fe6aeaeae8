"""What people did to an account, as the record of security events has it, in sentences."""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import orjson
from markupsafe import Markup

from referral.queries.audit import Event
from referral.queries.reviews import CLEARED, REJECTED
from referral.queries.timeline import Decision
from referral.web.admin_people import theirs
from referral.web.admin_texts import Texts

# The event of the record that says how a review was decided.
DECISIONS = {CLEARED: "review-cleared", REJECTED: "review-rejected"}


def act_text(event: Event, texts: Texts) -> Markup:
    """What was done, without who did it."""
    return known_acts(texts).get(event.event) or theirs(event.event)


def known_acts(_: Texts) -> dict[str, Markup]:
    """What each kind of event says was done."""
    return {
        "registered": _("The user was registered."),
        "account-suspended": _("The user was suspended: they sign in nowhere, and their rewards wait."),
        "account-unsuspended": _("The suspension ended."),
        "account-erased": _("The account was erased, with all that names the person."),
        "account-disowned": _("The owner of the address said that the account is not theirs; it was erased."),
        "email-verified": _("The e-mail address was verified."),
        "email-change-requested": _("Another e-mail address was asked for."),
        "email-change-refused": _("A change of the e-mail address was refused."),
        "email-changed": _("The e-mail address was changed."),
        "email-disowned": _("The address was taken from the account: it is somebody else's."),
        "username-changed": _("The username was changed."),
        "external-id-changed": _("The product's own id of the user was changed."),
        "identity-joined": _("The product's sign-in was joined with the account."),
        "stranger-put-out": _("Whoever had registered with this address was put out: it is the product's user."),
        "admin-created": _("The account was made as an admin's."),
        "admin-promoted": _("The user was made an admin."),
        "admin-demoted": _("The user is no admin any more."),
        "password-reset": _("The password was set anew by a mailed link."),
        "password-changed": _("The password was changed."),
        "password-change-refused": _("A change of the password was refused."),
        "reset-requested": _("A link for a new password was asked for."),
        "signed-in": _("The user signed in."),
        "signed-out": _("The user signed out."),
        "sign-in-refused": _("A sign-in was refused."),
        "sign-in-limited": _("Sign-ins were tried too often, and slowed down."),
        "refresh-token-reused": _("An old token was used again; the session was ended."),
        "session-ended": _("A session was ended."),
        "sessions-ended": _("Sessions were ended."),
        "code-made": _("A code was made."),
        "code-edited": _("A code was edited."),
        "code-ended": _("A code was ended."),
        "referrer-set": _("The user's referrer was noted."),
        "user-token-made": _("The product got a token for the user's browser."),
        "user-exported": _("Everything that is kept about the user was exported."),
        "erasure-refused": _("An erasure was refused: the password was wrong."),
        "reward-made": _("A reward was given by hand."),
        "reward-approved": _("A reward was approved by hand."),
        "reward-rejected": _("A reward was rejected."),
        "reward-reversed": _("A reward was taken back by hand."),
        "review-cleared": _("The review of the referral was cleared."),
        "review-rejected": _("The referral was rejected."),
        "referral-reported": _("The referral was reported as suspicious."),
        "events-left-out": _("Further events of one kind were counted and not kept one by one."),
    }


def act_reason(event: Event, texts: Texts) -> Markup | None:
    """The reason that was given for it, or the code that it is about."""
    _ = texts
    detail = detail_of(event)
    if detail.get("reason"):
        return _("Reason: %(reason)s", reason=theirs(str(detail["reason"])))
    if detail.get("code"):
        return _("Code: %(code)s", code=theirs(str(detail["code"])))
    return None


def told_acts(
    _: Texts,
    user_id: str,
    acts: Iterable[Event],
    decisions: Iterable[Decision],
    who: Callable[[str], Markup],
    path: Callable[[str], str],
) -> list[dict[str, Any]]:
    """What was done to a user and by them, for a table, the latest first: the acts, and how the reviews of those whom they
    brought were decided. What the user decided is among the acts."""
    found = [
        {
            "at": act.at,
            "text": act_text(act, _),
            "reason": act_reason(act, _),
            "by": actor_text(act, who, _),
            "about": who(act.user_id) if act.user_id and act.user_id != user_id else None,
            "review": path(f"/admin/reviews/{act.user_id}") if act.event in DECISIONS.values() else None,
        }
        for act in acts
    ]
    found += [
        {
            "at": one.at,
            "text": known_acts(_)[DECISIONS[one.status]],
            "reason": _("Reason: %(reason)s", reason=theirs(one.reason)) if one.reason else None,
            "by": decider_text(_, one.decided_by_user, one.decided_by_key, who),
            "about": who(one.id),
            "review": path(f"/admin/reviews/{one.id}"),
        }
        for one in decisions
        if one.decided_by_user != user_id
    ]
    return sorted(found, key=itemgetter("at"), reverse=True)


def actor_text(event: Event, who: Callable[[str], Markup], texts: Texts) -> Markup:
    """Who did it: a key by its name, a user, or nobody who was signed in; `who` links to the user of an id."""
    _ = texts
    key = detail_of(event).get("key")
    if key:
        return _("by the key “%(name)s”", name=theirs(str(key)))
    if event.actor_id is None:
        return _("by nobody who was signed in")
    if event.actor_id == event.user_id:
        return _("by the user")
    return _("by %(who)s", who=who(event.actor_id))


def decider_text(_: Texts, user_id: str | None, key: str | None, who: Callable[[str], Markup]) -> Markup:
    """Who decided a review: a user, to whose id `who` links, or a key of this name."""
    if key is not None:
        return _("by the key “%(name)s”", name=theirs(key))
    return _("by %(who)s", who=who(user_id)) if user_id is not None else _("by somebody")


def detail_of(event: Event) -> dict[str, Any]:
    """What else is known of an event."""
    found = orjson.loads(event.detail)
    return found if isinstance(found, dict) else {}

"""Rewards in plain words: what they are worth, what they wait for, why they were taken, and what moved their money."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from markupsafe import Markup

from referral.config import Config
from referral.contract.schemas.rewards import REFUNDED
from referral.database import Connection
from referral.queries import ledger, people
from referral.queries.audit import Event
from referral.queries.ledger import Balance, Transfer
from referral.queries.people import Named
from referral.queries.reviews import CLEARED, REJECTED, Review
from referral.queries.rewards import APPROVED, BALANCE, FULFILLED, PENDING, REVERSED, VOID, Reward
from referral.rules import deciding
from referral.rules.rewards import RETRACTED
from referral.web.admin_people import link_to_id, theirs
from referral.web.admin_texts import Texts
from referral.web.admin_values import money_of, time_of

# What can be done with a reward; each is a page below its own.
APPROVE, REJECT, REVERSE, FULFIL = "approve", "reject", "reverse", "fulfil"


async def names_of(conn: Connection, user_ids: set[str | None]) -> dict[str, Named]:
    """What the users of these ids are called, by their ids."""
    wanted = sorted(user_id for user_id in user_ids if user_id is not None)
    return {person.id: person for person in await people.list_names(conn, wanted)}


def link_by(names: Mapping[str, Named], path: Callable[[str], str], texts: Texts) -> Callable[[str], Markup]:
    """A function that links to the user of an id, by what they are called."""
    return lambda user_id: link_to_id(user_id, names, path, texts)


async def balance_of(conn: Connection, user_id: str, unit: str) -> Balance:
    """What a user has in a unit; nothing where they never had any."""
    return await ledger.find_balance(conn, user_id, unit) or Balance(unit, 0, 0, 0, 0, 0, 0)


def rule_name(reward: Reward) -> str | None:
    """What the reward's rule was called when it gave it; None for one by hand."""
    return None if reward.definition is None else name_in(reward.definition)


def name_in(definition: str) -> str:
    """The name in a rule's definition, which is JSON text."""
    return str(orjson.loads(definition)["name"])


def worth_of(reward: Reward, texts: Texts, config: Config) -> Markup:
    """What the reward gives: money, or what the product delivers."""
    parts = [theirs(reward.label)] if reward.label is not None else []
    if reward.unit is not None and reward.value is not None:
        parts.append(money_of(reward.value, reward.unit, texts, config))
    return joined(parts)


def joined(parts: list[Markup]) -> Markup:
    return Markup(" · ").join(parts)


def actions_of(reward: Reward, moment: int) -> list[str]:
    """What can be done with the reward at this moment (ms)."""
    if reward.status == PENDING:
        # One that waits for neither is released by itself, or kept by a review.
        needs_somebody = reward.needs_approval == 1 or reward.release_at > moment
        return [*([APPROVE] if needs_somebody else []), REJECT]
    if reward.status == APPROVED:
        return [*([FULFIL] if reward.kind != BALANCE else []), REVERSE]
    return [REVERSE] if reward.status == FULFILLED else []


def state_sentence(_: Texts, reward: Reward) -> Markup:
    """What the reward's state means."""
    if reward.status == PENDING:
        return _("Not earned yet: it can still be rejected, and nobody can spend it.")
    if reward.status == APPROVED and reward.kind == BALANCE:
        return _("Earned: it is in the user's balance.")
    if reward.status == APPROVED:
        return _("Earned: the product has to deliver it.")
    if reward.status == FULFILLED:
        return _("The product has delivered it.")
    if reward.status == VOID:
        return _("It was never earned, and never will be. That is final.")
    if reward.status == REVERSED:
        return _("It was earned, and all of it was taken back. That is final.")
    return Markup("")


def waits_of(_: Texts, reward: Reward, moment: int, path: Callable[[str], str]) -> list[Markup]:
    """What a pending reward waits for at this moment (ms), each as a few words, with a link where something can be done."""
    if reward.status != PENDING:
        return []
    found = []
    if reward.release_at > moment:
        found.append(_("on hold until %(time)s", time=time_of(reward.release_at)))
    if reward.review == "open":
        review = Markup('<a href="{}">{}</a>').format(path(f"/admin/reviews/{reward.referral_user_id}"), _("review open"))
        found.append(review)
    if reward.needs_approval:
        found.append(_("to be approved"))
    if reward.suspended_at is not None:
        found.append(_("the user is suspended"))
    return found or [_("its hold is over: released within seconds")]


def reason_of(_: Texts, reason: str | None) -> Markup | None:
    """Why something was given, or taken: in the service's own words, or in somebody's."""
    return None if reason is None else known_reason(_, reason) or theirs(reason)


def known_reason(_: Texts, reason: str | None) -> Markup | None:
    """As `reason_of`, of what the service itself says; None for what people say."""
    known = {
        REFUNDED: _("The purchase was refunded."),
        deciding.REASON: _("The referral was rejected."),
        RETRACTED: _("The referral was taken back."),
    }
    return None if reason is None else known.get(reason)


def moves_of(_: Texts, transfers: list[Transfer]) -> list[dict[str, Any]]:
    """What moved the reward's money, for a table."""
    causes = {
        "reward": _("Made"),
        "approval": _("Earned"),
        "void": _("Void"),
        "refund": _("Refund"),
        "reversal": _("Taken back by hand"),
        "retraction": _("Taken back: the referral counts no more"),
    }
    accounts = {
        "programme": _("Programme"),
        "pending": _("Pending"),
        "available": _("Available"),
        "reserved": _("Reserved"),
        "spent": _("Spent"),
    }
    return [
        {
            "cause": causes.get(one.kind) or Markup.escape(one.kind),
            "debit": accounts.get(one.debit, one.debit),
            "credit": accounts.get(one.credit, one.credit),
            "amount": one.amount,
            "unit": one.unit,
            "at": one.at,
            "available_after": one.available_after,
        }
        for one in transfers
    ]


def acts_of(
    _: Texts, reward: Reward, events: list[Event], who: Callable[[str], Markup], config: Config
) -> list[dict[str, Any]]:
    """Who did what to the reward, and when, as sentences; the reward itself has the reason."""
    found = []
    for event in events:
        detail = orjson.loads(event.detail)
        if detail.get("key"):
            by = _("The key “%(name)s”", name=theirs(detail["key"]))
        else:
            by = _("Somebody") if event.actor_id is None else who(event.actor_id)
        found.append({"at": event.at, "sentence": _act(_, reward, event.event, detail, by, config), "reason": None})
    return found


def _act(_: Texts, reward: Reward, event: str, detail: Mapping[str, Any], by: Markup, config: Config) -> Markup:
    if event == "reward-approved" and detail.get("now"):
        return _("%(who)s approved it, and ended its hold.", who=by)
    amount = detail.get("amount")
    if event == "reward-reversed" and amount is not None and reward.unit is not None:
        return _("%(who)s took back %(amount)s.", who=by, amount=money_of(amount, reward.unit, _, config))
    sentences = {
        "reward-made": _("%(who)s gave it by hand.", who=by),
        "reward-approved": _("%(who)s approved it.", who=by),
        "reward-rejected": _("%(who)s rejected it.", who=by),
        "reward-fulfilled": _("%(who)s noted that it was delivered.", who=by),
        "reward-reversed": _("%(who)s took it back.", who=by),
    }
    return sentences.get(event) or Markup.escape(event)


def decision_on(
    _: Texts, reward: Reward, review: Review | None, who: Callable[[str], Markup], path: Callable[[str], str]
) -> list[dict[str, Any]]:
    """What the decision of the referral's review did to the reward, as in `acts_of`; nothing if it did nothing to it."""
    if review is None or review.decided_at is None or review.decided_at < reward.created_at:
        return []
    facts = {
        "who": who(review.decided_by_user)
        if review.decided_by_user is not None
        else _("The key “%(name)s”", name=theirs(review.decided_by_key or "")),
        "referral": Markup('<a href="{}">{}</a>').format(path(f"/admin/reviews/{review.user_id}"), _("the referral")),
    }
    if review.status == REJECTED and reward.reason == deciding.REASON:
        if reward.status == VOID:
            sentence = _("%(who)s rejected %(referral)s, which made this reward void.", **facts)
        else:
            sentence = _("%(who)s rejected %(referral)s, which took this reward back.", **facts)
    elif review.status == CLEARED:
        sentence = _("%(who)s cleared %(referral)s, so that this reward waits for the review no more.", **facts)
    else:
        return []
    reason = _("Reason: %(reason)s", reason=theirs(review.reason)) if review.reason else None
    return [{"at": review.decided_at, "sentence": sentence, "reason": reason}]


def approval_effects(_: Texts, reward: Reward, moment: int, balance: Balance | None, config: Config) -> list[Markup]:
    """What an approval would do at this moment (ms)."""
    worth, found = worth_of(reward, _, config), []
    if reward.review == "open":
        found.append(_("It still waits for the review of the referral: it is earned only if that is cleared."))
    if reward.suspended_at is not None:
        found.append(_("It still waits for the end of the user's suspension."))
    if reward.release_at > moment:
        until = time_of(reward.release_at)
        found.append(_("Its hold goes on: %(worth)s is earned at its end, %(time)s.", worth=worth, time=until))
        found.append(_("If you end the hold, too, it is earned at once."))
    elif not found:
        found.append(_("%(worth)s is earned at once.", worth=worth))
    if balance is not None:
        found.append(balance_after(_, balance, reward.rest, config))
    return found


def rejection_effects(_: Texts, reward: Reward, balance: Balance | None, config: Config) -> list[Markup]:
    """What a rejection would do."""
    found = [_("%(worth)s becomes void. That is final.", worth=worth_of(reward, _, config))]
    if reward.rule_id is not None:
        found.append(_("What it took of its rule's limits is given back."))
    if balance is not None:
        unit = balance.unit
        now, then = money_of(balance.pending, unit, _, config), money_of(balance.pending - reward.rest, unit, _, config)
        found.append(_("Pending balance of the user: %(now)s now, %(then)s then.", now=now, then=then))
    return found


def reversal_effects(_: Texts, reward: Reward, balance: Balance | None, config: Config) -> list[Markup]:
    """What taking it back would do."""
    if reward.value is None or reward.unit is None:
        return [_("%(worth)s is taken back as a whole. That is final.", worth=worth_of(reward, _, config))]
    rest = money_of(reward.rest, reward.unit, _, config)
    found = [_("Up to %(rest)s, all that is left of it, is taken back. If nothing is left, that is final.", rest=rest)]
    if balance is not None:
        found.append(balance_after(_, balance, -reward.rest, config))
        debt = reward.rest - balance.available
        if debt > 0:
            owed = money_of(debt, balance.unit, _, config)
            found.append(_("Taking all leaves a debt of %(debt)s, which the user's next rewards pay.", debt=owed))
    return found


def fulfilment_effects(_: Texts, reward: Reward, config: Config) -> list[Markup]:
    """What the note of a delivery would do."""
    return [
        _("The product is told that %(worth)s is delivered.", worth=worth_of(reward, _, config)),
        _("It can be noted once. The reward can still be taken back."),
    ]


def balance_after(_: Texts, balance: Balance, change: int, config: Config) -> Markup:
    """What the user has now, and would have after a change of so much."""
    unit = balance.unit
    now, then = money_of(balance.available, unit, _, config), money_of(balance.available + change, unit, _, config)
    return _("Available balance of the user: %(now)s now, %(then)s then.", now=now, then=then)

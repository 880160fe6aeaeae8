"""Reviews in plain words: what makes a referral suspicious, what a rejection would undo, and what it has undone."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from markupsafe import Markup

from referral.clock import DAY
from referral.config import Config
from referral.database import Connection
from referral.queries import ledger
from referral.queries.ledger import Balance
from referral.queries.reviews import KeptSignal, MoneyOfReferral
from referral.queries.rewards import PENDING, VOID
from referral.rules.deciding import Preview
from referral.web.admin_rewards import worth_of
from referral.web.admin_signals import SignalText, signal_text
from referral.web.admin_texts import Texts
from referral.web.admin_values import money_of


@dataclass(frozen=True, slots=True)
class Told:
    """A signal with the text that people read."""

    signal: KeptSignal
    text: SignalText


def told_signals(_: Texts, signals: Iterable[KeptSignal], referrer_id: str) -> list[Told]:
    """The signals in words, what counts most first."""
    found = [Told(signal, signal_text(_, signal.kind, signal.evidence, referrer_id)) for signal in signals]
    return sorted(found, key=lambda one: -one.signal.weight)


def waited(_: Texts, since: int, moment: int) -> Markup:
    """For how long something has waited."""
    days = max(0, moment - since) // DAY
    return _("since today") if days == 0 else _.plural("for %(count)s day", "for %(count)s days", days)


def money_at_stake(_: Texts, money: Iterable[MoneyOfReferral], config: Config) -> tuple[list[Markup], list[Markup]]:
    """What waits of the rewards of a referral, and what was paid: money by unit, and how many the product delivers."""
    waiting: list[Markup] = []
    paid: list[Markup] = []
    for one in money:
        shown = waiting if one.status == PENDING else paid
        if one.unit is not None:
            shown.append(money_of(one.amount, one.unit, _, config))
        else:
            shown.append(_.plural("%(count)s coupon or the like", "%(count)s coupons or the like", one.number))
    return waiting, paid


@dataclass(frozen=True, slots=True)
class Place:
    """What a user has available and pending in a unit, now and after a rejection."""

    user_id: str
    now: Balance
    then: Balance

    @property
    def debt(self) -> int:
        """What the user would owe."""
        return max(0, -self.then.available)


async def places_of(conn: Connection, preview: Preview) -> list[Place]:
    """The balances that a rejection would change, as they are and as they would be; read with the preview at one moment."""
    found = []
    for user_id, then in preview.balances:
        now = await ledger.find_balance(conn, user_id, then.unit)
        assert now is not None
        found.append(Place(user_id, now, then))
    return found


def fingerprint_of(preview: Preview) -> str:
    """What a preview says, as a text that another preview has only if it says the same."""
    rewards = sorted([change.reward.id, change.status, change.reward.rest] for change in preview.changes)
    places = sorted([user_id, one.unit, one.pending, one.available] for user_id, one in preview.balances)
    return hashlib.sha256(orjson.dumps([rewards, places])).hexdigest()


def undoings(_: Texts, preview: Preview, config: Config) -> list[dict[str, Any]]:
    """What a rejection would do to each reward, for a table."""
    return [
        {
            "reward": change.reward,
            "worth": worth_of(change.reward, _, config),
            "is_void": change.status == VOID,
            "taken": change.movement.amount if change.movement is not None else None,
        }
        for change in preview.changes
    ]


def effects_of(_: Texts, preview: Preview) -> list[str]:
    """What a rejection would do, in sentences."""
    void = sum(change.status == VOID for change in preview.changes)
    taken = len(preview.changes) - void
    found: list[str] = []
    if void:
        found.append(_.plural("%(count)s reward that waits becomes void.", "%(count)s rewards that wait become void.", void))
    if taken:
        found.append(
            _.plural(
                "%(count)s reward that was earned is taken back.",
                "%(count)s rewards that were earned are taken back.",
                taken,
            )
        )
    if not preview.changes:
        found.append(_("No reward changes: there is none that could be taken back."))
    found.append(_("The referral counts as converted no more, and earns nothing more."))
    found.append(_("That is final: a rejected referral stays rejected."))
    return found

"""Reviews in plain words: what makes a referral suspicious, what a rejection would undo, and what it has undone."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from markupsafe import Markup

from referral.clock import DAY
from referral.config import Config
from referral.database import Connection
from referral.mailboxes import domain_of, is_disposable, is_somebodys
from referral.queries import ledger
from referral.queries.ledger import Balance
from referral.queries.people import Person
from referral.queries.reviews import CLEARED, KeptSignal, KindOfSignal, MoneyOfReferral
from referral.queries.rewards import PENDING, VOID, Reward
from referral.rules.deciding import Preview
from referral.web.admin_people import shortened, theirs
from referral.web.admin_rewards import waits_of, worth_of
from referral.web.admin_signals import SignalText, signal_text, signal_title
from referral.web.admin_texts import Texts
from referral.web.admin_values import money_of

HOUR = DAY // 24


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
    passed = max(0, moment - since)
    if passed >= DAY:
        return _.plural("for %(count)s day", "for %(count)s days", passed // DAY)
    if passed >= HOUR:
        return _.plural("for %(count)s hour", "for %(count)s hours", passed // HOUR)
    return _("for less than an hour")


def kinds_of(_: Texts, kinds: Iterable[KindOfSignal]) -> list[Markup]:
    """What the signals of a referral are called; of a report, with the beginning of what somebody wrote."""
    found = []
    for one in kinds:
        title = signal_title(_, one.kind)
        known = orjson.loads(one.evidence) if one.evidence is not None else None
        note = known.get("note") if isinstance(known, dict) else None
        found.append(Markup("{}: {}").format(title, theirs(shortened(str(note)))) if note else title)
    return found


def money_of_rewards(_: Texts, money: Iterable[MoneyOfReferral], config: Config) -> tuple[list[Markup], list[Markup]]:
    """What was never earned of the rewards of a referral, for it waits or is void, and what was: money by unit, and how many
    the product delivers."""
    waiting: list[Markup] = []
    paid: list[Markup] = []
    for one in money:
        shown = waiting if one.status in (PENDING, VOID) else paid
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


def releases(
    _: Texts, rewards: Iterable[Reward], moment: int, path: Callable[[str], str], config: Config
) -> list[dict[str, Any]]:
    """What becomes of the rewards that wait once their referral is cleared, at this moment (ms), for a table."""
    return [
        {
            "reward": reward,
            "worth": worth_of(reward, _, config),
            "waits": waits_of(_, reward, moment, path) if _waits_further(reward, moment) else [],
        }
        for reward in (replace(one, review=CLEARED) for one in rewards if one.status == PENDING)
    ]


def _waits_further(reward: Reward, moment: int) -> bool:
    return reward.release_at > moment or reward.needs_approval == 1 or reward.suspended_at is not None


def clearing_effects(_: Texts, releases: Iterable[dict[str, Any]]) -> list[Markup]:
    """What a clearing would do, in sentences."""
    waits = [bool(one["waits"]) for one in releases]
    found: list[Markup] = []
    if now := waits.count(False):
        found.append(
            _.plural("%(count)s reward is earned within seconds.", "%(count)s rewards are earned within seconds.", now)
        )
    if later := waits.count(True):
        found.append(
            _.plural(
                "%(count)s reward is earned as soon as nothing else holds it back.",
                "%(count)s rewards are earned as soon as nothing else holds them back.",
                later,
            )
        )
    if not waits:
        found.append(_("Nothing is paid: no reward of this referral waits."))
    found.append(_("What made it suspicious opens no review again. Something new may."))
    return found


def blockable(person: Person, *, is_referee: bool) -> list[tuple[str, str]]:
    """What a block of somebody's may catch, as kinds and values. A block counts against whoever was brought: of a referrer
    who came by nobody, only others of the same domain can be that. A domain where anybody has a mailbox is none to block."""
    found = []
    was_brought = is_referee or person.joined_at is not None
    if person.email is not None and was_brought:
        found.append(("email", person.email))
    domain = domain_of(person.email).lower() if person.email is not None else ""
    if is_somebodys(domain) or is_disposable(domain):
        found.append(("email-domain", domain))
    if person.external_id is not None and was_brought:
        found.append(("external-id", person.external_id))
    return found


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

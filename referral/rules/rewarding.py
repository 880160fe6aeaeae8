"""From an event to its rewards: what it met is asked for, `programme` says what follows, and the limits are taken.

The limits hold by the schema, whatever happens at once: what `programme` allows is taken by a conditional update, and where
another transaction was faster the reward is skipped for that limit's reason.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from referral.changes import balance_changes, known_referral_change, reward_change
from referral.config import CONFIG
from referral.contract.problems import Problem, translated
from referral.contract.schemas.rewards import reward_view, state_of
from referral.ids import new_id
from referral.ledger import BOUNDS, Account, Kind, Movement, move
from referral.queries import referrals, rewards, rules
from referral.queries.referrals import Referral, Standing
from referral.queries.rewards import NewReward, Reward
from referral.queries.rules import BUDGET, MetRule
from referral.rules.periods import period_of
from referral.rules.programme import (
    REFERRER,
    Earned,
    Happened,
    History,
    Limit,
    Met,
    Rule,
    Skipped,
    Used,
    rewards_for,
    rule_of,
)
from referral.rules.work import Work

BOUNDS_PASSED = {
    BOUNDS: Problem("sum-too-large", "The sums of this user in this unit would be larger than the ledger can hold.")
}


@dataclass(frozen=True, slots=True)
class Meeting:
    """What an event meets: the referral of its user, with its two sides, and whether the event converts it."""

    referrer_id: str | None = None
    met: Met | None = None
    source: str = "code"
    review: str = "none"
    converted_at: int | None = None
    converts: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What an event keeps of it."""
        if self.met is None:
            return {}
        return {
            "referrer_id": self.referrer_id,
            "joined_at": self.met.joined_at,
            "tier": self.met.tier,
            "barred": " ".join(sorted(self.met.barred)) or None,
            "converts": int(self.converts),
        }


@dataclass
class Outcome:
    """What an event causes: rewards, and rules that give nothing, with the reason."""

    review: str
    earned: list[tuple[NewReward, MetRule]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @cached_property
    def views(self) -> list[dict[str, Any]]:
        return [reward_view(as_kept(reward, met, self.review), reward.created_at) for reward, met in self.earned]

    @property
    def skipped_views(self) -> list[dict[str, str]]:
        return [{"rule_id": rule_id, "reason": reason} for rule_id, reason in self.skipped]

    def kept(self) -> str | None:
        """What is kept for whoever reports the event again, as JSON."""
        return kept_outcome(self.views, self.skipped_views)


def kept_outcome(views: list[dict[str, Any]], skipped: list[dict[str, str]]) -> str | None:
    """Of rewards what may change, and what was skipped; None for nothing at all."""
    if not views and not skipped:
        return None
    return orjson.dumps({"rewards": [state_of(view) for view in views], "skipped": skipped}).decode()


async def meet(
    work: Work, user_id: str, event_type: str, occurred_at: int, found: Standing, referral: Referral | None = None
) -> Meeting:
    """The referral of an event's user, who is locked, as it stands; if the event converts it, it is converted from here on,
    and the referrer is locked. It is told as `referral` or, without, read for that."""
    if found.erased_at is not None:
        # The referral has ended: nothing is earned by it.
        return Meeting(source=found.source, review=found.review, converted_at=found.converted_at)
    barred = {
        word
        for word, is_so in (
            ("rejected", found.review == "rejected"),
            ("referrer", found.referrer_suspended_at is not None),
            ("referee", found.suspended_at is not None),
        )
        if is_so
    }
    tier, converted_at = found.converted_count, found.converted_at
    converts = event_type in work.request.app[CONFIG].attribution.converts_on and "rejected" not in barred
    if converts:
        await referrals.convert_referral(work.conn, user_id, occurred_at)
    if converts and found.conversions == 0:
        converted_at = occurred_at if converted_at is None else converted_at
        tier = await referrals.increment_converted_count(work.conn, found.referrer_id)
        if referral is None:
            work.announce_referral("referral.converted", user_id, found.referrer_id)
        else:
            converted = referral._replace(converted_at=converted_at)
            work.announce(known_referral_change("referral.converted", converted, found.referrer_id))
    if converted_at is None:
        # This one included, whether or not it is converted yet.
        tier += 1
    met = Met(found.joined_at, tier, frozenset(barred))
    return Meeting(found.referrer_id, met, found.source, found.review, converted_at, converts)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The rules that an event meets, and what each of them gave until now, also to this referrer."""

    known: dict[str, tuple[MetRule, Rule]]
    used: dict[str, Used]
    referrer_id: str | None


async def weigh(work: Work, event_type: str, referee_id: str, referrer_id: str | None) -> Weighed:
    """The rules of an event's type, which are held from here on.

    Comes before the referrer is locked, for whom others wait: a limit that is used up since is found to be so when it is
    taken.
    """
    found = await rules.hold_rules_met(work.conn, event_type, referee_id)
    known = {rule.id: (rule, rule_of(rule.id, rule.version, rule.definition)) for rule in found}
    return Weighed(known, await _used(work, event_type, referee_id, referrer_id, known), referrer_id)


async def decide(work: Work, event_id: str, event: Happened, user_id: str, meeting: Meeting, weighed: Weighed) -> Outcome:
    """What the event causes by the rules that it meets, whose limits are taken for it. `keep` makes the rewards, behind the
    event."""
    known, used, outcome = weighed.known, weighed.used, Outcome(meeting.review)
    if not known:
        return outcome
    if weighed.referrer_id != meeting.referrer_id:
        # It is this event by which they came.
        used = await _used(work, event.type, user_id, meeting.referrer_id, known)
    earned, outcome.skipped = rewards_for([rule for _, rule in known.values()], event, History(meeting.met, used))
    if not earned:
        return outcome
    assert meeting.referrer_id is not None
    refused = await _take(work, [(one, known[one.rule.id][0].changed_at) for one in earned], meeting.referrer_id)
    for one in earned:
        met = known[one.rule.id][0]
        if one.rule.id in refused:
            outcome.skipped.append(Skipped(one.rule.id, refused[one.rule.id]))
        else:
            outcome.earned.append((await _new_reward(work, one, met, event_id, user_id, meeting), met))
    return outcome


async def _used(
    work: Work, event_type: str, referee_id: str, referrer_id: str | None, known: dict[str, tuple[MetRule, Rule]]
) -> dict[str, Used]:
    """What each rule gave until now."""
    used = {rule_id: Used(await _given(work, met, rule, referee_id)) for rule_id, (met, rule) in known.items()}
    if referrer_id is None or not any(rule.budget or rule.per_referrer for _, rule in known.values()):
        return used
    for usage in await rules.list_usage(work.conn, event_type, referrer_id, work.moment):
        if usage.subject == BUDGET:
            used[usage.rule_id] = used[usage.rule_id]._replace(spent=usage.used)
        else:
            used[usage.rule_id] = used[usage.rule_id]._replace(by_referrer=usage.used)
    return used


async def _given(work: Work, met: MetRule, rule: Rule, referee_id: str) -> int:
    """How many rewards that are not void the rule gave for this referral, or more where that makes no difference."""
    if rule.times is None or met.last_ordinal < rule.times:
        return met.last_ordinal
    # Some may have been given back.
    return await rules.count_given(work.conn, rule.id, referee_id, rule.side)


async def _take(work: Work, earned: list[tuple[Earned, int]], referrer_id: str) -> dict[str, str]:
    """Take what rewards use of the limits of their rules, each of which is as it is since a time (ms). Returns the rules of
    which a limit has no room any more, with the reason."""
    uses = [use for one, changed_at in earned for use in await _uses(work, one, changed_at, referrer_id)]
    taken = await rules.use_limits(work.conn, uses) if uses else set()
    refused, back = {}, []
    for one, _ in earned:
        rule, subjects = one.rule, (referrer_id, BUDGET)
        fits = {subject: (rule.id, subject) in taken for subject in subjects}
        if rule.per_referrer is not None and not fits[referrer_id]:
            refused[rule.id] = "per-referrer"
        elif rule.budget is not None and not fits[BUDGET]:
            refused[rule.id] = "budget"
        if rule.id in refused and any(fits.values()):
            value = {"unit": rule.budget.unit, "value": one.value} if rule.budget and fits[BUDGET] else {}
            whose = referrer_id if fits[referrer_id] else None
            back.append({"rule_id": rule.id, "referrer_id": whose, "made_at": work.moment, **value})
    if back:
        await rules.give_limits_back(work.conn, back)
    return refused


async def _uses(work: Work, earned: Earned, changed_at: int, referrer_id: str) -> list[dict[str, Any]]:
    rule, uses = earned.rule, []
    for limit, subject, amount in ((rule.per_referrer, referrer_id, 1), (rule.budget, BUDGET, earned.value or 0)):
        if limit is None:
            continue
        period = period_of(limit.period, work.moment)
        if changed_at >= period[1]:
            # The clock was set back to a period that was over when the rule was changed, and its limits counted anew.
            await open_limit(work, rule.id, limit, subject, period)
        use = {"rule_id": rule.id, "subject": subject, "starts_at": period[0], "ends_at": period[1]}
        uses.append({**use, "unit": limit.unit, "amount": amount, "most": limit.most})
    return uses


async def open_limit(work: Work, rule_id: str, limit: Limit, subject: str, period: tuple[int, int]) -> None:
    """Begin to count a period of a limit, unless somebody has, with what was given in it until now. Raises
    `sum-too-large`."""
    if limit.unit is None:
        await rules.open_referrers_limit(work.conn, rule_id, subject, period, limit.most)
        return
    given = await rules.sum_given(work.conn, rule_id, limit.unit, period)
    used = given.amount if given else 0
    if used >= 2**62:
        raise Problem("sum-too-large", "The rule has given more than a budget can count.")
    await rules.insert_budget(work.conn, rule_id, period, limit.unit, used, max(used, limit.most))


async def _new_reward(
    work: Work, earned: Earned, met: MetRule, event_id: str, referee_id: str, meeting: Meeting
) -> NewReward:
    rule, moment, referrer_id = earned.rule, work.moment, meeting.referrer_id
    assert referrer_id is not None
    ordinal = met.last_ordinal + 1
    if rule.times is not None and ordinal > rule.times:
        # One of those before is void, and gave its ordinal back.
        ordinal = await rules.find_free_ordinal(work.conn, rule.id, referee_id, rule.side)
    release_at = moment + rule.hold
    is_released = rule.hold == 0 and not rule.needs_approval and meeting.review != "open"
    return NewReward(
        id=new_id(),
        user_id=referrer_id if rule.side == REFERRER else referee_id,
        kind=rule.kind,
        label=rule.label,
        unit=earned.unit if earned.value is not None else None,
        value=earned.value,
        created_at=moment,
        release_at=release_at,
        status=rewards.APPROVED if is_released else rewards.PENDING,
        due_at=None if is_released or rule.needs_approval else release_at,
        approved_at=moment if is_released else None,
        needs_approval=int(rule.needs_approval),
        by_percentage=int(rule.share.percent is not None),
        side=rule.side,
        rule_id=rule.id,
        rule_version=rule.version,
        event_id=event_id,
        referral_user_id=referee_id,
        referrer_id=referrer_id,
        ordinal=ordinal,
        times=rule.times,
    )


async def keep(work: Work, outcome: Outcome) -> None:
    """Make the rewards, whose event is recorded, and move their money. Raises `sum-too-large`."""
    made = [reward for reward, _ in outcome.earned]
    await make_rewards(work, made, [as_kept(reward, met, outcome.review) for reward, met in outcome.earned])


async def make_rewards(work: Work, made: list[NewReward], kept: list[Reward]) -> None:
    """Insert rewards and move their money: to what is pending, and on to what is available where nothing holds it; `kept` is
    what they are then. Raises `sum-too-large`."""
    movements = []
    for reward in made:
        await rewards.insert_reward(work.conn, reward)
        if reward.kind == rewards.BALANCE and reward.unit is not None and reward.value is not None:
            steps: list[tuple[Kind, tuple[Account, Account]]] = [("reward", ("programme", "pending"))]
            if reward.status == rewards.APPROVED:
                steps.append(("approval", ("pending", "available")))
            movements += [
                Movement(kind, reward.id, reward.user_id, reward.unit, legs, reward.value, reward_id=reward.id)
                for kind, legs in steps
            ]
    with translated(BOUNDS_PASSED):
        moved = await move(work.conn, movements, work.moment, opens=True)
    for one in kept:
        work.announce(reward_change("reward.created", one, work.moment))
        if one.status == rewards.APPROVED:
            work.announce(reward_change("reward.approved", one, work.moment))
    work.announce(*balance_changes(moved))


def as_kept(reward: NewReward, met: MetRule | None = None, review: str | None = None) -> Reward:
    """A new reward as it is kept: by a rule, of a referral that has a review, or by hand."""
    return Reward(
        reversed=0,
        reversed_by_hand=0,
        definition=met.definition if met is not None else None,
        review=review,
        fulfilled_at=None,
        reference=None,
        **{name: getattr(reward, name) for name in NewReward.__slots__ if name in Reward.__slots__},
    )

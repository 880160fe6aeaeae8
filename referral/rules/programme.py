"""Which rewards follow from an event: a pure function of the rules, the event, and what happened before.

It knows no connection and no clock, so that it can be tried on any history: a preview of a rule asks the same function about
events of the past.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from referral.clock import DAY
from referral.rules.money import millionths, share_of

REFERRER, REFEREE = "referrer", "referee"


class Limit(NamedTuple):
    """So much in a period; the unit of a budget, None for a count."""

    most: int
    period: str
    unit: str | None = None


class Share(NamedTuple):
    """What is given: so much, or so many millionths of the event's value; None for both where the product knows."""

    fixed: int | None
    percent: int | None


class Tier(NamedTuple):
    """What is given from so many converted referrals on."""

    since: int
    share: Share


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in one version; times in ms, amounts in the unit's smallest part."""

    id: str
    version: int
    on: str
    side: str
    kind: str
    label: str | None
    unit: str | None
    share: Share
    most: int | None
    tiers: tuple[Tier, ...]
    times: int | None
    min_unit: str | None
    min_amount: int
    within: int | None
    metadata: Mapping[str, Any]
    hold: int
    needs_approval: bool
    per_referrer: Limit | None
    budget: Limit | None
    starts_at: int | None
    ends_at: int | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Happened:
    """What decides of an event; its time in ms, its value or none."""

    type: str
    occurred_at: int
    unit: str | None
    amount: int | None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Met:
    """The referral that an event's user came by: when (ms), how many converted referrals its referrer had with this one, and
    which of `rejected`, `referrer` and `referee` (suspended ones) keep rewards from being earned."""

    joined_at: int
    tier: int
    barred: frozenset[str] = frozenset()


class Used(NamedTuple):
    """What a rule gave until now that is not void: how often for this referral, and what counts in its limits' periods."""

    given: int = 0
    by_referrer: int = 0
    spent: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """What happened before an event: the referral, None without one, and what each rule gave, by its id."""

    referral: Met | None
    used: Mapping[str, Used] = field(default_factory=dict)


class Earned(NamedTuple):
    """A reward that follows; the value is None where the product knows it."""

    rule: Rule
    unit: str | None
    value: int | None


class Skipped(NamedTuple):
    """A rule that gives nothing, and why."""

    rule_id: str
    reason: str


def rewards_for(rules: list[Rule], event: Happened, history: History) -> tuple[list[Earned], list[Skipped]]:
    """What each of the rules, which are of the event's type, gives for it, or why it gives nothing."""
    earned: list[Earned] = []
    skipped: list[Skipped] = []
    for rule in rules:
        found = _outcome(rule, event, history.referral, history.used.get(rule.id, Used()))
        if isinstance(found, Earned):
            earned.append(found)
        else:
            skipped.append(Skipped(rule.id, found))
    return earned, skipped


def _outcome(rule: Rule, event: Happened, referral: Met | None, used: Used) -> Earned | str:
    """The reward, or the first reason against it, in the order of SKIP_REASONS."""
    if referral is None:
        return "not-referred"
    closed = _closed(rule, event)
    if closed:
        return closed
    if not _conditions_hold(rule, event, referral):
        return "condition"
    earned = _earned(rule, event, referral.tier)
    if rule.min_unit is not None and rule.min_unit != event.unit:
        return "unit"
    if rule.budget is not None and earned.unit is not None and rule.budget.unit != earned.unit:
        return "unit"
    exhausted = _exhausted(rule, earned, used)
    if exhausted:
        return exhausted
    if "rejected" in referral.barred:
        return "rejected"
    if rule.side in referral.barred:
        return "suspended"
    return "nothing" if earned.value == 0 else earned


def _closed(rule: Rule, event: Happened) -> str | None:
    if not rule.enabled:
        return "disabled"
    if rule.starts_at is not None and event.occurred_at < rule.starts_at:
        return "not-yet"
    return "ended" if rule.ends_at is not None and event.occurred_at >= rule.ends_at else None


def _conditions_hold(rule: Rule, event: Happened, referral: Met) -> bool:
    if rule.within is not None and event.occurred_at - referral.joined_at > rule.within:
        return False
    if rule.min_unit is not None and (
        event.amount is None or (rule.min_unit == event.unit and event.amount < rule.min_amount)
    ):
        return False
    return all(name in event.metadata and _is_same(event.metadata[name], value) for name, value in rule.metadata.items())


def _is_same(one: Any, other: Any) -> bool:
    """As JSON compares: true is no number."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _earned(rule: Rule, event: Happened, tier: int) -> Earned:
    """What the rule would give; a value of 0 is nothing."""
    share = rule.share
    for step in rule.tiers:
        if tier >= step.since:
            share = step.share
    if share.percent is not None:
        value = share_of(event.amount or 0, share.percent)
        return Earned(rule, event.unit, value if rule.most is None else min(value, rule.most))
    return Earned(rule, rule.unit, share.fixed)


def _exhausted(rule: Rule, earned: Earned, used: Used) -> str | None:
    if rule.times is not None and used.given >= rule.times:
        return "times"
    if rule.per_referrer is not None and used.by_referrer >= rule.per_referrer.most:
        return "per-referrer"
    if rule.budget is not None and used.spent + (earned.value or 0) > rule.budget.most:
        return "budget"
    return None


@lru_cache(maxsize=2_000)
def rule_of(rule_id: str, version: int, definition: str) -> Rule:
    """A rule as its definition (RuleSchema, as JSON text) says it. Kept: a version never changes."""
    said = orjson.loads(definition)
    give, conditions, limits = said["give"], said["if"] or {}, said["limits"] or {}
    minimum, budget, per_referrer = conditions.get("min_amount"), limits.get("budget"), limits.get("per_referrer")
    within = conditions.get("within_days")
    return Rule(
        id=rule_id,
        version=version,
        on=said["on"],
        side=said["to"],
        kind=give["kind"],
        label=give.get("label"),
        unit=give.get("unit"),
        share=_share(give),
        most=give.get("max"),
        tiers=tuple(Tier(tier["from"], _share(tier)) for tier in said["tiers"]),
        times=said["times"],
        min_unit=minimum["unit"] if minimum else None,
        min_amount=minimum["amount"] if minimum else 0,
        within=None if within is None else within * DAY,
        metadata=conditions.get("metadata") or {},
        hold=round(said["hold_days"] * DAY),
        needs_approval=said["approval"] == "manual",
        per_referrer=Limit(per_referrer["count"], per_referrer["period"]) if per_referrer else None,
        budget=Limit(budget["amount"], budget["period"], budget["unit"]) if budget else None,
        starts_at=said["starts_at"],
        ends_at=said["ends_at"],
        enabled=said["enabled"],
    )


def _share(given: Mapping[str, Any]) -> Share:
    percent = given.get("percent")
    return Share(given.get("fixed"), None if percent is None else millionths(percent))

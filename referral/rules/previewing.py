"""A preview of a rule: what it would have given for the events of the past, had it been there before them.

The same pure function decides that decides of every event. What an event met is kept with it; what the rule itself gave, and
what refunds took back, is played here in memory. Nothing is changed.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from referral.contract.problems import Problem, invalid
from referral.contract.schemas.events import REFUND
from referral.contract.schemas.fields import LARGEST_SUM
from referral.database import Connection
from referral.queries import events
from referral.queries.events import PastEvent
from referral.rules.money import remains
from referral.rules.periods import period_of
from referral.rules.programme import REFERRER, Earned, Happened, History, Limit, Met, Rule, Used, rewards_for

# Events of the rule's type, and refunds, that a preview looks at.
MOST_EVENTS = 100_000
ROWS = 500
EXAMPLES = 10


@dataclass(slots=True)
class _Given:
    """A reward that the rule would have given; `reversed` is what refunds would have taken back by now."""

    event: PastEvent
    unit: str | None
    value: int | None
    refunded: int = 0
    reversed: int = 0
    is_void: bool = False


@dataclass(slots=True)
class _Play:
    """The rule's own history, as it would have been."""

    rule: Rule
    given: dict[str, _Given] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)
    by_referrer: Counter[tuple[str, int]] = field(default_factory=Counter)
    spent: Counter[int] = field(default_factory=Counter)

    def report(self, event: PastEvent) -> None:
        if event.refunds is not None:
            self._refund(event)
        elif event.referrer_id is not None:
            self._earn(event)

    def _earn(self, event: PastEvent) -> None:
        rule, referrer_id = self.rule, event.referrer_id
        assert referrer_id is not None
        assert event.joined_at is not None
        used = Used(
            self.times[event.user_id],
            self.by_referrer[referrer_id, self._since(rule.per_referrer, event)],
            self.spent[self._since(rule.budget, event)],
        )
        met = Met(event.joined_at, event.tier or 1, frozenset((event.barred or "").split()))
        earned, _ = rewards_for([rule], happened(event), History(met, {rule.id: used}))
        for one in earned:
            self._give(event, one, 1)
            self.given[event.id] = _Given(event, one.unit if one.value is not None else None, one.value)

    def _give(self, event: PastEvent, earned: Earned | _Given, sign: int) -> None:
        assert event.referrer_id is not None
        self.times[event.user_id] += sign
        self.by_referrer[event.referrer_id, self._since(self.rule.per_referrer, event)] += sign
        self.spent[self._since(self.rule.budget, event)] += sign * (earned.value or 0)

    def _since(self, limit: Limit | None, event: PastEvent) -> int:
        return period_of(limit.period, event.received_at)[0] if limit else 0

    def _refund(self, refund: PastEvent) -> None:
        reward = self.given.get(refund.refunds or "")
        if reward is None or reward.is_void:
            return
        event = reward.event
        reward.refunded += refund.amount or 0
        value, amount = reward.value or 0, event.amount or 0
        by_percentage = self.rule.share.percent is not None
        reward.reversed = value - remains(value, by_percentage=by_percentage, amount=amount, refunded=reward.refunded)
        is_whole = reward.reversed == value if reward.value is not None else reward.refunded >= amount
        is_pending = self.rule.needs_approval or refund.received_at < event.received_at + self.rule.hold
        if is_whole and is_pending:
            reward.is_void = True
            self._give(event, reward, -1)


def happened(event: PastEvent) -> Happened:
    """What decides of a past event."""
    metadata = orjson.loads(event.metadata) if event.metadata else {}
    return Happened(event.type, event.occurred_at, event.unit, event.amount, metadata)


async def preview(conn: Connection, rule: Rule, since: int) -> dict[str, Any]:
    """PreviewSchema, of the events that were reported since then (ms). Raises a `validation-error` for too many of them."""
    count = await events.count_events_of_type(conn, rule.on, since, MOST_EVENTS + 1)
    refunds = await events.count_events_of_type(conn, REFUND, since, MOST_EVENTS + 1)
    if max(count, refunds) > MOST_EVENTS:
        raise invalid("/since", f"Must be later: a preview looks at {MOST_EVENTS:,} events and as many refunds at most.")
    play = _Play(rule)
    async for event in _in_order(_past(conn, rule.on, since), _past(conn, REFUND, since)):
        play.report(event)
    kept = [reward for reward in play.given.values() if not reward.is_void]
    cost: defaultdict[str, int] = defaultdict(int)
    for reward in kept:
        if reward.unit is not None and reward.value is not None:
            cost[reward.unit] += reward.value - reward.reversed
    if max(cost.values(), default=0) > LARGEST_SUM:
        raise Problem("sum-too-large", "The rule would have given more than can be counted.")
    return {
        "events": count,
        "rewards": len(kept),
        "cost": [{"unit": unit, "amount": amount} for unit, amount in sorted(cost.items())],
        "examples": [_example(rule, reward) for reward in kept[:EXAMPLES]],
    }


def _example(rule: Rule, reward: _Given) -> dict[str, Any]:
    event = reward.event
    return {
        "event_id": event.id,
        "user_id": event.referrer_id if rule.side == REFERRER else event.user_id,
        "value": None if reward.unit is None else {"unit": reward.unit, "amount": reward.value},
    }


async def _past(conn: Connection, event_type: str, since: int) -> AsyncIterator[PastEvent]:
    after = (since, "")
    while True:
        found = await events.list_past_events(conn, event_type, after, ROWS)
        for event in found:
            yield event
        if len(found) < ROWS:
            return
        after = (found[-1].received_at, found[-1].id)
        # A long history keeps nobody waiting.
        await asyncio.sleep(0)


async def _in_order(one: AsyncIterator[PastEvent], other: AsyncIterator[PastEvent]) -> AsyncIterator[PastEvent]:
    """Both lists as one, in the order of their reports."""
    first, second = await anext(one, None), await anext(other, None)
    while first is not None or second is not None:
        if second is None or (first is not None and first.received_at <= second.received_at):
            assert first is not None
            yield first
            first = await anext(one, None)
        else:
            yield second
            second = await anext(other, None)

"""Rewards: what an event, or somebody by hand, gave to a user."""

from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validates_schema

from referral.clock import now, rfc_3339
from referral.contract.schemas.events import (
    EXAMPLE_EVENT,
    MOST_AMOUNT,
    EventUserSchema,
    EventValueSchema,
    ValueSchema,
)
from referral.contract.schemas.fields import EXAMPLE_ID, Boolean, InputSchema, Words, about, identifier, integer, line, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.contract.schemas.rules import days_of_hold, reward_kind, reward_label
from referral.queries import rewards
from referral.queries.rewards import Reward
from referral.texts import LONGEST_EXTERNAL_ID

LONGEST_REASON = 500
LONGEST_REFERENCE = 200
# What of a reward changes after it was made: of a repeated report these are told as they were.
STATE = ("reversed", "status", "waiting_for", "release_at", "approved_at", "fulfilled_at", "reason", "reference")
# Why a refund ended a reward. Other reasons and references are people's words, which go with the user, and are kept nowhere
# else.
REFUNDED = "refunded"


def callers_id(description: str, **kwargs: Any) -> fields.Field[str]:
    return line(description, "re_7Abc", LONGEST_EXTERNAL_ID, **kwargs)


def _status(**kwargs: Any) -> Words:
    words = {f"reward-is-{word}": word for word in rewards.STATUSES}
    return Words("RewardStatus", words, metadata=about("void and reversed are final", "pending"), **kwargs)


def reason(description: str) -> fields.Field[str]:
    return line(description, "Bought by themselves", LONGEST_REASON, required=True)


class RewardCreationSchema(InputSchema):
    id = callers_id("The caller's own id of the reward, remembered for ever", required=True)
    user = fields.Nested(EventUserSchema, required=True, metadata={"description": "Who gets it, as in an event"})
    kind = reward_kind(required=True)
    value = fields.Nested(ValueSchema, allow_none=True, metadata={"description": "What it is worth; needed for a balance"})
    label = reward_label()
    hold_days = days_of_hold(load_default=0)
    reason = reason("Why it is given")

    @validates_schema(skip_on_field_errors=True)
    def _what_a_kind_needs(self, data: dict[str, Any], **kwargs: Any) -> None:
        value = data.get("value")
        if data["kind"] == rewards.BALANCE and value is None:
            raise ValidationError("A balance has a value.", "value")
        if data["kind"] != rewards.BALANCE and data.get("label") is None:
            raise ValidationError("A coupon and what is custom have a label.", "label")
        if value is not None and value["amount"] == 0:
            raise ValidationError({"value": {"amount": ["Must be at least 1."]}})


class RewardApprovalSchema(InputSchema):
    is_optional = True

    now = Boolean(
        load_default=False,
        metadata={"description": "Whether the hold ends, too", "type": "boolean", "example": False},
    )


class RewardRejectionSchema(InputSchema):
    reason = reason("Why it is not given")


class RewardFulfilmentSchema(InputSchema):
    is_optional = True

    reference = line("What the product calls the delivery", "coupon-81", LONGEST_REFERENCE, allow_none=True)


class RewardReversalSchema(InputSchema):
    id = callers_id("The caller's own id of the reversal, remembered for ever", required=True)
    amount = integer(1, MOST_AMOUNT, allow_none=True, metadata=about("How much, in the value's unit; all unless given", 100))
    reason = reason("Why it is taken back")


class RewardRuleSchema(Schema):
    id = identifier("The rule's id")
    version = fields.Integer(metadata=about("The version by which it was given", 1))
    name = fields.String(metadata=about("What people called it then", "Give 20 %"))


class RewardSchema(Schema):
    id = identifier("The reward's id")
    caller_id = fields.String(allow_none=True, metadata=about("The id that the caller gave; null unless made by hand", None))
    user_id = identifier("Who gets it")
    side = fields.String(
        allow_none=True,
        metadata=about("`referrer` or `referee`: which side of the referral; null if made by hand", "referrer"),
    )
    kind = reward_kind()
    label = fields.String(allow_none=True, metadata=about("What the product delivers", None))
    value = fields.Nested(EventValueSchema, allow_none=True, metadata={"description": "What it was worth; it never changes"})
    reversed = fields.Integer(metadata=about("What was taken back of the value, in its unit", 0))
    status = _status()
    waiting_for = fields.List(
        fields.String(),
        metadata=about(
            "Of a pending one: `hold` (its time), `review` (of the referral) and `approval` (by somebody)", ["hold"]
        ),
    )
    rule = fields.Nested(RewardRuleSchema, allow_none=True, metadata={"description": "By which rule; null if made by hand"})
    event_id = fields.String(allow_none=True, metadata=about("For which event; null if made by hand", EXAMPLE_EVENT))
    referral_user_id = fields.String(
        allow_none=True, metadata={**about("Whose referral it is for; null if made by hand", EXAMPLE_ID), "format": "uuid"}
    )
    release_at = time("When its hold ends")
    approved_at = time("Since when it is earned; null before", allow_none=True)
    fulfilled_at = time("When the product delivered it; null before", allow_none=True)
    reason = fields.String(allow_none=True, metadata=about("Why it was given, or taken, by hand", None))
    reference = fields.String(allow_none=True, metadata=about("What the product calls the delivery", None))
    created_at = time("When it was made")


class RewardPageSchema(PageSchema):
    items = fields.List(fields.Nested(RewardSchema))


class RewardsOfUserQuerySchema(ListQuerySchema):
    status = _status()
    rule = line("Only those by this rule", EXAMPLE_ID, LONGEST_EXTERNAL_ID)
    event = line("Only those for this event", EXAMPLE_EVENT, LONGEST_EXTERNAL_ID)


class RewardQuerySchema(RewardsOfUserQuerySchema):
    user = line("Only those of this user: our id, or `ext:` and the product's own", "ext:42", LONGEST_EXTERNAL_ID + 4)


def waiting_for(reward: Reward, moment: int) -> list[str]:
    """What a pending reward waits for, at this moment (ms)."""
    if reward.status != rewards.PENDING:
        return []
    keeps = [
        name for name, holds in (("review", reward.review == "open"), ("approval", reward.needs_approval == 1)) if holds
    ]
    # What waits for nothing else is released by its time, within ten seconds.
    return ["hold", *keeps] if reward.release_at > moment or not keeps else keeps


def reward_view(reward: Reward, moment: int | None = None) -> dict[str, Any]:
    """A reward, as its user, admins and keys see it, at this moment (ms), or now."""
    rule = None
    if reward.definition is not None:
        name = orjson.loads(reward.definition)["name"]
        rule = {"id": reward.rule_id, "version": reward.rule_version, "name": name}
    return {
        "id": reward.id,
        "caller_id": reward.caller_id,
        "user_id": reward.user_id,
        "side": reward.side,
        "kind": reward.kind,
        "label": reward.label,
        "value": None if reward.unit is None else {"unit": reward.unit, "amount": reward.value},
        "reversed": reward.reversed,
        "status": reward.status,
        "waiting_for": waiting_for(reward, now() if moment is None else moment),
        "rule": rule,
        "event_id": reward.event_id,
        "referral_user_id": reward.referral_user_id,
        "release_at": rfc_3339(reward.release_at),
        "approved_at": None if reward.approved_at is None else rfc_3339(reward.approved_at),
        "fulfilled_at": None if reward.fulfilled_at is None else rfc_3339(reward.fulfilled_at),
        "reason": reward.reason,
        "reference": reward.reference,
        "created_at": rfc_3339(reward.created_at),
    }


def state_of(view: dict[str, Any]) -> dict[str, Any]:
    """What of a reward's view may change later, without people's words."""
    state = {name: view[name] for name in ("id", *STATE)}
    words = {name for name in ("reason", "reference") if state[name] not in (None, REFUNDED)}
    return {name: value for name, value in state.items() if name not in words}

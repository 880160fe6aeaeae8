"""Rules of rewards: what is given to whom, for what, and within which limits."""

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate

from referral.clock import rfc_3339
from referral.contract.schemas.events import (
    LONGEST_UNIT,
    MOST_AMOUNT,
    REFUND,
    EventValueSchema,
    ValueSchema,
    event_type,
)
from referral.contract.schemas.fields import (
    EXAMPLE_TIME,
    LARGEST_SUM,
    Boolean,
    InputSchema,
    Timestamp,
    Words,
    about,
    identifier,
    integer,
    line,
    metadata,
    time,
)
from referral.contract.schemas.pages import PageSchema
from referral.queries.rules import KeptRule, Spent

LONGEST_NAME = 100
LONGEST_LABEL = 100
MOST_TIMES = 1_000
MOST_TIERS = 20
MOST_HOLD_DAYS = 365
MOST_DAYS = 36_500
MOST_COUNT = 1_000_000_000

PERCENT_PATTERN = r"^\d{1,3}(\.\d{1,4})?$"


class Percent(fields.Field[str]):
    """A percentage as a text, so that no client makes another number of it; above 0, up to 100, at most four decimals."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and value.isascii():
            whole, point, decimals = value.partition(".")
            is_number = whole.isdigit() and len(whole) <= 3 and (not point or decimals.isdigit()) and len(decimals) <= 4
            if is_number and 0 < float(value) <= 100:
                return value
        raise ValidationError('Must be a text such as "20" or "12.5": above 0, up to 100, with at most four decimals.')


class Days(fields.Field[float]):
    """A number of days, which may be a fraction."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_HOLD_DAYS:
            raise ValidationError(f"Must be a number of days from 0 to {MOST_HOLD_DAYS}.")
        return value


def _percent(description: str) -> Percent:
    return Percent(
        allow_none=True,
        metadata={**about(description, "20"), "type": "string", "pattern": PERCENT_PATTERN, "minLength": 1, "maxLength": 8},
    )


def _fixed(description: str, **kwargs: Any) -> fields.Integer:
    return integer(1, MOST_AMOUNT, allow_none=True, metadata=about(description, 500), **kwargs)


def _period(**kwargs: Any) -> Words:
    periods = {f"limit-{word}": word for word in ("day", "week", "month", "ever")}
    return Words("LimitPeriod", periods, metadata=about("In UTC; weeks begin on Monday", "month"), **kwargs)


def reward_kind(**kwargs: Any) -> Words:
    kinds = {f"reward-{word}": word for word in ("balance", "coupon", "custom")}
    return Words(
        "RewardKind",
        kinds,
        metadata=about(
            "A balance is kept in the ledger; a coupon and what is custom are delivered by the product", "balance"
        ),
        **kwargs,
    )


def reward_label() -> fields.Field[str]:
    return line(
        "What the product delivers; needed for a coupon and for what is custom", "A month", LONGEST_LABEL, allow_none=True
    )


class RuleGiveSchema(Schema):
    kind = reward_kind(required=True)
    label = reward_label()
    unit = line("Of what is fixed; a percentage is of the event's unit", "USD", LONGEST_UNIT, allow_none=True)
    fixed = _fixed("So much, in the unit's smallest part; this or percent")
    percent = _percent("So much of the event's value, rounded down; this or fixed")
    max = _fixed("A percentage gives this at most")


class GiveSchema(RuleGiveSchema, InputSchema):
    pass


GIVEN = {"description": "What is given: so much, or so much of the event's value"}


class RuleTierSchema(Schema):
    since = integer(
        1,
        MOST_COUNT,
        data_key="from",
        required=True,
        metadata=about("From so many converted referrals on, this one included", 5),
    )
    fixed = _fixed("As give.fixed")
    percent = _percent("As give.percent")


class TierSchema(RuleTierSchema, InputSchema):
    pass


class RuleConditionsSchema(Schema):
    min_amount = fields.Nested(
        EventValueSchema, allow_none=True, metadata={"description": "The event's value is at least this"}
    )
    within_days = integer(
        0, MOST_DAYS, allow_none=True, metadata=about("So many days at most lie between the referral and the event", 90)
    )
    metadata = metadata("The event's metadata has these members", allow_none=True)


class ConditionsSchema(RuleConditionsSchema, InputSchema):
    min_amount = fields.Nested(ValueSchema, allow_none=True, metadata={"description": "The event's value is at least this"})


class RuleReferrerLimitSchema(Schema):
    count = integer(
        1, MOST_COUNT, required=True, metadata=about("How many rewards at most come of a referrer's referrals", 10)
    )
    period = _period(required=True)


class ReferrerLimitSchema(RuleReferrerLimitSchema, InputSchema):
    pass


class RuleBudgetSchema(Schema):
    unit = line("The unit of the rewards", "USD", LONGEST_UNIT, required=True)
    amount = integer(1, MOST_AMOUNT, required=True, metadata=about("What all rewards are worth at most", 1_000_000))
    period = _period(required=True)


class BudgetSchema(RuleBudgetSchema, InputSchema):
    pass


PER_REFERRER = {"description": "How many rewards come of one referrer's referrals"}
BUDGET = {"description": "What all rewards are worth; one that does not fit is not made"}


class RuleLimitsSchema(Schema):
    per_referrer = fields.Nested(RuleReferrerLimitSchema, allow_none=True, metadata=PER_REFERRER)
    budget = fields.Nested(RuleBudgetSchema, allow_none=True, metadata=BUDGET)


class LimitsSchema(InputSchema):
    per_referrer = fields.Nested(ReferrerLimitSchema, allow_none=True, metadata=PER_REFERRER)
    budget = fields.Nested(BudgetSchema, allow_none=True, metadata=BUDGET)


def _not_refund(value: str) -> None:
    if value == REFUND:
        raise ValidationError("A refund earns nothing.")


def _on(**kwargs: Any) -> fields.Field[str]:
    return event_type("The type of the events that it rewards", validate=_not_refund, **kwargs)


def _to(**kwargs: Any) -> Words:
    sides = {f"side-{word}": word for word in ("referrer", "referee")}
    return Words("RewardSide", sides, metadata=about("Who gets it: two sides are two rules", "referrer"), **kwargs)


def _times(**kwargs: Any) -> fields.Integer:
    described = about("How often at most for one referral; null: each time", 1)
    return integer(1, MOST_TIMES, allow_none=True, metadata=described, **kwargs)


def _approval(**kwargs: Any) -> Words:
    words = {f"approval-{word}": word for word in ("automatic", "manual")}
    return Words("RuleApproval", words, metadata=about("manual: somebody approves each reward", "automatic"), **kwargs)


def days_of_hold(**kwargs: Any) -> Days:
    return Days(
        metadata={
            **about("Days for which a reward is pending; a fraction is allowed", 30),
            "type": "number",
            "minimum": 0,
            "maximum": MOST_HOLD_DAYS,
        },
        **kwargs,
    )


def _moment(description: str) -> Timestamp:
    return Timestamp(allow_none=True, metadata={**about(description, EXAMPLE_TIME), "format": "date-time"})


class RuleChangeSchema(InputSchema):
    name = line("What people call it", "Give 20 %", LONGEST_NAME)
    on = _on()
    to = _to()
    times = _times()
    give = fields.Nested(GiveSchema, metadata=GIVEN)
    tiers = fields.List(
        fields.Nested(TierSchema),
        allow_none=True,
        validate=validate.Length(max=MOST_TIERS, error=f"Must list at most {MOST_TIERS} tiers."),
        metadata={"description": "What is given instead to referrers with more converted referrals, in rising order"},
    )
    conditions = fields.Nested(
        ConditionsSchema, data_key="if", allow_none=True, metadata={"description": "What must be true of an event"}
    )
    hold_days = days_of_hold()
    approval = _approval()
    limits = fields.Nested(LimitsSchema, allow_none=True, metadata={"description": "What is never exceeded"})
    starts_at = _moment("Events that happened before it are not rewarded")
    ends_at = _moment("Events that happened at this time or later are not rewarded")
    enabled = Boolean(metadata={"description": "Whether it gives anything", "type": "boolean", "example": True})


class RuleCreationSchema(RuleChangeSchema):
    name = line("What people call it", "Give 20 %", LONGEST_NAME, required=True)
    on = _on(required=True)
    to = _to(required=True)
    give = fields.Nested(GiveSchema, required=True, metadata=GIVEN)


class SpentSchema(Schema):
    unit = fields.String(allow_none=True, metadata=about("null where no reward had a value yet", "USD"))
    amount = fields.Integer(metadata=about("What its rewards that are not void are worth", 4900))
    count = fields.Integer(metadata=about("How many they are, those in other units included", 5))


class RuleMembersSchema(Schema):
    name = fields.String(metadata=about("What people call it", "Give 20 %"))
    on = fields.String(metadata=about("The type of the events that it rewards", "purchase"))
    to = _to()
    times = _times()
    give = fields.Nested(RuleGiveSchema, metadata=GIVEN)
    tiers = fields.List(
        fields.Nested(RuleTierSchema), metadata={"description": "What is given to referrers with more converted referrals"}
    )
    conditions = fields.Nested(
        RuleConditionsSchema, data_key="if", allow_none=True, metadata={"description": "What must be true of an event"}
    )
    hold_days = days_of_hold()
    approval = _approval()
    limits = fields.Nested(RuleLimitsSchema, allow_none=True, metadata={"description": "What is never exceeded"})
    starts_at = time("Events that happened before it are not rewarded", allow_none=True)
    ends_at = time("Events that happened at this time or later are not rewarded", allow_none=True)
    enabled = fields.Boolean(metadata=about("Whether it gives anything", True))


class RuleSchema(RuleMembersSchema):
    id = identifier("The rule's id")
    version = fields.Integer(metadata=about("Each change is a new version; rewards keep theirs", 1))
    created_at = time("When the rule was made")
    changed_at = time("When this version was made")
    spent = fields.Nested(SpentSchema, metadata={"description": "What it gave, in the budget's unit, or else its own"})
    warnings = fields.List(fields.String(), metadata={"description": "What may be amiss with it"})


class RulePageSchema(PageSchema):
    items = fields.List(fields.Nested(RuleSchema))


class RuleVersionSchema(RuleMembersSchema):
    version = fields.Integer(metadata=about("The version's number", 1))
    changed_at = time("When this version was made")


class RuleVersionPageSchema(PageSchema):
    items = fields.List(fields.Nested(RuleVersionSchema))


class PreviewRequestSchema(InputSchema):
    rule = fields.Nested(RuleCreationSchema, required=True, metadata={"description": "As the body of POST /rules"})
    since = Timestamp(
        required=True, metadata={**about("Of events reported since then", EXAMPLE_TIME), "format": "date-time"}
    )


class PreviewedRewardSchema(Schema):
    event_id = fields.String(metadata=about("The event that would have been rewarded", "in_1QXyz"))
    user_id = identifier("Who would have got it")
    value = fields.Nested(EventValueSchema, allow_none=True, metadata={"description": "What it would have been worth"})


class PreviewSchema(Schema):
    events = fields.Integer(metadata=about("How many events of the rule's type there were", 120))
    rewards = fields.Integer(metadata=about("How many rewards that are not void there would be now", 17))
    cost = fields.List(
        fields.Nested(EventValueSchema),
        metadata={"description": "What they are worth, less what refunds would have taken back; by unit"},
    )
    examples = fields.List(
        fields.Nested(PreviewedRewardSchema), metadata={"description": "The first of these rewards, up to ten"}
    )


def definition_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The members that a body says of a rule, as they are kept: whole, with null for what is left out within them."""
    said = {name: value for name, value in body.items() if name not in ("conditions", "give", "tiers", "limits")}
    if "give" in body:
        said["give"] = {name: body["give"].get(name) for name in ("kind", "label", "unit", "fixed", "percent", "max")}
    if "tiers" in body:
        said["tiers"] = [
            {"from": tier["since"], "fixed": tier.get("fixed"), "percent": tier.get("percent")}
            for tier in body["tiers"] or []
        ]
    if "conditions" in body:
        said["if"] = _whole(body["conditions"], ("min_amount", "within_days", "metadata"))
    if "limits" in body:
        said["limits"] = _whole(body["limits"], ("per_referrer", "budget"))
    return said


def _whole(given: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    found = {name: (given or {}).get(name) for name in names}
    return found if any(value is not None for value in found.values()) else None


def _members(said: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: None if said[name] is None else rfc_3339(said[name]) for name in ("starts_at", "ends_at")}
    return {**said, **times}


def rule_view(rule: KeptRule, spent: list[Spent]) -> dict[str, Any]:
    """A rule as admins and keys see it."""
    said = orjson.loads(rule.definition)
    return {
        "id": rule.id,
        "version": rule.version,
        **_members(said),
        "created_at": rfc_3339(rule.created_at),
        "changed_at": rfc_3339(rule.changed_at),
        "spent": _spent(said, spent),
        "warnings": warnings_of(said),
    }


def version_view(rule: KeptRule) -> dict[str, Any]:
    """What a rule said in one of its versions."""
    return {"version": rule.version, "changed_at": rfc_3339(rule.changed_at), **_members(orjson.loads(rule.definition))}


def _spent(said: Mapping[str, Any], spent: list[Spent]) -> dict[str, Any]:
    budget = (said["limits"] or {}).get("budget")
    own = budget["unit"] if budget else said["give"]["unit"]
    unit = own or next((found.unit for found in spent if found.unit is not None), None)
    amount = sum(found.amount for found in spent if found.unit == unit and unit is not None)
    return {"unit": unit, "amount": min(amount, LARGEST_SUM), "count": sum(found.count for found in spent)}


def warnings_of(said: Mapping[str, Any]) -> list[str]:
    """What may be amiss with a rule that is good in itself."""
    if said["on"] == "signup" and said["hold_days"] == 0 and said["approval"] == "automatic":
        return ["A sign-up costs nothing: without a hold, whoever makes accounts is rewarded at once."]
    return []

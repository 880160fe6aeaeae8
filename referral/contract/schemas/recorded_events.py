"""What a reported event caused, or why it caused nothing."""

from marshmallow import Schema, fields

from referral.contract.schemas.attribution import EventAttributionSchema
from referral.contract.schemas.events import EventSchema
from referral.contract.schemas.fields import EXAMPLE_ID, Words, about, identifier
from referral.contract.schemas.referrals import ReferralSchema
from referral.contract.schemas.rewards import RewardSchema
from referral.queries.rules import SKIP_REASONS


class IgnoredSchema(Schema):
    pointer = fields.String(metadata=about("Where it was said (RFC 6901)", "/user/email"))
    reason = fields.String(
        metadata=about(
            "Why it was not taken: `email-taken`, `username-taken`, `username-reserved` or `forbidden`", "email-taken"
        )
    )
    user_id = fields.String(
        allow_none=True, metadata={**about("Who has it; null if nobody has it", EXAMPLE_ID), "format": "uuid"}
    )


class SkippedRuleSchema(Schema):
    rule_id = identifier("The rule")
    reason = Words(
        "SkippedReason",
        {f"skipped-{word}": word for word in SKIP_REASONS},
        metadata=about("The first of the reasons, in this order", "times"),
    )


class RecordedEventSchema(Schema):
    event = fields.Nested(EventSchema)
    user_id = identifier("Our id of the user whom it is about")
    attribution = fields.Nested(EventAttributionSchema)
    referral = fields.Nested(
        ReferralSchema, allow_none=True, metadata={"description": "That the user came by somebody; null if by nobody"}
    )
    rewards = fields.List(
        fields.Nested(RewardSchema),
        metadata={"description": "What the event earned; of a refund, what it changed"},
    )
    skipped = fields.List(fields.Nested(SkippedRuleSchema), metadata={"description": "Which rules gave nothing, and why"})
    ignored = fields.List(
        fields.Nested(IgnoredSchema),
        metadata={"description": "What was said of the user and is another's: the event is recorded without it"},
    )


class BatchResultSchema(Schema):
    status = fields.Integer(metadata=about("As POST /events would have answered", 201))
    body = fields.Dict(metadata={"description": "As POST /events would have answered: a recorded event, or a problem"})


class EventBatchResultSchema(Schema):
    results = fields.List(fields.Nested(BatchResultSchema), metadata={"description": "One for each event, in order"})

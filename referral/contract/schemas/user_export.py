"""The export of a user."""

from marshmallow import Schema, fields

from referral.contract.schemas.balances import BalanceSchema, RedemptionSchema
from referral.contract.schemas.codes import CodeSchema
from referral.contract.schemas.events import EventSchema
from referral.contract.schemas.fields import EXAMPLE_CODE, about, identifier, time
from referral.contract.schemas.rewards import RewardSchema
from referral.contract.schemas.second_factors import SecondFactorSchema
from referral.contract.schemas.sessions import SessionSchema
from referral.contract.schemas.users import UserSchema


class ExportedIdentitySchema(Schema):
    issuer = fields.String(metadata=about("The identity provider", "https://accounts.google.com"))
    subject = fields.String(metadata=about("Who the user is there", "110169484474386276334"))
    created_at = time("Since when it is known")


class ExportedMailSchema(Schema):
    kind = fields.String(metadata=about("What it is about", "code"))
    recipient = fields.String(metadata=about("Where it goes", "alice@example.com"))
    created_at = time("When it was queued")


class ExportedLinkSchema(Schema):
    purpose = fields.String(metadata=about("What it is for", "verify-email"))
    email = fields.String(allow_none=True, metadata=about("Where it was mailed", "alice@example.com"))
    created_at = time("When it was mailed")
    expires_at = time("Until when it is good")
    used_at = time("When it was used; null if it was not", allow_none=True)


class ExportedReviewSchema(Schema):
    status = fields.String(metadata=about("`open`, `cleared` or `rejected`", "cleared"))
    score = fields.Integer(metadata=about("What the signals came to", 60))
    opened_at = time("Since when it waited for a decision")
    decided_at = time("When it was decided; null while it is open", allow_none=True)
    reason = fields.String(allow_none=True, metadata=about("Why", "The same family, two phones"))


class ExportedSignalSchema(Schema):
    kind = fields.String(metadata=about("What made the referral suspicious", "same-device"))
    weight = fields.Integer(metadata=about("What it counts", 60))
    at = time("When it was noticed")


class ExportedReferralSchema(Schema):
    id = identifier("Who came by the user")
    joined_at = time("When they came")
    code = fields.String(metadata=about("By which code", EXAMPLE_CODE))


class ExportedContextSchema(Schema):
    event_id = fields.String(metadata=about("The event", "in_1QXyz"))
    kind = fields.String(metadata=about("Of what an HMAC is kept", "ip"))


class SecurityEventSchema(Schema):
    id = identifier("The event's id")
    at = time("When it happened")
    event = fields.String(metadata=about("What happened", "signed-in"))
    actor_id = fields.String(allow_none=True, metadata=about("Who did it; null for somebody unknown", None))
    user_id = fields.String(allow_none=True, metadata=about("Whose account it is about", None))
    address = fields.String(allow_none=True, metadata=about("From which address", "192.0.2.1"))
    detail = fields.Dict(metadata={"description": "What else is known of it"})


class UserExportSchema(Schema):
    exported_at = time("When the document was made")
    user = fields.Nested(UserSchema)
    second_factor = fields.Nested(SecondFactorSchema)
    identities = fields.List(fields.Nested(ExportedIdentitySchema))
    mails = fields.List(fields.Nested(ExportedMailSchema))
    review = fields.Nested(
        ExportedReviewSchema, allow_none=True, metadata={"description": "Of the referral by which the user came"}
    )
    signals = fields.List(fields.Nested(ExportedSignalSchema))
    links = fields.List(fields.Nested(ExportedLinkSchema))
    codes = fields.List(fields.Nested(CodeSchema))
    referrals = fields.List(fields.Nested(ExportedReferralSchema))
    events = fields.List(fields.Nested(EventSchema))
    event_contexts = fields.List(fields.Nested(ExportedContextSchema))
    balances = fields.List(fields.Nested(BalanceSchema))
    rewards = fields.List(fields.Nested(RewardSchema))
    redemptions = fields.List(fields.Nested(RedemptionSchema))
    sessions = fields.List(fields.Nested(SessionSchema))
    security_events = fields.List(fields.Nested(SecurityEventSchema))

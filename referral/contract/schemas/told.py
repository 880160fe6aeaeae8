"""What changes carry: the whole object that changed, which says whose it is."""

from marshmallow import Schema, fields

from referral.contract.schemas.balances import BalanceSchema, RedemptionSchema
from referral.contract.schemas.codes import CodeSchema
from referral.contract.schemas.fields import about, identifier
from referral.contract.schemas.people import PersonSchema
from referral.contract.schemas.referrals import ReferralSchema
from referral.contract.schemas.rewards import RewardSchema
from referral.contract.schemas.users import UserSchema
from referral.contract.schemas.webhooks import WebhookSchema
from referral.queries.changes import ChangeType


class ToldCodeSchema(CodeSchema):
    user_id = identifier("Whose it is")
    ended_by = fields.String(
        allow_none=True,
        metadata=about(
            "Why nobody can use it: `expired`, `revoked`, `exhausted` or `suspended`; null while it is active", None
        ),
    )


class ToldReferralSchema(ReferralSchema):
    referrer_id = identifier("By whom the user came")


class ToldBalanceSchema(BalanceSchema):
    user_id = identifier("Whose it is")


class PingSchema(Schema):
    webhook_id = identifier("Which webhook is tried")


# Of each type: when it is sent, and what its `data` is.
TOLD: dict[ChangeType, tuple[str, type[Schema]]] = {
    "user.created": ("There is a user: registered, named by the product, or signed in for the first time", UserSchema),
    "user.suspended": ("An admin has suspended a user", UserSchema),
    "user.unsuspended": ("A user's suspension has ended", UserSchema),
    "user.erased": ("A user is gone, and with them what was personal", PersonSchema),
    "code.created": ("A user has a code", ToldCodeSchema),
    "code.updated": ("A code was edited, or is active again", ToldCodeSchema),
    "code.ended": ("Nobody can use a code any more", ToldCodeSchema),
    "referral.created": ("A user has come by another one", ToldReferralSchema),
    "referral.converted": ("A referral is converted: by the first event of a type that does so", ToldReferralSchema),
    "referral.retracted": (
        "A referral is converted no more, because all of that is refunded (`joined`), or is taken back (`ended`)",
        ToldReferralSchema,
    ),
    "referral.rejected": (
        "A review has rejected a referral: what it brought is taken back, and it earns nothing more",
        ToldReferralSchema,
    ),
    "review.opened": ("A referral looks suspicious: its rewards wait until somebody decides", ToldReferralSchema),
    "review.cleared": ("A review found nothing wrong with a referral: its rewards wait no more", ToldReferralSchema),
    "review.overdue": ("A review has waited for somebody's decision for long", ToldReferralSchema),
    "reward.created": ("A reward is made, by a rule or by hand", RewardSchema),
    "reward.approved": ("A reward is earned: a balance can be spent, and the product delivers what is none", RewardSchema),
    "reward.fulfilled": ("The product has delivered a reward", RewardSchema),
    "reward.voided": ("A pending reward is void", RewardSchema),
    "reward.reversed": ("A reward is taken back, wholly or in part", RewardSchema),
    "balance.changed": ("A user has more or less in a unit", ToldBalanceSchema),
    "redemption.created": ("A user has spent of a balance, or reserved it", RedemptionSchema),
    "redemption.captured": ("What was reserved is spent", RedemptionSchema),
    "redemption.cancelled": ("What was spent or reserved is given back", RedemptionSchema),
    "webhook.disabled": ("A webhook is disabled, by an admin or because it failed", WebhookSchema),
    "ping": ("An admin tries a webhook", PingSchema),
}

"""Reviews: referrals that look suspicious, what makes them so, and what was decided."""

from typing import Any

import orjson
from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.config.weights import DEFAULT_WEIGHTS, MOST_WEIGHT
from referral.contract.schemas.balances import BalanceSchema, balance_view
from referral.contract.schemas.events import EventValueSchema
from referral.contract.schemas.fields import Boolean, InputSchema, Words, about, identifier, integer, line, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.contract.schemas.people import PersonSchema, person
from referral.contract.schemas.rewards import LONGEST_REASON, RewardSchema
from referral.queries import reviews
from referral.queries.ledger import Balance
from referral.queries.reviews import KeptSignal, Review
from referral.queries.rewards import Reward

LONGEST_NOTE = 500
KINDS = ", ".join(f"`{kind}`" for kind in DEFAULT_WEIGHTS)


def _status(**kwargs: Any) -> Words:
    words = {f"review-is-{word}": word for word in reviews.STATUSES}
    return Words("ReviewStatus", words, metadata=about("rejected is final; a cleared one may open again", "open"), **kwargs)


def _reason() -> fields.Field[str]:
    return line("Why, for other reviewers", "The same family, two phones", LONGEST_REASON, required=True)


class ReviewQuerySchema(ListQuerySchema):
    status = _status()


class ReviewClearingSchema(InputSchema):
    reason = _reason()


class ReviewRejectionSchema(InputSchema):
    reason = _reason()
    suspend_referrer = Boolean(
        load_default=False,
        metadata={"description": "Whether the referrer is suspended, too", "type": "boolean", "example": False},
    )


class SignalCreationSchema(InputSchema):
    weight = integer(1, MOST_WEIGHT, required=True, metadata=about("How much it counts", 50))
    note = line("What was noticed", "Charged back twice", LONGEST_NOTE, required=True)


class SignalSchema(Schema):
    kind = fields.String(metadata=about(f"{KINDS}, or `reported` by somebody", "same-device"))
    weight = fields.Integer(metadata=about("What it counts", 60))
    evidence = fields.Dict(
        allow_none=True,
        metadata={"description": "What shows it, by kind; null once that is no longer kept", "example": {}},
    )
    at = time("When it was noticed")


class DeciderSchema(Schema):
    user = fields.Nested(PersonSchema, allow_none=True, metadata={"description": "An admin; null for a key"})
    key = fields.String(allow_none=True, metadata=about("What the service key was called; null for an admin", None))


class ReviewItemSchema(Schema):
    user = fields.Nested(PersonSchema, metadata={"description": "Who came"})
    external_id = fields.String(allow_none=True, metadata=about("The product's own id of who came", "42"))
    referrer = fields.Nested(PersonSchema, metadata={"description": "By whom they came"})
    status = _status()
    score = fields.Integer(
        metadata=about("What the signals come to: of each kind the greatest weight, and each report", 120)
    )
    kinds = fields.List(fields.String(), metadata=about("Of which kinds they are", ["same-device", "burst"]))
    opened_at = time("Since when it waits for somebody's decision")
    reminded_at = time("When the admins were reminded of it; null if they were not", allow_none=True)
    decided_at = time("When it was decided; null while it is open", allow_none=True)
    decided_by = fields.Nested(DeciderSchema, allow_none=True, metadata={"description": "By whom; null while it is open"})
    reason = fields.String(allow_none=True, metadata=about("Why; null while it is open, and once the account is gone", None))
    suspends_referrer = fields.Boolean(metadata=about("Whether the rejection suspended the referrer", False))


class ReviewPageSchema(PageSchema):
    items = fields.List(fields.Nested(ReviewItemSchema))


class ReviewSchema(ReviewItemSchema):
    signals = fields.List(fields.Nested(SignalSchema), metadata={"description": "The oldest first"})
    rewards = fields.List(
        fields.Nested(RewardSchema), metadata={"description": "All that the referral brought, to either side"}
    )


class UndoneRewardSchema(Schema):
    id = identifier("The reward's id")
    user_id = identifier("Whose it is")
    effect = Words(
        "RejectionEffect",
        {f"effect-is-{word}": word for word in ("void", "reversed")},
        metadata=about("What becomes of it", "void"),
    )
    value = fields.Nested(EventValueSchema, allow_none=True, metadata={"description": "What is left of it, and is taken"})


class BalanceAfterSchema(BalanceSchema):
    user_id = identifier("Whose it is")


class ReviewPreviewSchema(Schema):
    rewards = fields.List(fields.Nested(UndoneRewardSchema))
    balances = fields.List(
        fields.Nested(BalanceAfterSchema), metadata={"description": "What is changed by it, as it is after it"}
    )


def signal_view(signal: KeptSignal) -> dict[str, Any]:
    """A signal, as keys and admins see it."""
    return {
        "kind": signal.kind,
        "weight": signal.weight,
        "evidence": None if signal.evidence is None else orjson.loads(signal.evidence),
        "at": rfc_3339(signal.at),
    }


def review_view(review: Review, kinds: list[str]) -> dict[str, Any]:
    """A review, with the kinds of its signals, as keys and admins see it."""
    decided_by = None
    if review.decided_at is not None:
        by_user = review.decided_by_user
        decider = None if by_user is None else person(by_user, review.decider_username, review.decider_name)
        decided_by = {"user": decider, "key": review.decided_by_key}
    return {
        "user": person(review.user_id, review.username, review.name),
        "external_id": review.external_id,
        "referrer": person(review.referrer_id, review.referrer_username, review.referrer_name),
        "status": review.status,
        "score": review.score,
        "kinds": kinds,
        "opened_at": rfc_3339(review.opened_at),
        "reminded_at": None if review.reminded_at is None else rfc_3339(review.reminded_at),
        "decided_at": None if review.decided_at is None else rfc_3339(review.decided_at),
        "decided_by": decided_by,
        "reason": review.reason,
        "suspends_referrer": review.suspends == 1,
    }


def undone_view(reward: Reward, *, is_void: bool) -> dict[str, Any]:
    """A reward that a rejection would end."""
    return {
        "id": reward.id,
        "user_id": reward.user_id,
        "effect": "void" if is_void else "reversed",
        "value": None if reward.unit is None else {"unit": reward.unit, "amount": reward.rest},
    }


def balance_after_view(user_id: str, balance: Balance) -> dict[str, Any]:
    """What a user would have in a unit."""
    return {"user_id": user_id, **balance_view(balance)}

"""Balances, statements and redemptions: what users have, and what they spend."""

from typing import Any

import orjson
from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.events import LONGEST_UNIT, MOST_AMOUNT, can_be_in_a_path
from referral.contract.schemas.fields import InputSchema, Words, about, identifier, integer, line, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.contract.schemas.rewards import LONGEST_REFERENCE, callers_id
from referral.queries.ledger import Balance, Line, Redemption

LONGEST_NOTE = 500
LEAST_HOLD, MOST_HOLD = 60, 86_400


class BalanceSchema(Schema):
    unit = fields.String(metadata=about("An ISO 4217 code, or a unit of the installation's own", "USD"))
    pending = fields.Integer(metadata=about("In rewards that wait, in the unit's smallest part", 980))
    available = fields.Integer(
        metadata=about("What can be spent; below zero after a reward that was spent is taken back. Sums may pass 2^53", 500)
    )
    reserved = fields.Integer(metadata=about("In reservations", 0))
    earned = fields.Integer(metadata=about("All that was ever approved", 1480))
    spent = fields.Integer(metadata=about("All that was spent, less what was given back", 0))
    reversed = fields.Integer(metadata=about("All that was taken back after it was approved", 0))


class BalancesSchema(Schema):
    items = fields.List(fields.Nested(BalanceSchema), metadata={"description": "One for each unit that the user ever had"})


class LineSchema(Schema):
    id = fields.String(
        metadata=about("The line's id: what caused it, and which sort of cause that is", "approval:01a1fc33-…")
    )
    at = time("When it was written")
    kind = fields.String(
        metadata=about(
            "`approval`, `refund`, `reversal`, `retraction`, `redemption`, `reservation`, `release` or `cancellation`",
            "approval",
        )
    )
    unit = fields.String(metadata=about("The statement's unit", "USD"))
    amount = fields.Integer(metadata=about("What was added; below zero: what was taken", 980))
    balance_after = fields.Integer(metadata=about("What was available then", 1480))
    reward_id = fields.String(allow_none=True, metadata={**about("By which reward", None), "format": "uuid"})
    redemption_id = fields.String(allow_none=True, metadata=about("By which redemption", None))
    reference = fields.String(allow_none=True, metadata=about("The redemption's reference", None))
    note = fields.String(allow_none=True, metadata=about("The redemption's note, or why something was taken back", None))


class StatementPageSchema(PageSchema):
    items = fields.List(fields.Nested(LineSchema))


class StatementQuerySchema(ListQuerySchema):
    unit = line("Of which unit", "USD", LONGEST_UNIT, required=True)


class RedemptionCreationSchema(InputSchema):
    id = callers_id("The caller's own id of the redemption, remembered for ever", required=True, validate=can_be_in_a_path)
    unit = line("In which unit", "USD", LONGEST_UNIT, required=True)
    amount = integer(1, MOST_AMOUNT, required=True, metadata=about("How much, in the unit's smallest part", 500))
    reference = line("What the product calls it", "order-17", LONGEST_REFERENCE, allow_none=True)
    note = line("For the statement", "Taken off order 17", LONGEST_NOTE, allow_none=True)
    hold_seconds = integer(
        LEAST_HOLD,
        MOST_HOLD,
        allow_none=True,
        metadata=about("Only reserve it, for so long; it is captured or released afterwards, or released by itself", 900),
    )


def _status() -> Words:
    words = {f"redemption-is-{word}": word for word in ("reserved", "done", "released", "cancelled")}
    return Words("RedemptionStatus", words, metadata=about("released and cancelled are final", "done"))


class RedemptionSchema(Schema):
    id = fields.String(metadata=about("The caller's own id", "re_7Abc"))
    user_id = identifier("Whose it is")
    unit = fields.String(metadata=about("In which unit", "USD"))
    amount = fields.Integer(metadata=about("In the unit's smallest part", 500))
    status = _status()
    reference = fields.String(allow_none=True, metadata=about("What the product calls it", "order-17"))
    note = fields.String(allow_none=True, metadata=about("For the statement", "Taken off order 17"))
    created_at = time("When it was made")
    expires_at = time("When a reservation is released by itself; null if it is none", allow_none=True)
    balance = fields.Nested(BalanceSchema, metadata={"description": "The user's balance after it"})


def balance_view(balance: Balance) -> dict[str, Any]:
    """A balance, as its user and keys see it; whatever else is known of it is left out."""
    return {name: getattr(balance, name) for name in Balance.__slots__}


def line_view(found: Line) -> dict[str, Any]:
    """A line of a statement of what is available."""
    return {
        "id": f"{found.kind}:{found.caused_by}",
        "at": rfc_3339(found.at),
        "kind": found.kind,
        "unit": found.unit,
        "amount": -found.amount if found.debit == "available" else found.amount,
        "balance_after": found.available_after,
        "reward_id": found.reward_id,
        "redemption_id": found.redemption_id,
        "reference": found.reference,
        "note": found.note,
    }


def redemption_view(redemption: Redemption, balance: dict[str, Any]) -> dict[str, Any]:
    """A redemption, with the user's balance."""
    return {
        "id": redemption.id,
        "user_id": redemption.user_id,
        "unit": redemption.unit,
        "amount": redemption.amount,
        "status": redemption.status,
        "reference": redemption.reference,
        "note": redemption.note,
        "created_at": rfc_3339(redemption.created_at),
        "expires_at": None if redemption.due_at is None else rfc_3339(redemption.due_at),
        "balance": balance,
    }


def first_view(redemption: Redemption) -> dict[str, Any]:
    """A redemption as it was first answered: as it was made, with the balance of then."""
    outcome = orjson.loads(redemption.outcome)
    made = {"status": outcome["status"], "expires_at": outcome["expires_at"]}
    return {**redemption_view(redemption, outcome["balance"]), **made}

"""Attribution: what became of a code or click by which somebody came."""

from marshmallow import Schema

from referral.contract.schemas.fields import Words, about
from referral.queries.events import ATTRIBUTED, KEPT, NONE, REFUSED

REASONS = (
    "unknown",
    "expired",
    "revoked",
    "exhausted",
    "own-code",
    "cycle",
    "already-referred",
    "too-late",
    "click-expired",
    "suspended",
    "known-address",
)


class EventAttributionSchema(Schema):
    status = Words(
        "EventAttributionStatus",
        {f"attribution-{word}": word for word in (ATTRIBUTED, KEPT, NONE, REFUSED)},
        metadata=about(
            "attributed: the user came by the code's owner from now on; kept: they came by somebody before; none: nobody is "
            "known by whom they came; refused: the code or click caused nothing",
            ATTRIBUTED,
        ),
    )
    reason = Words(
        "EventAttributionReason",
        {f"attribution-{word}": word for word in REASONS},
        allow_none=True,
        metadata=about("Why a code or click caused nothing", None),
    )

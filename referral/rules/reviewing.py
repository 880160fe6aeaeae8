"""Reviews of suspicious referrals: what opens one, and what deciding it does. Neither a signal nor time decides any."""

from collections.abc import Iterable, Sequence

import orjson

from referral.config import CONFIG
from referral.ids import new_id
from referral.queries import referrals, reviews
from referral.queries.reviews import OPEN, REJECTED, KeptSignal
from referral.rules.suspicion import Signal
from referral.rules.work import Work

# The kind of what somebody reports: each report counts.
REPORTED = "reported"


def score_of(signals: Iterable[KeptSignal]) -> int:
    """What signals come to: of each kind the greatest weight once, and each report."""
    greatest: dict[tuple[str, str], int] = {}
    for signal in signals:
        counted_as = (signal.kind, signal.reference if signal.kind == REPORTED else "")
        greatest[counted_as] = max(signal.weight, greatest.get(counted_as, 0))
    return sum(greatest.values())


async def note_signals(work: Work, user_id: str, signals: Sequence[Signal], review: str) -> str:
    """Keep signals of the referral by which a user came, who is locked or made in this transaction; `review` is the
    referral's word. Opens the review, or a cleared one again, if what counts comes to `fraud.review_at`. Returns the
    referral's word after it. Without signals nothing is asked.

    A signal that is kept already stays as it is, and one of weight 0 is none. The user came by somebody: the schema
    refuses signals of anybody else.
    """
    given = [signal for signal in signals if signal.weight > 0]
    if not given:
        return review
    kept = {(signal.kind, signal.reference): signal for signal in await reviews.list_signals(work.conn, user_id)}
    new = {(signal.kind, signal.reference): signal for signal in given if (signal.kind, signal.reference) not in kept}
    if not new:
        return review
    added = [
        KeptSignal(signal.kind, signal.reference, signal.weight, orjson.dumps(signal.evidence).decode(), work.moment)
        for signal in new.values()
    ]
    rows = [{"kind": one.kind, "reference": one.reference, "weight": one.weight, "evidence": one.evidence} for one in added]
    await reviews.insert_signals(work.conn, user_id, rows, work.moment)
    if review == REJECTED:
        return review
    score = score_of([*kept.values(), *added])
    if review == OPEN:
        await reviews.update_score(work.conn, user_id, score)
        return review
    review_at = work.request.app[CONFIG].fraud.review_at
    # What somebody has found harmless opens it no second time.
    if not review_at or score_of(one for one in (*kept.values(), *added) if not one.judged) < review_at:
        return review
    await reviews.open_review(work.conn, user_id, score, work.moment)
    await reviews.set_review(work.conn, user_id, OPEN)
    standing = await referrals.find_standing(work.conn, user_id)
    assert standing is not None
    work.announce_referral("review.opened", user_id, standing.referrer_id)
    return OPEN


async def report(work: Work, user_id: str, weight: int, note: str, report_id: str | None = None) -> KeptSignal | None:
    """Keep what somebody reports of the referral by which a user came, who is locked. None for one who came by nobody.

    Where a report of the same id was kept before, it is returned as it is, and nothing is done.
    """
    standing = await referrals.find_standing(work.conn, user_id)
    if standing is None:
        return None
    if report_id is not None:
        for known in await reviews.list_signals(work.conn, user_id):
            if (known.kind, known.reference) == (REPORTED, report_id):
                return known
    signal = Signal(REPORTED, weight, {"note": note}, report_id or new_id())
    await note_signals(work, user_id, [signal], standing.review)
    await work.record("referral-reported", user=user_id, weight=weight)
    return KeptSignal(signal.kind, signal.reference, weight, orjson.dumps(signal.evidence).decode(), work.moment)

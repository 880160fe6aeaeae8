"""Rewards by hand: given once for each id of the caller's, which is remembered for ever."""

from typing import Any

from aiohttp import web

from referral.clock import DAY, rfc_3339
from referral.config import CONFIG
from referral.contract.schemas.rewards import reward_view
from referral.database import DATABASE, ConstraintViolation
from referral.ids import new_id
from referral.queries import rewards
from referral.queries.rewards import APPROVED, PENDING, NewReward, Reward
from referral.rules.idempotency import Answered, hash_of, id_mismatch
from referral.rules.product_users import describe, lock_named, naming_holders
from referral.rules.rewarding import as_kept, make_rewards
from referral.rules.suspension import suspended
from referral.rules.units import check_unit
from referral.rules.work import work_on


async def give(request: web.Request, body: dict[str, Any], asked: Any) -> Answered:
    """Give the reward that `body` (RewardCreationSchema) says; `asked` is the JSON document that it was made of. Raises a
    problem."""
    body_hash = hash_of(asked)
    known = await _find(request, body["id"])
    if known is not None:
        return _repeated(known, body, body_hash)
    value = body.get("value")
    if value is not None:
        check_unit(value["unit"], request.app[CONFIG])
    try:
        return Answered(await _give(request, body, body_hash), False)
    except ConstraintViolation as violation:
        if violation.constraint != "rewards_caller_id":
            raise
    # Of equal calls at once another one gave it.
    known = await _find(request, body["id"])
    assert known is not None
    return _repeated(known, body, body_hash)


async def _find(request: web.Request, caller_id: str) -> Reward | None:
    async with request.app[DATABASE].reader() as conn:
        return await rewards.find_reward_by_caller_id(conn, caller_id)


def _repeated(known: Reward, body: dict[str, Any], body_hash: str) -> Answered:
    """The first answer again: the reward as it was made. Raises `id-mismatch` for another body; of one whose user was erased
    nothing else is left to compare than what it was worth."""
    value = body.get("value") or {}
    is_alike = (known.kind, known.unit, known.value) == (body["kind"], value.get("unit"), value.get("amount"))
    if known.body_hash != body_hash if known.body_hash is not None else not is_alike:
        raise id_mismatch()
    release_at = known.created_at + round(body["hold_days"] * DAY)
    is_held = release_at > known.created_at
    first: dict[str, Any] = {
        "release_at": rfc_3339(release_at),
        "reason": body["reason"],
        "reversed": 0,
        "status": PENDING if is_held else APPROVED,
        "waiting_for": ["hold"] if is_held else [],
        "approved_at": None,
        "fulfilled_at": None,
        "reference": None,
    }
    view = reward_view(known)
    if not is_held:
        first["approved_at"] = view["created_at"]
    return Answered({**view, **first}, True)


async def _give(request: web.Request, body: dict[str, Any], body_hash: str) -> dict[str, Any]:
    value = body.get("value") or {}
    async with naming_holders(request), work_on(request) as work:
        await work.hold_caller()
        user, _ = await lock_named(work, body["user"])
        if user.suspended_at is not None:
            raise suspended()
        members = {name: said for name, said in body["user"].items() if name not in ("id", "external_id")}
        user = await describe(work, user, members, "/user")
        release_at = work.moment + round(body["hold_days"] * DAY)
        is_held = release_at > work.moment
        reward = NewReward(
            id=new_id(),
            user_id=user.id,
            kind=body["kind"],
            label=body.get("label"),
            unit=value.get("unit"),
            value=value.get("amount"),
            created_at=work.moment,
            release_at=release_at,
            status=PENDING if is_held else APPROVED,
            due_at=release_at if is_held else None,
            approved_at=None if is_held else work.moment,
            reason=body["reason"],
            caller_id=body["id"],
            body_hash=body_hash,
        )
        made = as_kept(reward)
        await make_rewards(work, [reward], [made])
        await work.record("reward-made", user=user.id, reward_id=reward.id)
    return reward_view(made, made.created_at)

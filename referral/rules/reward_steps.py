"""Steps of a reward as people take them: approved, rejected, fulfilled, reversed. Each is the whole story of a request,
which the API and the back office tell alike."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from referral.contract.schemas.rewards import reward_view, state_of
from referral.database import ConstraintViolation
from referral.queries import locks, rewards
from referral.queries.rewards import Reward
from referral.rules import rewards as steps
from referral.rules.idempotency import Answered, hash_of, id_mismatch
from referral.rules.rewards import again, locked
from referral.rules.work import Work, work_on


@asynccontextmanager
async def _step(request: web.Request, reward_id: str) -> AsyncIterator[tuple[Work, Reward]]:
    """The reward of this id, while nobody else changes it. Raises `not-found`."""
    async with work_on(request) as work:
        await locks.hold_rules(work.conn)
        await work.hold_caller()
        yield work, await locked(work, reward_id)


async def _view(work: Work, reward: Reward) -> dict[str, Any]:
    return reward_view(await again(work, reward), work.moment)


async def approve_reward(request: web.Request, reward_id: str, *, at_once: bool) -> dict[str, Any]:
    """The reward once it is approved, and its hold over if `at_once`. Raises `not-found`, `reward-state` and
    `sum-too-large`."""
    async with _step(request, reward_id) as (work, reward):
        if await steps.approve(work, reward, at_once=at_once):
            await work.record("reward-approved", user=reward.user_id, reward_id=reward.id, now=at_once)
        return await _view(work, reward)


async def reject_reward(request: web.Request, reward_id: str, reason: str) -> dict[str, Any]:
    """The reward once it is void. Raises `not-found` and `reward-state`."""
    async with _step(request, reward_id) as (work, reward):
        if await steps.reject(work, reward, reason):
            await work.record("reward-rejected", user=reward.user_id, reward_id=reward.id)
        return await _view(work, reward)


async def fulfil_reward(request: web.Request, reward_id: str, reference: str | None) -> dict[str, Any]:
    """The reward once it is delivered. Raises `not-found` and `reward-state`."""
    async with _step(request, reward_id) as (work, reward):
        if await steps.fulfil(work, reward, reference):
            await work.record("reward-fulfilled", user=reward.user_id, reward_id=reward.id)
        return await _view(work, reward)


async def reverse_reward(request: web.Request, reward_id: str, body: dict[str, Any], asked: Any) -> Answered:
    """Take back what `body` (RewardReversalSchema) says of a reward; `asked` is the JSON document that it was made of. It is
    done once for each id. Raises `not-found`, `reward-state`, `id-mismatch`, `sum-too-large` and `validation-error`."""
    body_hash, amount = hash_of(asked), body.get("amount")
    try:
        async with work_on(request) as work:
            await work.hold_caller()
            reward = await locked(work, reward_id)
            known = await rewards.find_reversal(work.conn, body["id"])
            if known is not None:
                # Of a user who was erased nothing else is left to compare than the amount.
                is_alike = amount in (None, known.amount)
                is_same = known.body_hash == body_hash if known.body_hash is not None else is_alike
                if known.reward_id != reward.id or not is_same:
                    raise id_mismatch()
                first = {**orjson.loads(known.outcome), "reason": body["reason"]}
                return Answered({**reward_view(reward), **first}, True)
            taken = reward.rest or None if amount is None else amount
            await steps.reverse(work, reward, body["id"], amount, body["reason"])
            document = await _view(work, reward)
            outcome = orjson.dumps(state_of(document)).decode()
            await rewards.insert_reversal(
                work.conn, body["id"], reward.id, taken, body["reason"], work.moment, outcome, body_hash
            )
            await work.record("reward-reversed", user=reward.user_id, reward_id=reward.id, amount=taken)
    except ConstraintViolation as violation:
        # Another reward was reversed by this id at the same moment.
        if violation.constraint in ("reversals_pkey", "transfers_pkey"):
            raise id_mismatch() from None
        raise
    return Answered(document, False)

"""Rewards: listed, made by hand, approved, rejected, fulfilled and reversed."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
from referral.contract.parameters import id_in_path
from referral.contract.schemas.rewards import (
    RewardApprovalSchema,
    RewardCreationSchema,
    RewardFulfilmentSchema,
    RewardPageSchema,
    RewardQuerySchema,
    RewardRejectionSchema,
    RewardReversalSchema,
    RewardSchema,
    RewardsOfUserQuerySchema,
    reward_view,
    state_of,
)
from referral.database import DATABASE, Connection, ConstraintViolation
from referral.handlers import API, USER_PATH
from referral.queries import locks, rewards
from referral.queries.rewards import Reward
from referral.rules import rewards as steps
from referral.rules.giving import give
from referral.rules.idempotency import REPLAYED, hash_of, id_mismatch
from referral.rules.named_user import id_of_named, known_user
from referral.rules.rewards import again, locked, no_such_reward
from referral.rules.work import Work, work_on
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY, read_json
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()

REWARD_PATH = f"{API}/rewards/{{reward_id}}"


@routes.post(f"{API}/rewards")
@allow(Access.WRITE)
@docs(
    tags=["Rewards"],
    operationId="createReward",
    summary="Give a reward by hand",
    description="Made once for each `id`, for ever: the same call again is answered as the first time, with 200 and "
    "`Idempotency-Replayed: true`; another one with the same id is refused. The user is made or changed by it as by "
    "`PUT /users/{user}`.",
    problems=(
        "not-found",
        "email-taken",
        "username-taken",
        "external-id-taken",
        "user-suspended",
        "id-mismatch",
        "unit-unknown",
        "sum-too-large",
    ),
    request_examples={
        "balance": {
            "id": "goodwill-17",
            "user": {"external_id": "42"},
            "kind": "balance",
            "value": {"unit": "USD", "amount": 500},
            "reason": "For the trouble",
        },
        "coupon": {
            "id": "goodwill-18",
            "user": {"external_id": "42"},
            "kind": "coupon",
            "label": "A month",
            "reason": "For the trouble",
        },
    },
    response_headers={
        200: {"Idempotency-Replayed": "`true`: the answer is that of the first call"},
        201: {"Location": "The reward's address"},
    },
)
@json_schema(RewardCreationSchema)
@response_schema(RewardSchema, 201, description="The reward")
@response_schema(RewardSchema, 200, description="It was given before")
async def create_reward(request: web.Request) -> web.Response:
    given = await give(request, request[BODY], await read_json(request))
    if given.is_repeated:
        return answer(given.document, 200, REPLAYED)
    location = request.app[PUBLIC_URL].path(f"{API}/rewards/{given.document['id']}")
    return answer(given.document, 201, {"Location": location})


@routes.get(f"{API}/rewards")
@allow(Access.READ)
@docs(
    tags=["Rewards"],
    operationId="listRewards",
    summary="All rewards, or those that are looked for",
    description="Newest first. `total` counts no further than 10,000.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(RewardQuerySchema)
@response_schema(RewardPageSchema, 200, description="A page of rewards")
async def list_rewards(request: web.Request) -> web.StreamResponse:
    named = request[QUERY].get("user")

    async def whose(conn: Connection) -> str | None:
        return None if named is None else await id_of_named(conn, named)

    return await _list(request, whose)


@routes.get(f"{USER_PATH}/rewards")
@allow(Access.SELF_OR_READ)
@docs(
    tags=["Users"],
    operationId="listRewardsOfUser",
    summary="A user's rewards",
    description="Newest first. `total` counts no further than 10,000.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(RewardsOfUserQuerySchema)
@response_schema(RewardPageSchema, 200, description="A page of rewards")
async def list_rewards_of_user(request: web.Request) -> web.StreamResponse:
    return await _list(request, lambda conn: known_user(request, conn))


async def _list(request: web.Request, whose: Callable[[Connection], Awaitable[str | None]]) -> web.StreamResponse:
    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Reward], int]:
        return await _find(conn, request[QUERY], await whose(conn), before, limit)

    return await answer_list(
        request, "rewards", RewardSchema, read, key=lambda one: (one.created_at, one.id), view=reward_view
    )


async def _find(
    conn: Connection, query: dict[str, Any], user_id: str | None, before: Key, limit: int
) -> tuple[list[Reward], int]:
    status, rule_id, event_id = query.get("status"), query.get("rule"), query.get("event")
    if user_id is not None:
        found = await rewards.list_rewards_of_user(conn, user_id, rule_id, event_id, status, before, limit)
        return found, await rewards.count_rewards_of_user(conn, user_id, rule_id, event_id, status, MOST_COUNTED)
    if event_id is not None:
        # An event has as many rewards as there are rules.
        all_found = await rewards.list_rewards_of_event(conn, event_id)
        kept = [
            reward
            for reward in all_found
            if (rule_id is None or reward.rule_id == rule_id) and (status is None or reward.status == status)
        ]
        kept.sort(key=lambda reward: (reward.created_at, reward.id), reverse=True)
        return [reward for reward in kept if (reward.created_at, reward.id) < before][:limit], len(kept)
    if rule_id is not None:
        found = await rewards.list_rewards_of_rule(conn, rule_id, status, before, limit)
        return found, await rewards.count_rewards_of_rule(conn, rule_id, status, MOST_COUNTED)
    if status is not None:
        found = await rewards.list_rewards_in_state(conn, status, before, limit)
        return found, await rewards.count_rewards_in_state(conn, status, MOST_COUNTED)
    return await rewards.list_rewards(conn, before[1], limit), await rewards.count_rewards(conn, MOST_COUNTED)


@routes.get(REWARD_PATH)
@allow(Access.READ)
@docs(
    tags=["Rewards"],
    operationId="getReward",
    summary="A reward",
    description="As it is now.",
    problems=("not-found",),
)
@response_schema(RewardSchema, 200, description="The reward")
async def get_reward(request: web.Request) -> web.Response:
    reward_id = id_in_path(request, "reward_id", no_such_reward())
    async with request.app[DATABASE].reader() as conn:
        reward = await rewards.find_reward(conn, reward_id)
    if reward is None:
        raise no_such_reward()
    return answer(reward_view(reward))


async def _step(request: web.Request, take: Callable[[Work, Reward], Awaitable[None]]) -> web.Response:
    """The reward that the path names, after a step that is taken while nobody else changes it."""
    reward_id = id_in_path(request, "reward_id", no_such_reward())
    async with work_on(request) as work:
        await locks.hold_rules(work.conn)
        await work.hold_caller()
        reward = await locked(work, reward_id)
        await take(work, reward)
        document = reward_view(await again(work, reward), work.moment)
    return answer(document)


@routes.post(f"{REWARD_PATH}/approve")
@allow(Access.ADMIN)
@docs(
    tags=["Rewards"],
    operationId="approveReward",
    summary="Approve a pending reward",
    description="Its hold goes on, unless `now` ends that, too: it is released at the hold's end. A review of the "
    "referral, and the user's suspension, keep it in any case. One that is approved already stays so.",
    problems=("not-found", "reward-state", "sum-too-large"),
)
@json_schema(RewardApprovalSchema, example={"now": True})
@response_schema(RewardSchema, 200, description="The reward")
async def approve_reward(request: web.Request) -> web.Response:
    at_once = request[BODY]["now"]

    async def take(work: Work, reward: Reward) -> None:
        if await steps.approve(work, reward, at_once=at_once):
            await work.record("reward-approved", user=reward.user_id, reward_id=reward.id, now=at_once)

    return await _step(request, take)


@routes.post(f"{REWARD_PATH}/reject")
@allow(Access.ADMIN)
@docs(
    tags=["Rewards"],
    operationId="rejectReward",
    summary="Reject a pending reward",
    description="It is void for good, and what it took of its rule's limits is given back. One that is void already stays "
    "so.",
    problems=("not-found", "reward-state"),
)
@json_schema(RewardRejectionSchema)
@response_schema(RewardSchema, 200, description="The reward")
async def reject_reward(request: web.Request) -> web.Response:
    reason = request[BODY]["reason"]

    async def take(work: Work, reward: Reward) -> None:
        if await steps.reject(work, reward, reason):
            await work.record("reward-rejected", user=reward.user_id, reward_id=reward.id)

    return await _step(request, take)


@routes.post(f"{REWARD_PATH}/fulfil")
@allow(Access.WRITE)
@docs(
    tags=["Rewards"],
    operationId="fulfilReward",
    summary="Note that an approved reward is delivered",
    description="Of a coupon, or of what is custom: the product has given it. The same call again changes nothing.",
    problems=("not-found", "reward-state"),
)
@json_schema(RewardFulfilmentSchema)
@response_schema(RewardSchema, 200, description="The reward")
async def fulfil_reward(request: web.Request) -> web.Response:
    reference = request[BODY].get("reference")

    async def take(work: Work, reward: Reward) -> None:
        await steps.fulfil(work, reward, reference)

    return await _step(request, take)


@routes.post(f"{REWARD_PATH}/reverse")
@allow(Access.ADMIN)
@docs(
    tags=["Rewards"],
    operationId="reverseReward",
    summary="Take back what was approved",
    description="An amount, or all that is left. What was spent of it becomes a debt, which the next rewards pay. Made "
    "once for each `id`, for ever: the same call again is answered as the first time, with `Idempotency-Replayed: true`.",
    problems=("not-found", "reward-state", "id-mismatch", "sum-too-large"),
)
@json_schema(RewardReversalSchema, example={"id": "rev-1", "amount": 100, "reason": "Paid twice"})
@response_schema(RewardSchema, 200, description="The reward after it")
async def reverse_reward(request: web.Request) -> web.Response:
    body, reward_id = request[BODY], id_in_path(request, "reward_id", no_such_reward())
    body_hash, amount = hash_of(await read_json(request)), body.get("amount")
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
                return answer({**reward_view(reward), **first}, headers=REPLAYED)
            taken = reward.rest or None if amount is None else amount
            await steps.reverse(work, reward, body["id"], amount, body["reason"])
            document = reward_view(await again(work, reward), work.moment)
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
    return answer(document)

"""Rewards: listed, made by hand, approved, rejected, fulfilled and reversed."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
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
)
from referral.database import DATABASE, Connection
from referral.handlers import API, USER_PATH
from referral.queries import rewards
from referral.rules import reward_steps as steps
from referral.rules.giving import give
from referral.rules.idempotency import REPLAYED
from referral.rules.named_user import id_of_named, known_user
from referral.rules.rewards import no_such_reward
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY, read_json
from referral.web.lists import answer_rewards

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

    return await answer_rewards(request, whose)


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
    return await answer_rewards(request, lambda conn: known_user(request, conn))


def _reward_id(request: web.Request) -> str:
    return id_in_path(request, "reward_id", no_such_reward())


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
    async with request.app[DATABASE].reader() as conn:
        reward = await rewards.find_reward(conn, _reward_id(request))
    if reward is None:
        raise no_such_reward()
    return answer(reward_view(reward))


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
    return answer(await steps.approve_reward(request, _reward_id(request), at_once=request[BODY]["now"]))


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
    return answer(await steps.reject_reward(request, _reward_id(request), request[BODY]["reason"]))


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
    return answer(await steps.fulfil_reward(request, _reward_id(request), request[BODY].get("reference")))


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
    done = await steps.reverse_reward(request, _reward_id(request), request[BODY], await read_json(request))
    return answer(done.document, headers=REPLAYED if done.is_repeated else {})

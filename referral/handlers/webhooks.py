"""Webhooks: made, changed, tried, rotated, replayed and deleted."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.clock import rfc_3339
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import Key
from referral.contract.schemas.pages import ListQuerySchema
from referral.contract.schemas.webhooks import (
    EXAMPLE_URL,
    ReplayRequestSchema,
    ReplaySchema,
    ShownWebhookSchema,
    WebhookChangeSchema,
    WebhookCreationSchema,
    WebhookPageSchema,
    WebhookSchema,
    WebhookTestSchema,
    webhook_view,
)
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.ids import new_id
from referral.queries import webhooks
from referral.queries.webhooks import Webhook
from referral.rules.webhooks import (
    change_webhook,
    check_url,
    end_webhook,
    known_webhook,
    locked_webhook,
    make_webhook,
    ping,
    replay,
    rotate_secret,
    webhook_id_of,
)
from referral.rules.work import work_on
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()

WEBHOOK_PATH = f"{API}/webhooks/{{webhook_id}}"


@routes.post(f"{API}/webhooks")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="createWebhook",
    summary="Make a webhook",
    description="Changes of these types are posted to the address from now on, signed as "
    "[Standard Webhooks](https://www.standardwebhooks.com) are. The secret is in this answer only.",
    problems=("url-not-allowed", "too-many-webhooks"),
    response_headers={201: {"Location": "The webhook's address"}},
)
@json_schema(WebhookCreationSchema, example={"url": EXAMPLE_URL, "types": ["reward.*", "user.created"]})
@response_schema(ShownWebhookSchema, 201, description="The webhook, and its secret")
async def create_webhook(request: web.Request) -> web.Response:
    body = request[BODY]
    await check_url(request, body["url"])
    async with work_on(request) as work:
        webhook, secret = await make_webhook(work, new_id(), body)
    location = request.app[PUBLIC_URL].path(f"{API}/webhooks/{webhook.id}")
    return answer({**webhook_view(webhook), "secret": secret}, 201, {"Location": location, **NO_STORE})


@routes.get(f"{API}/webhooks")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="listWebhooks",
    summary="All webhooks",
    description="Newest first; disabled ones, too.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(WebhookPageSchema, 200, description="A page of webhooks")
async def list_webhooks(request: web.Request) -> web.StreamResponse:
    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Webhook], int]:
        return await webhooks.list_webhooks(conn, before, limit), await webhooks.count_webhooks(conn)

    return await answer_list(
        request, "webhooks", WebhookSchema, read, key=lambda one: (one.created_at, one.id), view=webhook_view
    )


@routes.get(WEBHOOK_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="getWebhook",
    summary="A webhook",
    description="As it is now, without its secret.",
    problems=("not-found",),
)
@response_schema(WebhookSchema, 200, description="The webhook")
async def get_webhook(request: web.Request) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        return answer(webhook_view(await known_webhook(conn, webhook_id_of(request))))


@routes.patch(WEBHOOK_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="updateWebhook",
    summary="Change a webhook",
    description="What is left out stays. What waits for a webhook that becomes disabled is dropped; once it is enabled "
    "again, a replay sends what it missed.",
    problems=("not-found", "url-not-allowed"),
)
@json_schema(WebhookChangeSchema, example={"status": "enabled"})
@response_schema(WebhookSchema, 200, description="The webhook as it is now")
async def update_webhook(request: web.Request) -> web.Response:
    body, webhook_id = request[BODY], webhook_id_of(request)
    if "url" in body:
        await check_url(request, body["url"])
    async with work_on(request) as work:
        webhook = await change_webhook(work, await locked_webhook(work, webhook_id), body)
    return answer(webhook_view(webhook))


@routes.delete(WEBHOOK_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="deleteWebhook",
    summary="Delete a webhook",
    description="Nothing more is sent to it, and what is known of its deliveries goes, too.",
    responses={204: {"description": "The webhook is gone"}},
    problems=("not-found",),
)
async def delete_webhook(request: web.Request) -> web.Response:
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        await end_webhook(work, await locked_webhook(work, webhook_id))
    return web.Response(status=204)


@routes.post(f"{WEBHOOK_PATH}/rotate")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="rotateWebhookSecret",
    summary="Give a webhook another secret",
    description="For 24 hours both secrets sign, so that the receiver can be told in the meantime. A second rotation in "
    "this time ends the oldest of the three.",
    problems=("not-found",),
)
@response_schema(ShownWebhookSchema, 200, description="The webhook, and its new secret")
async def rotate_webhook(request: web.Request) -> web.Response:
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        webhook = await locked_webhook(work, webhook_id)
        secret = await rotate_secret(work, webhook)
    return answer({**webhook_view(webhook), "secret": secret}, 200, NO_STORE)


@routes.post(f"{WEBHOOK_PATH}/test")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="testWebhook",
    summary="Send a ping to a webhook",
    description="A real message of the type `ping`, signed as all others, whatever types the webhook wants and whether or "
    "not it is enabled. It is sent once, and its result is the answer.",
    problems=("not-found", "webhook-sealed"),
)
@response_schema(WebhookTestSchema, 200, description="What the receiver answered")
async def test_webhook(request: web.Request) -> web.Response:
    sent = await ping(request, webhook_id_of(request))
    return answer({"status": sent.status, "error": sent.error, "milliseconds": sent.milliseconds})


@routes.post(f"{WEBHOOK_PATH}/replay")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="replayWebhook",
    summary="Send again what changed since a time",
    description="Every change since then of the webhook's types, and of these, is sent again under its former id, whatever "
    "became of it before. They are queued in the background.",
    problems=("not-found", "webhook-disabled", "replay-under-way"),
)
@json_schema(ReplayRequestSchema, example={"since": "2027-01-31T12:00:00Z", "types": ["reward.*"]})
@response_schema(ReplaySchema, 202, description="What is sent again")
async def replay_webhook(request: web.Request) -> web.Response:
    body, webhook_id = request[BODY], webhook_id_of(request)
    async with work_on(request) as work:
        webhook = await locked_webhook(work, webhook_id)
        found = await replay(work, webhook, body["since"], body["types"])
    return answer({"since": rfc_3339(found.since), "types": body["types"], "last_seq": found.last_seq}, 202)

"""Deliveries of webhooks: looked at, and sent again."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.background.webhooks import WEBHOOKS
from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, page, read_cursor
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.contract.schemas.webhooks import (
    DeliveryPageSchema,
    DeliveryQuerySchema,
    DeliverySchema,
    DeliveryWithFailuresSchema,
    delivery_view,
    failure_view,
)
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.queries import deliveries
from referral.queries.deliveries import STATUSES, Delivery
from referral.rules.webhooks import check_enabled, known_webhook, locked_webhook, webhook_id_of
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()

DELIVERIES_PATH = f"{API}/webhooks/{{webhook_id}}/deliveries"
DELIVERY_PATH = f"{DELIVERIES_PATH}/{{change_id}}"


@routes.get(DELIVERIES_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="listDeliveries",
    summary="What was sent to a webhook, and what waits",
    description="Newest change first. `total` counts no further than 10,000 of each status.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(DeliveryQuerySchema)
@response_schema(DeliveryPageSchema, 200, description="A page of deliveries")
async def list_deliveries(request: web.Request) -> web.Response:
    query, moment = request[QUERY], now()
    (before, _), limit = read_cursor(query), query["limit"]
    statuses = (query["status"],) if "status" in query else STATUSES
    found: list[Delivery] = []
    total = 0
    # Of one moment: what goes from one status to another meanwhile is there once.
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
        for status in statuses:
            # The index has them in order of each status.
            found += await deliveries.list_deliveries(conn, webhook.id, status, before, limit + 1)
            total += await deliveries.count_deliveries(conn, webhook.id, status, MOST_COUNTED)
    found.sort(key=lambda delivery: delivery.seq, reverse=True)
    document, headers = page(
        request,
        found[: limit + 1],
        limit,
        total,
        key=lambda delivery: (delivery.seq, ""),
        view=lambda delivery: delivery_view(delivery, moment),
    )
    return answer(document, headers=headers)


async def _known(request: web.Request, conn: Connection, webhook_id: str) -> Delivery:
    """The delivery that the path names. Raises `not-found`."""
    gone = Problem("not-found", "There is no such delivery.")
    found = await deliveries.find_delivery(conn, webhook_id, id_in_path(request, "change_id", gone))
    if found is None:
        raise gone
    return found


@routes.get(DELIVERY_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="getDelivery",
    summary="What became of a delivery",
    description="With the attempts that failed.",
    problems=("not-found",),
)
@response_schema(DeliveryWithFailuresSchema, 200, description="The delivery")
async def get_delivery(request: web.Request) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
        delivery = await _known(request, conn, webhook.id)
        failures = await deliveries.list_delivery_failures(conn, webhook.id, delivery.seq)
    return answer({**delivery_view(delivery, now()), "failures": [failure_view(failure) for failure in failures]})


@routes.post(f"{DELIVERY_PATH}/retry")
@allow(Access.ADMIN)
@docs(
    tags=["Webhooks"],
    operationId="retryDelivery",
    summary="Send a change to a webhook again",
    description="At once, and with all attempts anew, whatever became of it. One that is just being sent stays as it is.",
    problems=("not-found", "webhook-disabled"),
)
@response_schema(DeliverySchema, 200, description="The delivery, which waits")
async def retry_delivery(request: web.Request) -> web.Response:
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        webhook = await locked_webhook(work, webhook_id)
        check_enabled(webhook)
        delivery = await _known(request, work.conn, webhook_id)
        if await deliveries.retry_delivery(work.conn, webhook_id, delivery.seq):
            await work.record("webhook-retried", webhook_id=webhook_id, change_id=delivery.change_id)
        delivery = await _known(request, work.conn, webhook_id)
    request.app[WEBHOOKS].deliver((webhook_id,))
    return answer(delivery_view(delivery, work.moment))

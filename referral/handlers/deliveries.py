"""Deliveries of webhooks: looked at, and sent again."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
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
from referral.rules.deliveries import change_id_of, known_delivery, newest_deliveries, retry
from referral.rules.webhooks import known_webhook, webhook_id_of
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_list

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
async def list_deliveries(request: web.Request) -> web.StreamResponse:
    query, moment = request[QUERY], now()
    statuses = (query["status"],) if "status" in query else STATUSES

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Delivery], int]:
        webhook = await known_webhook(conn, webhook_id_of(request))
        counts = [await deliveries.count_deliveries(conn, webhook.id, status, MOST_COUNTED) for status in statuses]
        return await newest_deliveries(conn, webhook.id, statuses, before[0], limit), sum(counts)

    return await answer_list(
        request,
        "deliveries",
        DeliverySchema,
        read,
        key=lambda delivery: (delivery.seq, ""),
        view=lambda delivery: delivery_view(delivery, moment),
        # What goes from one status to another meanwhile is there once.
        snapshot=True,
    )


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
        delivery = await known_delivery(conn, webhook.id, change_id_of(request))
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
    delivery = await retry(request, webhook_id_of(request), change_id_of(request))
    return answer(delivery_view(delivery, now()))

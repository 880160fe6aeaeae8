"""Deliveries of a webhook in the back office: what was sent, what waits, why it failed, and how it is sent again."""

import json

import orjson
from aiohttp import web

from referral.background.webhooks import PAUSES
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.schemas.changes import delivered_view
from referral.contract.schemas.webhooks import DeliveryQuerySchema
from referral.database import DATABASE
from referral.queries import deliveries, people
from referral.queries.deliveries import STATUSES
from referral.rules.deliveries import change_id_of, known_delivery, newest_deliveries, no_such_delivery, retry
from referral.rules.webhooks import known_webhook, webhook_id_of
from referral.web.admin_lists import ROWS, cursor_in, part_of
from referral.web.admin_pages import admin_page, see_other
from referral.web.admin_people import called
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
DELIVERIES = "/admin/webhooks/{webhook_id}/deliveries"
DELIVERY = f"{DELIVERIES}/{{change_id}}"
ATTEMPTS = len(PAUSES) + 1


@routes.get(DELIVERIES)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_deliveries(request: web.Request) -> web.Response:
    """Of all states, or of one, newest change first."""
    given = request.query.get("status")
    status = load(DeliveryQuerySchema(), {"status": given})["status"] if given else None
    before, _ = cursor_in(request)
    # Of one moment: what goes from one state to another meanwhile is there once.
    async with request.app[DATABASE].replica(snapshot=True) as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
        found = await newest_deliveries(conn, webhook.id, (status,) if status else STATUSES, before, ROWS + 1)
        counts = {one: await deliveries.count_deliveries(conn, webhook.id, one, MOST_COUNTED) for one in STATUSES}
    rows, next_cursor = part_of(found, lambda delivery: (delivery.seq, ""))
    return admin_page(
        request,
        "deliveries.html",
        webhook=webhook,
        deliveries=rows,
        counts=counts,
        most=MOST_COUNTED,
        only=status,
        next_cursor=next_cursor,
    )


@routes.get(DELIVERY)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_delivery(request: web.Request) -> web.Response:
    """What is sent, and what became of each attempt."""
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
        delivery = await known_delivery(conn, webhook.id, change_id_of(request))
        found = await deliveries.list_changes_of(conn, [delivery.seq])
        failures = await deliveries.list_delivery_failures(conn, webhook.id, delivery.seq)
        if not found:
            raise no_such_delivery()
        change = found[0]
        user_id = change.subject_id if change.type.startswith("user.") else orjson.loads(change.data).get("user_id")
        user = await people.list_names(conn, [user_id] if user_id else [])
    return admin_page(
        request,
        "delivery.html",
        webhook=webhook,
        delivery=delivery,
        change=change,
        user_id=user_id,
        user_name=called(user[0]) if user else None,
        document=_visible(orjson.dumps(delivered_view(change), option=orjson.OPT_INDENT_2).decode()),
        failures=failures,
        attempts=ATTEMPTS,
    )


def _visible(document: str) -> str:
    """JSON whose invisible characters, and those that turn the direction of writing, are escaped."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in document)


@routes.post(f"{DELIVERY}/retry")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def send_again(request: web.Request) -> web.Response:
    """As `POST /webhooks/{webhook_id}/deliveries/{change_id}/retry`."""
    webhook_id, change_id = webhook_id_of(request), change_id_of(request)
    await retry(request, webhook_id, change_id)
    return see_other(request, f"/admin/webhooks/{webhook_id}/deliveries/{change_id}", "delivery-retried")

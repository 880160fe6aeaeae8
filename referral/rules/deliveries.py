"""Deliveries of webhooks, as admins look at them and have them sent again."""

from collections.abc import Iterable

from aiohttp import web

from referral.background.webhooks import WEBHOOKS
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.database import Connection
from referral.queries import deliveries
from referral.queries.deliveries import Delivery
from referral.rules.webhooks import check_enabled, locked_webhook
from referral.rules.work import work_on


def no_such_delivery() -> Problem:
    return Problem("not-found", "There is no such delivery.")


def change_id_of(request: web.Request) -> str:
    """The id that the path names. Raises `not-found` for what is none."""
    return id_in_path(request, "change_id", no_such_delivery())


async def known_delivery(conn: Connection, webhook_id: str, change_id: str) -> Delivery:
    """The delivery of a change to a webhook. Raises `not-found`."""
    found = await deliveries.find_delivery(conn, webhook_id, change_id)
    if found is None:
        raise no_such_delivery()
    return found


async def newest_deliveries(
    conn: Connection, webhook_id: str, statuses: Iterable[str], before: int, limit: int
) -> list[Delivery]:
    """So many of a webhook's deliveries in these states, of changes before a number, newest first."""
    found: list[Delivery] = []
    for status in statuses:
        # The index has them in order of each status.
        found += await deliveries.list_deliveries(conn, webhook_id, status, before, limit)
    return sorted(found, key=lambda delivery: delivery.seq, reverse=True)[:limit]


async def retry(request: web.Request, webhook_id: str, change_id: str) -> Delivery:
    """Have a change sent to a webhook again, at once, with all attempts anew, whatever became of it, and return the delivery
    as it is then. One that is just being sent stays as it is. Raises `not-found`, and `webhook-disabled`."""
    async with work_on(request) as work:
        check_enabled(await locked_webhook(work, webhook_id))
        delivery = await known_delivery(work.conn, webhook_id, change_id)
        if await deliveries.retry_delivery(work.conn, webhook_id, delivery.seq):
            await work.record("webhook-retried", webhook_id=webhook_id, change_id=change_id)
        delivery = await known_delivery(work.conn, webhook_id, change_id)
    request.app[WEBHOOKS].deliver((webhook_id,))
    return delivery

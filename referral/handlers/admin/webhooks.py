"""Webhooks in the back office: the list, one of them, and how one is made and changed."""

import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from referral.background.webhooks import LONGEST_FAILURE
from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.problems import Problem
from referral.contract.schemas.changes import PATTERNS
from referral.contract.schemas.webhooks import LONGEST_URL, WebhookChangeSchema, WebhookCreationSchema
from referral.database import DATABASE, Connection
from referral.ids import new_id
from referral.queries import deliveries, webhooks
from referral.queries.deliveries import FAILED, STATUSES, WAITING
from referral.rules.webhooks import (
    MadeBefore,
    change_webhook,
    check_url,
    known_webhook,
    locked_webhook,
    make_webhook,
    ping,
    webhook_id_of,
)
from referral.rules.work import work_on
from referral.web.admin_lists import ROWS, cursor_in, part_of
from referral.web.admin_pages import admin_page, refused_form, see_other
from referral.web.admin_sessions import FORM
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
WEBHOOKS = "/admin/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{webhook_id}}"
FORM_PAGE = "webhook_form.html"
# In the list of all webhooks, deliveries are counted no further.
MOST_IN_LIST = 1_000


@routes.get(WEBHOOKS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_webhooks(request: web.Request) -> web.Response:
    """All webhooks, newest first, each with what waits for it and what has failed."""
    before = cursor_in(request)
    async with request.app[DATABASE].replica() as conn:
        found, next_cursor = part_of(
            await webhooks.list_webhooks(conn, before, ROWS + 1), lambda webhook: (webhook.created_at, webhook.id)
        )
        counts = {webhook.id: await _counts(conn, webhook.id, (WAITING, FAILED), MOST_IN_LIST) for webhook in found}
    return admin_page(request, "webhooks.html", webhooks=found, counts=counts, most=MOST_IN_LIST, next_cursor=next_cursor)


async def _counts(conn: Connection, webhook_id: str, statuses: tuple[str, ...], most: int) -> dict[str, int]:
    """How many deliveries are in each of these states, counted up to `most`."""
    return {status: await deliveries.count_deliveries(conn, webhook_id, status, most) for status in statuses}


@routes.get(f"{WEBHOOKS}/new")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_new_webhook(request: web.Request) -> web.Response:
    return admin_page(request, FORM_PAGE, **_form_facts(webhook_id=new_id()))


def _form_facts(webhook_id: str, *, is_new: bool = True, url: str = "", chosen: list[str] | None = None) -> dict[str, Any]:
    return {
        "webhook_id": webhook_id,
        "is_new": is_new,
        "url": url,
        "chosen": chosen or [],
        "patterns": PATTERNS,
        "longest_url": LONGEST_URL,
    }


def _given(form: Mapping[str, str]) -> dict[str, Any]:
    """The document that the form stands for: a box of its own is a type."""
    return {"url": form.get("url", "").strip(), "types": [one for one in PATTERNS if f"types/{one}" in form]}


@routes.post(WEBHOOKS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def make(request: web.Request) -> web.Response:
    """As `POST /webhooks`. The secret is on the page that answers and nowhere else; the form brings the webhook's id along,
    so that a page which is asked for again makes no second one."""
    form = request[FORM]
    try:
        webhook_id = str(uuid.UUID(form.get("webhook_id", "")))
    except ValueError:
        raise Problem("bad-request", "The form is not whole. Nothing was done.") from None
    given = _given(form)
    try:
        body = load(WebhookCreationSchema(), given)
        await check_url(request, body["url"])
    except Problem as problem:
        return refused_form(request, FORM_PAGE, problem, form, **_form_facts(webhook_id, chosen=given["types"]))
    try:
        async with work_on(request) as work:
            webhook, secret = await make_webhook(work, webhook_id, body)
    except MadeBefore:
        return see_other(request, f"{WEBHOOKS}/{webhook_id}", "webhook-made-before")
    return admin_page(request, "webhook_secret.html", webhook=webhook, secret=secret, is_new=True)


@routes.get(WEBHOOK)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_webhook(request: web.Request) -> web.Response:
    return await _webhook_page(request, webhook_id_of(request))


async def _webhook_page(request: web.Request, webhook_id: str, **facts: Any) -> web.Response:
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id)
        counts = await _counts(conn, webhook.id, STATUSES, MOST_COUNTED)
        replay = await webhooks.find_replay(conn, webhook.id)
    moment = now()
    shown: dict[str, Any] = {
        "webhook": webhook,
        "counts": counts,
        "most": MOST_COUNTED,
        "replay": replay,
        "ends_at": None if webhook.failing_since is None else webhook.failing_since + LONGEST_FAILURE,
        "both_until": webhook.previous_until if (webhook.previous_until or 0) > moment else None,
        "sent": None,
    }
    return admin_page(request, "webhook.html", **{**shown, **facts})


@routes.post(f"{WEBHOOK}/test")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def send_ping(request: web.Request) -> web.Response:
    """As `POST /webhooks/{webhook_id}/test`; the page says what the receiver answered."""
    webhook_id = webhook_id_of(request)
    return await _webhook_page(request, webhook_id, sent=await ping(request, webhook_id))


@routes.get(f"{WEBHOOK}/change")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_webhook_form(request: web.Request) -> web.Response:
    """The form, with what the webhook is now."""
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
    facts = _form_facts(webhook.id, is_new=False, url=webhook.url, chosen=webhook.patterns)
    return admin_page(request, FORM_PAGE, **facts)


@routes.post(f"{WEBHOOK}/change")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def change(request: web.Request) -> web.Response:
    """As `PATCH /webhooks/{webhook_id}` with a `url` and `types`."""
    form, webhook_id = request[FORM], webhook_id_of(request)
    given = _given(form)
    async with request.app[DATABASE].reader() as conn:
        await known_webhook(conn, webhook_id)
    try:
        body = load(WebhookChangeSchema(), given)
        await check_url(request, body["url"])
    except Problem as problem:
        facts = _form_facts(webhook_id, is_new=False, chosen=given["types"])
        return refused_form(request, FORM_PAGE, problem, form, **facts)
    async with work_on(request) as work:
        await change_webhook(work, await locked_webhook(work, webhook_id), body)
    return see_other(request, f"{WEBHOOKS}/{webhook_id}", "webhook-changed")

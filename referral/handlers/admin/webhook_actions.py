"""What is done to a webhook in the back office, each of it after a page that says what it does."""

from typing import Any

from aiohttp import web

from referral.auth.tokens import hash_token
from referral.clock import DAY, now, rfc_3339
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.problems import Problem
from referral.contract.schemas.webhooks import ReplayRequestSchema
from referral.database import DATABASE
from referral.queries import deliveries
from referral.queries.deliveries import WAITING
from referral.queries.webhooks import DISABLED, ENABLED, Webhook
from referral.rules.webhooks import (
    change_webhook,
    check_enabled,
    end_webhook,
    known_webhook,
    locked_webhook,
    replay,
    rotate_secret,
    webhook_id_of,
)
from referral.rules.work import work_on
from referral.web.admin_lists import utc_text
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
WEBHOOKS = "/admin/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{webhook_id}}"
REPLAY_PAGE = "webhook_replay.html"


async def _found(request: web.Request) -> tuple[Webhook, int]:
    """The webhook that the path names, and how many deliveries wait for it."""
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id_of(request))
        return webhook, await deliveries.count_deliveries(conn, webhook.id, WAITING, MOST_COUNTED)


@routes.get(f"{WEBHOOK}/enable")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_enabling(request: web.Request) -> web.Response:
    """What enabling does, before it is done."""
    _ = texts_of(request)
    webhook, _waiting = await _found(request)
    return confirm_page(
        request,
        title=_("Enable the webhook"),
        effects=[
            _("Whatever happens from now on is sent to %(url)s.", url=webhook.url),
            _("What it has missed meanwhile is not sent by itself: a replay sends it."),
            _("If everything fails again for five days, it is disabled again."),
        ],
        action=f"{WEBHOOKS}/{webhook.id}/enable",
        button=_("Enable"),
        tone="primary",
        cancel=f"{WEBHOOKS}/{webhook.id}",
    )


@routes.post(f"{WEBHOOK}/enable")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def enable(request: web.Request) -> web.Response:
    """As `PATCH /webhooks/{webhook_id}` with the status `enabled`."""
    return await _set_status(request, {"status": ENABLED}, "webhook-enabled")


async def _set_status(request: web.Request, body: dict[str, Any], said: str) -> web.Response:
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        await change_webhook(work, await locked_webhook(work, webhook_id), body)
    return see_other(request, f"{WEBHOOKS}/{webhook_id}", said)


@routes.get(f"{WEBHOOK}/disable")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_disabling(request: web.Request) -> web.Response:
    """What disabling does, before it is done."""
    _ = texts_of(request)
    webhook, waiting = await _found(request)
    return confirm_page(
        request,
        title=_("Disable the webhook"),
        effects=[
            _("Nothing more is sent to %(url)s until somebody enables it.", url=webhook.url),
            _.plural("%(count)s delivery that waits is dropped.", "%(count)s deliveries that wait are dropped.", waiting),
            _("Nothing is lost: once it is enabled again, a replay sends what it missed."),
        ],
        action=f"{WEBHOOKS}/{webhook.id}/disable",
        button=_("Disable"),
        cancel=f"{WEBHOOKS}/{webhook.id}",
    )


@routes.post(f"{WEBHOOK}/disable")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def disable(request: web.Request) -> web.Response:
    """As `PATCH /webhooks/{webhook_id}` with the status `disabled`."""
    return await _set_status(request, {"status": DISABLED}, "webhook-disabled")


@routes.get(f"{WEBHOOK}/rotate")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_rotation(request: web.Request) -> web.Response:
    """What a rotation does, before it is done."""
    _ = texts_of(request)
    webhook, _waiting = await _found(request)
    effects: list[str] = [
        _("The webhook gets a new secret, which the next page shows, this once."),
        _("For 24 hours both the new and the present secret sign: give the receiver the new one in this time."),
        _("After that the present secret signs no more, and a receiver that has no other one refuses everything."),
    ]
    if (webhook.previous_until or 0) > now():
        effects.append(_("It was rotated less than 24 hours ago: the secret before that one ends at once."))
    return confirm_page(
        request,
        title=_("Rotate the secret"),
        effects=effects,
        action=f"{WEBHOOKS}/{webhook.id}/rotate",
        button=_("Rotate the secret"),
        cancel=f"{WEBHOOKS}/{webhook.id}",
        hidden={"present": _mark_of(webhook)},
    )


def _mark_of(webhook: Webhook) -> str:
    """What tells this secret of the webhook from each other one, and nothing of it."""
    return hash_token(webhook.secret)


@routes.post(f"{WEBHOOK}/rotate")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def rotate(request: web.Request) -> web.Response:
    """As `POST /webhooks/{webhook_id}/rotate`. The secret is on the page that answers and nowhere else. The form says which
    secret it is that goes: one that is sent again, or by two at once, would put out the only one that the receiver has."""
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        webhook = await locked_webhook(work, webhook_id)
        is_present = request[FORM].get("present") == _mark_of(webhook)
        secret = await rotate_secret(work, webhook) if is_present else ""
    if not is_present:
        return see_other(request, f"{WEBHOOKS}/{webhook_id}", "webhook-rotated-before")
    return admin_page(request, "webhook_secret.html", webhook=webhook, secret=secret, is_new=False)


@routes.get(f"{WEBHOOK}/replay")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_replay_form(request: web.Request) -> web.Response:
    """What a replay does, before it is asked for, and since when."""
    webhook, _waiting = await _found(request)
    check_enabled(webhook)
    return confirm_page(request, template=REPLAY_PAGE, **_replay_facts(request, webhook, webhook.patterns))


def _replay_facts(request: web.Request, webhook: Webhook, chosen: list[str]) -> dict[str, Any]:
    _ = texts_of(request)
    days = request.app[CONFIG].webhooks.keep_days
    since = webhook.failing_since if webhook.failing_since is not None else now() - DAY
    return {
        "title": _("Replay what happened"),
        "effects": [
            _("Every change of these types since then is sent again, whether or not the receiver has taken it before."),
            _("Each keeps its id: a receiver that knows webhook-id does nothing twice."),
            _.plural(
                "Changes are kept for %(count)s day: what is older is not sent.",
                "Changes are kept for %(count)s days: what is older is not sent.",
                days,
            ),
            _("They are queued in the background, and sent at the receiver's pace."),
        ],
        "action": f"{WEBHOOKS}/{webhook.id}/replay",
        "button": _("Replay"),
        "tone": "primary",
        "cancel": f"{WEBHOOKS}/{webhook.id}",
        "webhook": webhook,
        "chosen": chosen,
        "since": rfc_3339(since)[:16],
    }


@routes.post(f"{WEBHOOK}/replay")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def begin_replay(request: web.Request) -> web.Response:
    """As `POST /webhooks/{webhook_id}/replay`."""
    form, webhook_id = request[FORM], webhook_id_of(request)
    webhook, _waiting = await _found(request)
    chosen = [one for one in webhook.patterns if f"types/{one}" in form]
    try:
        body = load(ReplayRequestSchema(), {"since": utc_text(form.get("since", "")), "types": chosen})
    except Problem as problem:
        return refused_form(request, REPLAY_PAGE, problem, form, hidden={}, **_replay_facts(request, webhook, chosen))
    async with work_on(request) as work:
        await replay(work, await locked_webhook(work, webhook_id), body["since"], body["types"])
    return see_other(request, f"{WEBHOOKS}/{webhook_id}", "webhook-replayed")


@routes.get(f"{WEBHOOK}/delete")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_deletion(request: web.Request) -> web.Response:
    """What a deletion does, before it is done."""
    _ = texts_of(request)
    webhook, waiting = await _found(request)
    return confirm_page(
        request,
        title=_("Delete the webhook"),
        effects=[
            _("Nothing more is ever sent to %(url)s.", url=webhook.url),
            _.plural("%(count)s delivery that waits is dropped.", "%(count)s deliveries that wait are dropped.", waiting),
            _("Its secret and all that is known of its deliveries are deleted. This cannot be undone."),
        ],
        action=f"{WEBHOOKS}/{webhook.id}/delete",
        button=_("Delete"),
        cancel=f"{WEBHOOKS}/{webhook.id}",
    )


@routes.post(f"{WEBHOOK}/delete")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def delete(request: web.Request) -> web.Response:
    """As `DELETE /webhooks/{webhook_id}`."""
    webhook_id = webhook_id_of(request)
    async with work_on(request) as work:
        await end_webhook(work, await locked_webhook(work, webhook_id))
    return see_other(request, WEBHOOKS, "webhook-deleted")

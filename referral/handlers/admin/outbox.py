"""The outbox in the back office: mail that waits, and mail that was given up."""

from aiohttp import web

from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.contract.schemas.outbox import OutboxQuerySchema
from referral.database import DATABASE
from referral.queries import outbox
from referral.rules.outbox import mail_id_of, retry_mail
from referral.rules.work import work_on
from referral.texts import mask
from referral.web.admin_lists import ROWS, cursor_in, part_of
from referral.web.admin_pages import admin_page, see_other
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
OUTBOX = "/admin/outbox"
LISTS = {None: outbox.list_outbox, "waiting": outbox.list_waiting_mail, "failed": outbox.list_failed_mail}


@routes.get(OUTBOX)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_outbox(request: web.Request) -> web.Response:
    """Newest first: all of it, or what is in one state."""
    given, before = request.query.get("status"), cursor_in(request)
    only = load(OutboxQuerySchema(), {"status": given})["status"] if given else None
    async with request.app[DATABASE].replica() as conn:
        counts = await outbox.count_outbox(conn, MOST_COUNTED)
        found = await LISTS[only](conn, before, ROWS + 1)
    mails, next_cursor = part_of(found, lambda mail: (mail.created_at, mail.id))
    return admin_page(
        request,
        "outbox.html",
        mails=mails,
        mask=mask,
        only=only,
        counts={"waiting": counts.waiting, "failed": counts.failed},
        most=MOST_COUNTED,
        next_cursor=next_cursor,
    )


@routes.post(f"{OUTBOX}/{{mail_id}}/retry")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def send_again(request: web.Request) -> web.Response:
    """As `POST /outbox/{mail_id}/retry`."""
    mail_id = mail_id_of(request)
    async with work_on(request) as work:
        await retry_mail(work, mail_id)
    return see_other(request, OUTBOX, "mail-retried")

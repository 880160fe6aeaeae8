"""The first page of the back office: how the programme goes, and what waits for somebody."""

from aiohttp import web

from referral.contract.access import Access, Errors, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import MOST_COUNTED
from referral.database import DATABASE
from referral.queries import outbox, product_users, referrals, rewards, webhooks
from referral.web.admin_pages import ADMIN, admin_page, see_other

routes = web.RouteTableDef()

PAGE = "a page of the back office"


@routes.get(f"{ADMIN}/")
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def get_folder(request: web.Request) -> web.Response:
    """As people write the address."""
    return see_other(request, ADMIN)


@routes.get(ADMIN)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_overview(request: web.Request) -> web.Response:
    async with request.app[DATABASE].replica() as conn:
        facts = {
            "users": await product_users.count_users(conn, MOST_COUNTED, only_active=False),
            "referrals": await referrals.count_all_referrals(conn, MOST_COUNTED),
            "rewards": await rewards.count_rewards_in_state(conn, "pending", MOST_COUNTED),
            "mail_waiting": await outbox.count_waiting_mail(conn, MOST_COUNTED),
            "mail_failed": await outbox.count_failed_mail(conn, MOST_COUNTED),
            "webhooks_disabled": await webhooks.count_disabled_webhooks(conn),
        }
    return admin_page(request, "overview.html", most=MOST_COUNTED, **facts)

"""The scripts that a product's pages include: they keep by whom a visitor came, and show users their referrals."""

from aiohttp import web

from referral.contract.access import Access, Limit, allow
from referral.contract.openapi import undocumented
from referral.web.assets import asset

routes = web.RouteTableDef()

# Any page may include them, one that is isolated from other origins, too.
FOR_ANY_PAGE = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}


@routes.get("/referral.js")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a script, for a page")
async def get_referral_script(request: web.Request) -> web.StreamResponse:
    return asset(request, "referral.js", FOR_ANY_PAGE)


@routes.get("/widget.js")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a script, for a page")
async def get_widget_script(request: web.Request) -> web.StreamResponse:
    return asset(request, "widget.js", FOR_ANY_PAGE)

"""Clicks on links of a product's own: its pages and its back end report them."""

from urllib.parse import urlsplit

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.auth.identity import IDENTITY, KEY
from referral.background.clicks import CLICKS, NewClick
from referral.cache.codes import CODE_CACHE
from referral.clock import DAY, rfc_3339
from referral.config import CONFIG
from referral.contract.access import Access, Limit, allow
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.clicks import ClickReportSchema, ClickSchema
from referral.handlers import API
from referral.ids import new_id
from referral.links import is_qr
from referral.networks import network_in
from referral.robots import LONGEST_AGENT, is_fetched_ahead
from referral.rules.clicking import new_click
from referral.rules.codes import loading
from referral.web.answers import answer
from referral.web.bodies import BODY

routes = web.RouteTableDef()

PATH = f"{API}/clicks"


@routes.post(PATH)
@allow(Access.PAGE_OR_WRITE, Limit.CLICKS)
@docs(
    tags=["Links"],
    operationId="createClick",
    summary="Report a click on a link of the product's own",
    description="For pages that a code leads to without a share link of this service. Give `click_id` with the sign-up. The "
    "click is written behind, within a second.",
    problems=("not-found", "forbidden"),
)
@json_schema(ClickReportSchema, example={"code": "8ZK4M2QA", "url": "https://www.example.com/?ref=8ZK4M2QA"})
@response_schema(ClickSchema, 201, description="The click")
async def create_click(request: web.Request) -> web.Response:
    app, body, is_person = request.app, request[BODY], KEY in request or IDENTITY in request
    if body.get("context") and not is_person:
        raise invalid("/context", "Only a service key says who somebody else is.")
    active = await app[CODE_CACHE].by_code(body["code"], loading(app, body["code"]))
    if active is None:
        raise Problem("not-found", "There is no such active code.")
    robot = False if is_person else True if is_fetched_ahead(request.headers) else None
    click = new_click(request, new_id(), active.code, is_qr=is_qr(_query_of(body.get("url") or "")), is_robot=robot)
    app[CLICKS].add(_by(click, body.get("context") or {}) if is_person else click)
    name = active.referrer_name or active.referrer_username
    document = {
        "click_id": click.id,
        "expires_at": rfc_3339(click.at + app[CONFIG].attribution.window_days * DAY),
        "referrer": {"name": name} if name else None,
    }
    return answer(document, 201)


def _query_of(url: str) -> str:
    try:
        return urlsplit(url).query
    except ValueError:
        return ""


def _by(click: NewClick, context: dict[str, str | None]) -> NewClick:
    """The click of whom a product says it was; of nobody whom it describes, each is another one's."""
    address, agent = context.get("ip"), context.get("user_agent")
    if not address and not agent:
        return click._replace(address=click.id, agent="")
    return click._replace(address=network_in(address or ""), agent=(agent or "")[:LONGEST_AGENT])

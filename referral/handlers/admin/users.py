"""Users: the list with its search, and the page of one, with the reason of each step."""

import uuid
from typing import Any

import orjson
from aiohttp import web

from referral.clock import DAY, NEVER, now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import cursor_refused, encode_cursor, read_cursor
from referral.contract.problems import Problem
from referral.contract.schemas.balances import line_view
from referral.contract.schemas.pages import FormatQuerySchema
from referral.contract.schemas.product_users import UserQuerySchema
from referral.database import DATABASE, Connection
from referral.links import LINKS
from referral.queries import audit, codes, ledger, people, referrals, rules, stats, timeline
from referral.queries.people import Named, Person
from referral.rules.named_user import id_of_named, no_such_user
from referral.rules.timeline import steps_of
from referral.rules.user_search import find_users
from referral.texts import code_in
from referral.web.admin_acts import told_acts
from referral.web.admin_pages import admin_page, refused_form, see_other
from referral.web.admin_people import called, link_to, link_to_id, shortened
from referral.web.admin_texts import texts_of
from referral.web.admin_timeline import Teller, mentioned
from referral.web.admin_values import money_of
from referral.web.bodies import QUERY, load
from referral.web.csv_answers import is_csv
from referral.web.lists import answer_statement, answer_users

routes = web.RouteTableDef()

PAGE = "a page of the back office"
USERS = "/admin/users"
USER = f"{USERS}/{{user_id}}"
# Of a page of a list, of the timeline, and of what somebody did last.
ROWS, STEPS, ACTS = 50, 30, 10
# Of those whom somebody brought, the latest, of whose reviews the decisions are shown among the acts.
REFERRALS = 2_000
# Days of which clicks are counted.
DAYS = 30
# Characters of a step's id, which is the caller's own.
LONGEST_PLACE = 300


@routes.get(USERS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_users(request: web.Request) -> web.StreamResponse:
    """All users, or those whose e-mail address, username, external id or name begins so, and the owner of a code."""
    asked = {name: request.query.get(name, "").strip() for name in ("q", "status", "cursor", "format")}
    given = {name: text for name, text in asked.items() if text}
    try:
        request[QUERY] = query = load(UserQuerySchema(), given)
    except Problem as problem:
        if "cursor" in given:
            raise
        return refused_form(request, "users.html", problem, given, people=[], owner=None, total=0, next_cursor=None)
    if is_csv(request):
        return await answer_users(request)
    async with request.app[DATABASE].replica() as conn:
        cursor = read_cursor(query) if "cursor" in query else None
        places, total = await find_users(conn, query, cursor, ROWS + 1)
        owner_id = await _owner(conn, query["q"]) if "q" in query and cursor is None else None
        shown = [place.user_id for place in places[:ROWS]]
        found = {one.id: one for one in await people.list_people(conn, [*shown, *([owner_id] if owner_id else [])])}
    more = encode_cursor(places[ROWS - 1].key) if len(places) > ROWS else None
    return admin_page(
        request,
        "users.html",
        people=[found[user_id] for user_id in shown if user_id in found and found[user_id].erased_at is None],
        owner=found.get(owner_id) if owner_id else None,
        total=total,
        next_cursor=more,
        given=asked,
        called=_short,
    )


def _short(user: Named) -> str:
    return shortened(called(user))


async def _owner(conn: Connection, text: str) -> str | None:
    """Whose code the text is, or whose id, the product's by `ext:`, too."""
    code = code_in(text)
    found = await codes.find_code(conn, code) if code else None
    if found is not None:
        return found.referrer_id
    if not text.startswith("ext:"):
        try:
            uuid.UUID(text)
        except ValueError:
            return None
    try:
        return await id_of_named(conn, text)
    except Problem:
        return None


async def _person(request: web.Request, conn: Connection) -> Person:
    """The user whom the path names, by id or by `ext:` and the product's own. Raises `not-found`."""
    found = await people.list_people(conn, [await id_of_named(conn, request.match_info["user_id"])])
    if not found:
        raise no_such_user()
    return found[0]


@routes.get(USER)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_user(request: web.Request) -> web.Response:
    """A user, what they have, and all that happened around them."""
    moment = now()
    is_first = "cursor" not in request.query
    async with request.app[DATABASE].reader() as conn:
        person = await _person(request, conn)
        if request.match_info["user_id"] != person.id:
            return see_other(request, f"{USERS}/{person.id}")
        facts: dict[str, Any] = {"steps": await _timeline(request, conn, person, moment)}
        if is_first:
            facts |= await _head(request, conn, person, moment)
    return admin_page(request, "user.html", person=person, called=called(person), is_first=is_first, **facts)


async def _head(request: web.Request, conn: Connection, person: Person, moment: int) -> dict[str, Any]:
    """What stands above the timeline, and who did what."""
    texts, path = texts_of(request), request.app[PUBLIC_URL].path
    code = await codes.find_current_code(conn, person.id, moment)
    today = moment - moment % DAY
    clicked = await stats.sum_clicks(conn, person.id, None, today - (DAYS - 1) * DAY, today)
    acts = await audit.list_audit_of_user(conn, person.id, None, 0, (NEVER, "~"), ACTS)
    decisions = await timeline.list_decisions_on_referrals(conn, person.id, REFERRALS, ACTS)
    named = {one for act in acts for one in (act.actor_id, act.user_id)}
    named |= {one for decision in decisions for one in (decision.id, decision.decided_by_user)}
    names = {one.id: one for one in await people.list_names(conn, sorted(one for one in named if one))}

    def who(user_id: str) -> Any:
        return link_to_id(user_id, names, path, texts)

    return {
        "code": code,
        "code_status": code.status(moment) if code else None,
        "code_link": request.app[LINKS].url_of(code.code) if code else None,
        "referrer": link_to(person.referrer, path, texts) if person.referrer else None,
        "balances": await ledger.list_balances(conn, person.id),
        "clicks": sum(day.clicks for day in clicked),
        "metadata": orjson.loads(person.metadata) if person.metadata else {},
        "acts": told_acts(texts, person.id, acts, decisions, who, path)[:ACTS],
    }


async def _timeline(request: web.Request, conn: Connection, person: Person, moment: int) -> dict[str, Any]:
    """A page of the timeline in sentences, and where it goes on."""
    texts, app = texts_of(request), request.app
    place = read_cursor(dict(request.query))
    if len(place[1]) > LONGEST_PLACE:
        raise cursor_refused()
    steps = await steps_of(conn, person.id, place, STEPS + 1)
    needed = mentioned(steps)
    found = await people.list_names(conn, sorted(needed.users))
    kept = [await rules.find_rule(conn, rule_id) for rule_id in sorted(needed.rules)]
    teller = Teller(
        person.id,
        moment,
        texts,
        app[PUBLIC_URL].path,
        lambda amount, unit: money_of(amount, unit, texts, app[CONFIG]),
        {one.id: one for one in found},
        {rule.id: str(orjson.loads(rule.definition)["name"]) for rule in kept if rule is not None},
    )
    more = encode_cursor(steps[STEPS - 1].place) if len(steps) > STEPS else None
    return {"told": teller.tell(steps[:STEPS]), "next_cursor": more}


@routes.get(f"{USER}/referrals")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_referrals_of_user(request: web.Request) -> web.Response:
    """Whom a user brought, and what became of it."""
    before = read_cursor(dict(request.query))
    async with request.app[DATABASE].replica() as conn:
        person = await _person(request, conn)
        found = await referrals.list_referrals(conn, person.id, before, ROWS + 1, with_email=True)
    last = found[ROWS - 1] if len(found) > ROWS else None
    return admin_page(
        request,
        "user_referrals.html",
        person=person,
        called=called(person),
        referrals=[(one, _of_referral(one)) for one in found[:ROWS]],
        next_cursor=encode_cursor((last.joined_at, last.user_id)) if last else None,
    )


def _of_referral(one: referrals.Referral) -> str | None:
    """What somebody is called who came by somebody; None for whoever was erased."""
    if one.erased_at is not None:
        return None
    return shortened(called(Named(one.user_id, one.name, one.email, one.external_id, one.username, None)))


@routes.get(f"{USER}/statement")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_statement_of_user(request: web.Request) -> web.StreamResponse:
    """Every movement of what is available to a user in a unit, newest first, with what was available after it."""
    before, _ = read_cursor(dict(request.query))
    async with request.app[DATABASE].replica() as conn:
        person = await _person(request, conn)
        balances = {balance.unit: balance for balance in await ledger.list_balances(conn, person.id)}
        unit = request.query.get("unit") or next(iter(balances), None)
        if unit is not None and unit not in balances:
            raise Problem("not-found", "The user never had anything in this unit.")
        found = await ledger.list_statement(conn, person.id, unit, before, ROWS + 1) if unit else []
    request[QUERY] = load(FormatQuerySchema(), {"format": request.query["format"]} if "format" in request.query else {})
    if unit is not None and is_csv(request):

        async def whose(conn: Connection) -> str:
            return person.id

        return await answer_statement(request, whose, unit)
    return admin_page(
        request,
        "user_statement.html",
        person=person,
        called=called(person),
        units=list(balances),
        unit=unit,
        balance=balances[unit] if unit else None,
        lines=[{**line_view(line), "at": line.at} for line in found[:ROWS]],
        next_cursor=encode_cursor((found[ROWS - 1].line, "")) if len(found) > ROWS else None,
    )

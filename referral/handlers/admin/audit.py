"""The audit in the back office: who did what to whom, when and from where."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem
from referral.contract.schemas.audit import AuditQuerySchema
from referral.database import DATABASE, Connection
from referral.queries import people
from referral.queries.audit import Event
from referral.rules.audit import newest_events
from referral.rules.named_user import id_of_person
from referral.web.admin_lists import ROWS, cursor_in, part_of, utc_text
from referral.web.admin_pages import admin_page, refused_form
from referral.web.admin_people import called
from referral.web.admin_texts import texts_of
from referral.web.admin_words import DETAILS, EVENTS
from referral.web.bodies import QUERY, load
from referral.web.csv_answers import is_csv
from referral.web.lists import answer_audit

routes = web.RouteTableDef()

PAGE = "a page of the back office"
AUDIT_PAGE = "audit.html"
# Where what an event names is looked at.
PLACES = {
    "referrer_id": "/admin/users/{}",
    "reward_id": "/admin/rewards/{}",
    "rule_id": "/admin/rules/{}",
    "webhook_id": "/admin/webhooks/{}",
}


@routes.get("/admin/audit")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_audit(request: web.Request) -> web.StreamResponse:
    """Newest first: of everybody or of a user, of all kinds or of one, since a day."""
    _ = texts_of(request)
    asked = ("event", "user", "since", "format")
    given = {name: request.query[name].strip() for name in asked if request.query.get(name, "").strip()}
    shown: dict[str, Any] = {
        "kinds": sorted(((name, _.word(name)) for name in EVENTS), key=lambda kind: kind[1]),
        "is_filtered": bool(given.keys() - {"format"}),
        "events": [],
        "names": {},
        "details": {},
        "keys": {},
        "next_cursor": None,
    }
    before = cursor_in(request)
    try:
        since = {"since": utc_text(given["since"])} if "since" in given else {}
        request[QUERY] = query = load(AuditQuerySchema(), {**given, **since})
        if "@" in query.get("user", ""):
            async with request.app[DATABASE].reader() as conn:
                query["user"] = await id_of_person(conn, query["user"])
        if is_csv(request):
            return await answer_audit(request)
        async with request.app[DATABASE].replica() as conn:
            found = await newest_events(conn, query.get("user"), query.get("event"), query.get("since", 0), before, ROWS + 1)
            events, next_cursor = part_of(found, lambda event: (event.at, event.id))
            spoken_of = {user for event in events for user in (event.actor_id, event.user_id, _referrer_in(event)) if user}
            names = await _names(conn, spoken_of)
    except Problem as problem:
        return refused_form(request, AUDIT_PAGE, problem, given, **shown)
    # Of what a key did, the actor is the key, which may be revoked by now; the event has its name.
    keys = {event.id: orjson.loads(event.detail).get("key") for event in events}
    details = {event.id: _details(request, event, names) for event in events}
    shown |= {"events": events, "names": names, "details": details, "keys": keys, "next_cursor": next_cursor, "given": given}
    return admin_page(request, AUDIT_PAGE, **shown)


async def _names(conn: Connection, user_ids: set[str]) -> dict[str, str]:
    """What these users are called. Who is erased is not there."""
    found = await people.list_names(conn, sorted(user_ids))
    return {one.id: called(one) for one in found if one.erased_at is None}


def _referrer_in(event: Event) -> str | None:
    found = orjson.loads(event.detail).get("referrer_id")
    return found if isinstance(found, str) else None


def _details(request: web.Request, event: Event, names: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    """What else is known of an event: what it is called, what it is, and the page of it, if there is one. A user of `names`
    is called so."""
    _ = texts_of(request)
    existing = {re.sub(r"\{\w+\}", "{}", resource.canonical) for resource in request.app.router.resources()}
    pairs = []
    for name, value in orjson.loads(event.detail).items():
        if name == "key":
            continue
        place = PLACES.get(name)
        target = place.format(value) if place in existing and isinstance(value, str) else None
        label = _.word(f"detail-{name}") if f"detail-{name}" in DETAILS else name
        text = names.get(value, value) if isinstance(value, str) else orjson.dumps(value).decode()
        pairs.append((label, text, target))
    return pairs

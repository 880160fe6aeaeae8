"""Service keys in the back office: the list, and how one is made and revoked."""

import uuid

from aiohttp import web

from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem
from referral.contract.schemas.service_keys import LONGEST_NAME, KeyCreationSchema
from referral.database import DATABASE
from referral.ids import new_id
from referral.queries import service_keys
from referral.queries.service_keys import SCOPES
from referral.rules.service_keys import KeyMadeBefore, key_id_of, make_key, no_such_key, revoke_key
from referral.rules.work import work_on
from referral.web.admin_lists import ROWS, cursor_in, part_of
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
KEYS = "/admin/keys"
FORM_PAGE = "key_form.html"


@routes.get(KEYS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_keys(request: web.Request) -> web.Response:
    """Those that are not revoked, newest first."""
    before = cursor_in(request)
    async with request.app[DATABASE].reader() as conn:
        found = await service_keys.list_service_keys(conn, before, ROWS + 1)
    keys, next_cursor = part_of(found, lambda key: (key.created_at, key.id))
    return admin_page(request, "keys.html", keys=keys, next_cursor=next_cursor)


@routes.get(f"{KEYS}/new")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_new_key(request: web.Request) -> web.Response:
    return admin_page(request, FORM_PAGE, key_id=new_id(), scopes=SCOPES, longest_name=LONGEST_NAME)


@routes.post(KEYS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def make(request: web.Request) -> web.Response:
    """As `POST /keys`. The key is on the page that answers and nowhere else; the form brings the key's id along, so that a
    page which is asked for again makes no second one."""
    form = request[FORM]
    try:
        key_id = str(uuid.UUID(form.get("key_id", "")))
    except ValueError:
        raise Problem("bad-request", "The form is not whole. Nothing was done.") from None
    try:
        given = {"name": form.get("name", "").strip(), "scope": form.get("scope", "")}
        body = load(KeyCreationSchema(), given)
    except Problem as problem:
        facts = {"key_id": key_id, "scopes": SCOPES, "longest_name": LONGEST_NAME}
        return refused_form(request, FORM_PAGE, problem, form, **facts)
    try:
        async with work_on(request) as work:
            key, text = await make_key(work, key_id, body["name"], body["scope"])
    except KeyMadeBefore:
        return see_other(request, KEYS, "key-made-before")
    return admin_page(request, "key_made.html", key=key, text=text)


@routes.get(f"{KEYS}/{{key_id}}/revoke")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_revocation(request: web.Request) -> web.Response:
    """What the end of a key does, before it is done."""
    _ = texts_of(request)
    async with request.app[DATABASE].reader() as conn:
        key = await service_keys.find_service_key(conn, key_id_of(request))
    if key is None:
        raise no_such_key()
    return confirm_page(
        request,
        title=_("Revoke a key"),
        effects=[
            _("The key is that of %(name)s. Calls by it are refused at once.", name=key.name),
            _("What was done by it stays, and the audit keeps its name."),
            _("It cannot be had back: whoever still needs one gets a new key."),
        ],
        action=f"{KEYS}/{key.id}/revoke",
        button=_("Revoke"),
        cancel=KEYS,
    )


@routes.post(f"{KEYS}/{{key_id}}/revoke")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def revoke(request: web.Request) -> web.Response:
    """As `DELETE /keys/{key_id}`."""
    key_id = key_id_of(request)
    async with work_on(request) as work:
        await revoke_key(work, key_id)
    return see_other(request, KEYS, "key-revoked")

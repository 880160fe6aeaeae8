"""Blocks: what makes a referral suspicious by itself; listed, made and deleted."""

from aiohttp import web

from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import encode_cursor, read_cursor
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.blocks import BlockQuerySchema, BlockRequestSchema, blocked_value
from referral.database import DATABASE
from referral.queries import blocks
from referral.rules.blocking import block, unblock
from referral.rules.work import work_on
from referral.web.admin_pages import admin_page, confirm_page, refused_form, see_other
from referral.web.admin_people import shortened, theirs
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of
from referral.web.bodies import load

routes = web.RouteTableDef()

PAGE = "a page of the back office"
BLOCKS = "/admin/blocks"
PAGE_SIZE = 50


@routes.get(BLOCKS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def list_blocks(request: web.Request) -> web.Response:
    """All blocks, newest first."""
    cursor = request.query.get("cursor")
    time, place = read_cursor(load(BlockQuerySchema(), {"cursor": cursor} if cursor is not None else {}))
    kind, _, value = place.partition(" ")
    async with request.app[DATABASE].replica() as conn:
        found = await blocks.list_blocks(conn, (time, kind, value), PAGE_SIZE + 1)
    shown = found[:PAGE_SIZE]
    last = shown[-1] if len(found) > PAGE_SIZE else None
    return admin_page(
        request,
        "blocks.html",
        blocks=shown,
        next_cursor=encode_cursor((last.created_at, f"{last.kind} {last.value}")) if last is not None else None,
    )


@routes.get(f"{BLOCKS}/new")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def new_block(request: web.Request) -> web.Response:
    """The form, with what the address says of it."""
    given = {name: request.query[name] for name in ("kind", "value", "note") if name in request.query}
    return admin_page(request, "block_new.html", given=given)


@routes.post(BLOCKS)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def make_block(request: web.Request) -> web.Response:
    """The button of the form."""
    form = request[FORM]
    kind, note = form.get("kind", ""), form.get("note", "").strip()
    try:
        if kind not in blocks.KINDS:
            raise invalid("/kind", f"Must be one of {', '.join(blocks.KINDS)}.")
        value = blocked_value(kind, form.get("value", "").strip())
        if value is None:
            raise invalid("/value", "Nobody can have this.")
        body = load(BlockRequestSchema(), {"note": note} if note else {})
    except Problem as problem:
        return refused_form(request, "block_new.html", problem, form)
    async with work_on(request) as work:
        await work.hold_caller()
        await block(work, kind, value, body.get("note"))
    return see_other(request, BLOCKS, "block-made")


@routes.get(f"{BLOCKS}/delete")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_deletion(request: web.Request) -> web.Response:
    """What it does to delete a block, which the address names."""
    kind, value, _ = request.query.get("kind", ""), request.query.get("value", ""), texts_of(request)
    known = blocked_value(kind, value) if kind in blocks.KINDS else None
    async with request.app[DATABASE].reader() as conn:
        found = await blocks.find_block(conn, kind, known) if known is not None else None
    if found is None:
        return see_other(request, BLOCKS, "block-deleted")
    effects: list[str] = [
        _("%(value)s makes no further referral suspicious.", value=theirs(shortened(found.value))),
        _("What it has made suspicious stays so, until somebody decides."),
    ]
    return confirm_page(
        request,
        title=_("Delete a block"),
        effects=effects,
        action=f"{BLOCKS}/delete",
        button=_("Delete the block"),
        cancel=BLOCKS,
        hidden={"kind": found.kind, "value": found.value},
    )


@routes.post(f"{BLOCKS}/delete")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def delete_block(request: web.Request) -> web.Response:
    """The button of that page."""
    kind = request[FORM].get("kind", "")
    value = blocked_value(kind, request[FORM].get("value", "")) if kind in blocks.KINDS else None
    async with work_on(request) as work:
        await work.hold_caller()
        if value is None or not await unblock(work, kind, value):
            raise Problem("not-found", "There is no such block.")
    return see_other(request, BLOCKS, "block-deleted")

"""Rules in the back office: all of them, one with its versions, tried on the past, and enabled and disabled."""

from aiohttp import web

from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import encode_cursor, read_cursor
from referral.database import DATABASE
from referral.queries import rules
from referral.rules.work import work_on
from referral.web import admin_rules
from referral.web.admin_pages import admin_page, confirm_page, see_other
from referral.web.admin_rule_pages import (
    RULE,
    RULES,
    VERSIONS,
    changed,
    described,
    found_rule,
    moved_on,
    rule_in,
    trial_of,
    versions_of,
)
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of

routes = web.RouteTableDef()

PAGE = "a page of the back office"
ON_A_PAGE = 20


@routes.get(RULES)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_rules(request: web.Request) -> web.Response:
    """All rules, newest first, each in a sentence."""
    before = read_cursor(dict(request.query))
    async with request.app[DATABASE].replica() as conn:
        found = await rules.list_rules(conn, before, ON_A_PAGE + 1)
        shown = [await described(request, conn, rule) for rule in found[:ON_A_PAGE]]
    last = found[ON_A_PAGE - 1] if len(found) > ON_A_PAGE else None
    cursor = encode_cursor((last.created_at, last.id)) if last else None
    return admin_page(request, "rules.html", rules=shown, next_cursor=cursor)


@routes.get(RULE)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_rule(request: web.Request) -> web.Response:
    """A rule: what it says and gave, and all that it said before."""
    rule_id = rule_in(request)
    before = min(read_cursor(dict(request.query))[0], 2**62)
    async with request.app[DATABASE].replica() as conn:
        rule = await found_rule(conn, rule_id)
        shown = await described(request, conn, rule)
        changes = await rules.list_rule_changes(conn, rule_id, before, VERSIONS + 1)
    cursor = encode_cursor((changes[VERSIONS - 1].version, "")) if len(changes) > VERSIONS else None
    return admin_page(
        request,
        "rules_rule.html",
        rule=shown,
        members=admin_rules.members_of(shown["said"], texts_of(request), request.app[CONFIG]),
        versions=versions_of(request, changes)[:VERSIONS],
        next_cursor=cursor,
    )


@routes.get(f"{RULE}/try")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def try_rule(request: web.Request) -> web.Response:
    """What the rule, as it is now, would have given."""
    rule_id = rule_in(request)
    async with request.app[DATABASE].replica() as conn:
        shown = await described(request, conn, await found_rule(conn, rule_id))
    return admin_page(request, "rules_try.html", rule=shown, **await trial_of(request, shown["said"]))


@routes.get(f"{RULE}/enabled")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_enabled(request: web.Request) -> web.Response:
    """What it does to enable the rule or, if it is enabled, to disable it."""
    _ = texts_of(request)
    rule_id = rule_in(request)
    async with request.app[DATABASE].replica() as conn:
        shown = await described(request, conn, await found_rule(conn, rule_id))
    is_enabled = shown["said"]["enabled"]
    effects: list[str]
    if is_enabled:
        effects = [
            _("From then on it gives nothing for any event, until somebody enables it again."),
            _("Rewards that it gave already stay as they are, and go on waiting for what they wait for."),
        ]
    else:
        effects = [
            _("Each event that is reported from then on, and that fits, is rewarded."),
            _("Events that were reported before are not rewarded afterwards."),
            *shown["warnings"],
        ]
    return confirm_page(
        request,
        title=_("Disable the rule") if is_enabled else _("Enable the rule"),
        effects=effects,
        action=f"{RULES}/{rule_id}/enabled",
        button=_("Disable the rule") if is_enabled else _("Enable the rule"),
        tone="danger" if is_enabled else "primary",
        cancel=f"{RULES}/{rule_id}",
        hidden={"enabled": "no" if is_enabled else "yes", "version": str(shown["version"])},
        template="rules_enabled.html",
        rule=shown,
    )


@routes.post(f"{RULE}/enabled")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def set_enabled(request: web.Request) -> web.Response:
    """As `PATCH /rules/{rule_id}` with `enabled`."""
    rule_id, enabled = rule_in(request), request[FORM].get("enabled") == "yes"
    async with work_on(request) as work:
        opened = await changed(work, rule_id, {"enabled": enabled})
    if opened is not None:
        return await moved_on(request, rule_id, opened)
    return see_other(request, f"{RULES}/{rule_id}", "rule-enabled" if enabled else "rule-disabled")

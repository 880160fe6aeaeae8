"""The form of a rule in the back office: a new one, and a change. Nothing is saved before it was shown what it would do."""

import uuid
from typing import Any

import orjson
from aiohttp import web

from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem
from referral.database import DATABASE, ConstraintViolation
from referral.ids import new_id
from referral.queries.rules import KeptRule
from referral.rules.rule_changes import defaults, make_rule
from referral.rules.work import work_on
from referral.web import admin_rules
from referral.web.admin_pages import admin_page, refused_form, see_other
from referral.web.admin_rule_form import ROWS, definition_in, fields_of, filled, units_in
from referral.web.admin_rule_pages import (
    RULE,
    RULES,
    changed,
    found_rule,
    moved_on,
    rule_in,
    trial_of,
    version_in,
)
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of

routes = web.RouteTableDef()

PAGE = "a page of the back office"
NEW = f"{RULES}/new"
CHANGE = f"{RULE}/change"


@routes.get(NEW)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_new(request: web.Request) -> web.Response:
    """The empty form, with what a rule is unless it is said otherwise."""
    config, _ = request.app[CONFIG], texts_of(request)
    give = {"kind": "balance", "label": None, "unit": None, "fixed": None, "percent": None, "max": None}
    said = {**defaults(config), "name": "", "on": "purchase", "to": "referrer", "give": give}
    return admin_page(request, "rules_form.html", given=filled(said, _, config), **_facts(request, None, new_id()))


@routes.post(NEW)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def preview_new(request: web.Request) -> web.Response:
    """What the rule of the form would do, before it is made."""
    return await _preview(request, None, _new_id(request))


@routes.post(RULES)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def create(request: web.Request) -> web.Response:
    """As `POST /rules`. The id came with the form, so that it makes one rule however often it is sent."""
    form = request[FORM]
    rule_id, given = _new_id(request), fields_of(form)
    try:
        body, _said = definition_in(given, None, texts_of(request), request.app[CONFIG])
    except Problem as problem:
        return _refused(request, problem, given, None, rule_id)
    try:
        async with work_on(request) as work:
            await work.hold_caller()
            await make_rule(work, body, rule_id)
    except ConstraintViolation as violation:
        if violation.constraint != "rules_pkey":
            raise
    return see_other(request, f"{RULES}/{rule_id}", "rule-made")


@routes.get(CHANGE)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_change(request: web.Request) -> web.Response:
    """The form with what the rule says now."""
    config, _ = request.app[CONFIG], texts_of(request)
    rule = await _rule(request)
    given = filled(orjson.loads(rule.definition), _, config)
    return admin_page(request, "rules_form.html", given=given, **_facts(request, rule, rule.id))


@routes.post(CHANGE)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def preview_change(request: web.Request) -> web.Response:
    """What the change would do, before it is made."""
    rule = await _rule(request)
    if rule.version != version_in(request):
        return await moved_on(request, rule.id, version_in(request))
    return await _preview(request, rule, rule.id)


@routes.post(RULE)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def change(request: web.Request) -> web.Response:
    """As `PATCH /rules/{rule_id}` with all members, of the version that the form was made of."""
    form, opened = request[FORM], version_in(request)
    rule, given = await _rule(request), fields_of(form)
    if rule.version == opened:
        former = orjson.loads(rule.definition)
        try:
            body, said = definition_in(given, former, texts_of(request), request.app[CONFIG])
        except Problem as problem:
            return _refused(request, problem, given, rule, rule.id)
        async with work_on(request) as work:
            moved = await changed(work, rule.id, body)
        if moved is None:
            return see_other(request, f"{RULES}/{rule.id}", "rule-unchanged" if said == former else "rule-changed")
    return await moved_on(request, rule.id, opened)


async def _preview(request: web.Request, rule: KeptRule | None, rule_id: str) -> web.Response:
    _, config, form = texts_of(request), request.app[CONFIG], request[FORM]
    given = fields_of(form)
    if "again" in form:
        return admin_page(request, "rules_form.html", given=given, **_facts(request, rule, rule_id))
    former = orjson.loads(rule.definition) if rule else None
    try:
        _body, said = definition_in(given, former, _, config)
    except Problem as problem:
        return _refused(request, problem, given, rule, rule_id)
    return admin_page(
        request,
        "rules_preview.html",
        **_facts(request, rule, rule_id),
        said_now=said,
        sentence=admin_rules.sentence_of(said, _, config),
        state=admin_rules.state_of(said, now()),
        state_told=admin_rules.state_told(said, now(), _),
        warnings=admin_rules.warnings_told(said, _),
        members=admin_rules.members_of(said, _, config),
        differences=admin_rules.differences_of(former, said, _, config) if former else [],
        hidden=given,
        **await trial_of(request, said),
    )


def _refused(
    request: web.Request, problem: Problem, given: dict[str, str], rule: KeptRule | None, rule_id: str
) -> web.Response:
    return refused_form(request, "rules_form.html", problem, given, **_facts(request, rule, rule_id))


def _facts(request: web.Request, rule: KeptRule | None, rule_id: str) -> dict[str, Any]:
    """What the form and its preview find; `rule` is None for a new one, which will have the id."""
    said = orjson.loads(rule.definition) if rule else None
    return {
        "rule": rule,
        "rule_id": rule_id,
        "name": said["name"] if said else None,
        "units": units_in(said, request.app[CONFIG]),
        "rows": max(ROWS, len(said["tiers"]) + 1 if said else 0),
    }


async def _rule(request: web.Request) -> KeptRule:
    async with request.app[DATABASE].reader() as conn:
        return await found_rule(conn, rule_in(request))


def _new_id(request: web.Request) -> str:
    """The id that the form brings for a rule which is to be made; another one for what is none."""
    try:
        return str(uuid.UUID(request[FORM].get("rule_id", "")))
    except ValueError:
        return new_id()

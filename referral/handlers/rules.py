"""Rules of rewards: made, changed, looked at, and tried on the past."""

import orjson
from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.clock import NEVER
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import Key
from referral.contract.parameters import id_in_path
from referral.contract.schemas.pages import ListQuerySchema
from referral.contract.schemas.rules import (
    PreviewRequestSchema,
    PreviewSchema,
    RuleChangeSchema,
    RuleCreationSchema,
    RulePageSchema,
    RuleSchema,
    RuleVersionPageSchema,
    RuleVersionSchema,
    rule_view,
    version_view,
)
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.ids import new_id
from referral.queries import locks, rules
from referral.queries.rules import KeptRule, Spent
from referral.rules.previewing import preview
from referral.rules.programme import rule_of
from referral.rules.rule_changes import change_rule, make_rule, new_definition, no_such_rule
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import BODY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()

# `preview` is an address of its own, which `Allow` must not mix with a rule's.
RULE_PATH = f"{API}/rules/{{rule_id:(?!preview$)[^/]+}}"

EXAMPLE = {
    "name": "Give 20 %",
    "on": "purchase",
    "to": "referrer",
    "times": 1,
    "give": {"kind": "balance", "percent": "20", "max": 5000},
    "hold_days": 30,
    "limits": {"budget": {"unit": "USD", "amount": 1_000_000, "period": "month"}},
}


@routes.post(f"{API}/rules")
@allow(Access.ADMIN)
@docs(
    tags=["Rules"],
    operationId="createRule",
    summary="Make a rule",
    description="Each event of the rule's type, of a user who came by somebody, is rewarded by it from now on. Two sides "
    "are two rules. Without `hold_days`, a reward is pending as long as the setting `rewards.hold_days` says.",
    problems=("unit-unknown",),
    response_headers={201: {"Location": "The rule's address"}},
)
@json_schema(RuleCreationSchema, example=EXAMPLE)
@response_schema(RuleSchema, 201, description="The rule")
async def create_rule(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        await work.hold_caller()
        rule = await make_rule(work, request[BODY])
    location = request.app[PUBLIC_URL].path(f"{API}/rules/{rule.id}")
    return answer(rule_view(rule, []), 201, {"Location": location})


@routes.patch(RULE_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Rules"],
    operationId="updateRule",
    summary="Change a rule",
    description="The members that are given are replaced, each as a whole, and the others stay. A change is a new version; "
    "rewards that exist keep theirs. What was given in the period of a limit counts in it, whatever the limit was then.",
    problems=("not-found", "unit-unknown", "sum-too-large"),
)
@json_schema(RuleChangeSchema, example={"enabled": False})
@response_schema(RuleSchema, 200, description="The rule as it is now")
async def patch_rule(request: web.Request) -> web.Response:
    rule_id = id_in_path(request, "rule_id", no_such_rule())
    async with work_on(request) as work:
        # Before anything else is locked: those who make rewards hold the rules first, too.
        await locks.change_rules(work.conn)
        await work.hold_caller()
        rule = await change_rule(work, rule_id, request[BODY])
        if rule is None:
            raise no_such_rule()
    # No reward waits while this is read.
    async with request.app[DATABASE].reader() as conn:
        return answer(rule_view(rule, await rules.list_spent(conn, rule_id)))


@routes.get(f"{API}/rules")
@allow(Access.READ)
@docs(
    tags=["Rules"],
    operationId="listRules",
    summary="All rules",
    description="Newest first; disabled ones, too.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(RulePageSchema, 200, description="A page of rules")
async def list_rules(request: web.Request) -> web.StreamResponse:
    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[tuple[KeptRule, list[Spent]]], int]:
        found = await rules.list_rules(conn, before, limit)
        return [(rule, await rules.list_spent(conn, rule.id)) for rule in found], await rules.count_rules(conn)

    return await answer_list(
        request,
        "rules",
        RuleSchema,
        read,
        key=lambda pair: (pair[0].created_at, pair[0].id),
        view=lambda pair: rule_view(*pair),
    )


@routes.get(RULE_PATH)
@allow(Access.READ)
@docs(
    tags=["Rules"],
    operationId="getRule",
    summary="A rule",
    description="As it is now.",
    problems=("not-found",),
)
@response_schema(RuleSchema, 200, description="The rule")
async def get_rule(request: web.Request) -> web.Response:
    rule_id = id_in_path(request, "rule_id", no_such_rule())
    async with request.app[DATABASE].reader() as conn:
        rule = await rules.find_rule(conn, rule_id)
        if rule is None:
            raise no_such_rule()
        return answer(rule_view(rule, await rules.list_spent(conn, rule_id)))


@routes.get(f"{RULE_PATH}/versions")
@allow(Access.READ)
@docs(
    tags=["Rules"],
    operationId="listRuleVersions",
    summary="What a rule said in each of its versions",
    description="Newest first.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(RuleVersionPageSchema, 200, description="A page of versions")
async def list_rule_versions(request: web.Request) -> web.StreamResponse:
    rule_id = id_in_path(request, "rule_id", no_such_rule())

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[KeptRule], int]:
        rule = await rules.find_rule(conn, rule_id)
        if rule is None:
            raise no_such_rule()
        return await rules.list_rule_versions(conn, rule_id, min(before[0], NEVER), limit), rule.version

    return await answer_list(
        request, "rule-versions", RuleVersionSchema, read, key=lambda version: (version.version, ""), view=version_view
    )


@routes.post(f"{API}/rules/preview")
@allow(Access.ADMIN)
@docs(
    tags=["Rules"],
    operationId="previewRule",
    summary="What a rule would have given",
    description="For the events that were reported since a time, had the rule been there before them; refunds that were "
    "reported since are taken off. It changes nothing. Where there are more than 100,000 events of the rule's type, or "
    "refunds, a later time has to be given. Of users who were erased since, the metadata of events is gone.",
    problems=("unit-unknown", "sum-too-large"),
)
@json_schema(PreviewRequestSchema, example={"rule": EXAMPLE, "since": "2027-01-01T00:00:00Z"})
@response_schema(PreviewSchema, 200, description="What it would have given")
async def preview_rule(request: web.Request) -> web.Response:
    body = request[BODY]
    definition = orjson.dumps(new_definition(body["rule"], request.app[CONFIG], "/rule")).decode()
    async with request.app[DATABASE].snapshot() as conn:
        return answer(await preview(conn, rule_of(new_id(), 1, definition), body["since"]))

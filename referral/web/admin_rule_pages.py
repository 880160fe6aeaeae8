"""What the pages of rules share: what they show of a rule, its versions, what it would have given, and how a change is made
in the version that its form was made of."""

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from referral.clock import DAY, now
from referral.config import CONFIG
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.contract.schemas.fields import LARGEST_SUM
from referral.database import DATABASE, Connection
from referral.ids import new_id
from referral.queries import locks, people, rules
from referral.queries.rules import KeptRule, RuleChange, Spent
from referral.rules.previewing import preview
from referral.rules.programme import rule_of
from referral.rules.rule_changes import change_rule, no_such_rule
from referral.rules.work import Work
from referral.web import admin_rules
from referral.web.admin_pages import admin_page
from referral.web.admin_people import called
from referral.web.admin_sessions import FORM
from referral.web.admin_texts import texts_of

RULES = "/admin/rules"
RULE = f"{RULES}/{{rule_id}}"
# Versions that a page shows.
VERSIONS = 10
# Of how many days events are tried.
TRIED_DAYS = (30, 90)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would have given for the events of so many days (PreviewSchema); None where they are too many."""

    days: int
    found: dict[str, Any] | None


async def changed(work: Work, rule_id: str, body: dict[str, Any]) -> int | None:
    """Change a rule as `PATCH /rules/{rule_id}` does, if it still is in the version that the form was made of. Otherwise
    nothing is changed, and that version is returned. Raises a problem."""
    opened = version_in(work.request)
    # As there: those who make rewards hold the rules first, too.
    await locks.change_rules(work.conn)
    await work.hold_caller()
    rule = await found_rule(work.conn, rule_id)
    if rule.version != opened:
        return opened
    await change_rule(work, rule_id, body)
    return None


async def moved_on(request: web.Request, rule_id: str, opened: int) -> web.Response:
    """The page that answers a form which was made of a version that is not the last one any more."""
    async with request.app[DATABASE].reader() as conn:
        shown = await described(request, conn, await found_rule(conn, rule_id))
        changes = await rules.list_rule_changes(conn, rule_id, 2**62, VERSIONS)
    later = [version for version in versions_of(request, changes) if version["version"] > opened]
    return admin_page(request, "rules_moved.html", 409, rule=shown, later=later)


async def trial_of(request: web.Request, said: dict[str, Any]) -> dict[str, Any]:
    """The facts of `trial` in rules_parts.html: what the rule would have given, had it been enabled and in force all the
    time; and what the users of the examples are called."""
    definition = orjson.dumps({**said, "enabled": True, "starts_at": None, "ends_at": None}).decode()
    rule, moment, tried = rule_of(new_id(), 1, definition), now(), []
    async with request.app[DATABASE].snapshot() as conn:
        for days in TRIED_DAYS:
            try:
                tried.append(Tried(days, await preview(conn, rule, moment - days * DAY)))
            except Problem:
                # Too many events, or more money than can be counted.
                tried.append(Tried(days, None))
        examples: list[dict[str, Any]] = next((one.found["examples"] for one in reversed(tried) if one.found), [])
        names = {one.id: called(one) for one in await people.list_names(conn, sorted({one["user_id"] for one in examples}))}
    return {"tried": tried, "tried_examples": examples, "tried_names": names}


async def described(request: web.Request, conn: Connection, rule: KeptRule) -> dict[str, Any]:
    """What every page shows of a rule."""
    _, config, moment = texts_of(request), request.app[CONFIG], now()
    said = orjson.loads(rule.definition)
    budget = (said["limits"] or {}).get("budget")
    used = await rules.find_budget_used(conn, rule.id, moment) if budget else 0
    return {
        "id": rule.id,
        "version": rule.version,
        "created_at": rule.created_at,
        "changed_at": rule.changed_at,
        "said": said,
        "state": admin_rules.state_of(said, moment),
        "state_told": admin_rules.state_told(said, moment, _),
        "sentence": admin_rules.sentence_of(said, _, config),
        "warnings": admin_rules.warnings_told(said, _),
        "budget": budget,
        "budget_period": admin_rules.period_word(budget["period"], _) if budget else None,
        "budget_used": used,
        "budget_per_mille": min(1000, used * 1000 // budget["amount"]) if budget else 0,
        "spent": _spent(await rules.list_spent(conn, rule.id)),
    }


def _spent(found: list[Spent]) -> dict[str, Any]:
    sums = [(one.unit, min(one.amount, LARGEST_SUM)) for one in found if one.unit is not None]
    return {"count": sum(one.count for one in found), "sums": sums}


def versions_of(request: web.Request, changes: list[RuleChange]) -> list[dict[str, Any]]:
    """Versions of a rule with who made them and what each changed, of those whose version before is among them, too."""
    _, config = texts_of(request), request.app[CONFIG]
    said = [orjson.loads(change.definition) for change in changes]
    before = [*said[1:], None]
    return [
        {
            "version": change.version,
            "changed_at": change.changed_at,
            "actor_id": change.actor_id,
            "actor_name": change.actor_name,
            "key": orjson.loads(change.detail).get("key") if change.detail else None,
            "is_recorded": change.detail is not None,
            "sentence": admin_rules.sentence_of(now_said, _, config),
            "differences": admin_rules.differences_of(former, now_said, _, config) if former else [],
        }
        for change, now_said, former in zip(changes, said, before, strict=True)
    ]


async def found_rule(conn: Connection, rule_id: str) -> KeptRule:
    """The rule of this id. Raises `not-found`."""
    rule = await rules.find_rule(conn, rule_id)
    if rule is None:
        raise no_such_rule()
    return rule


def rule_in(request: web.Request) -> str:
    """The id of a rule that the path has. Raises `not-found` for what is none."""
    return id_in_path(request, "rule_id", no_such_rule())


def version_in(request: web.Request) -> int:
    """The version that a form was made of; 0, which no rule has, for what is none."""
    text = request[FORM].get("version", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else 0

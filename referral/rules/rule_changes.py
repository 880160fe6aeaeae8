"""Rules are made and changed. Each change is a new version, and what was given by the ones before counts in its limits."""

from collections.abc import Mapping
from typing import Any

import orjson

from referral.clock import DAY
from referral.config import CONFIG, Config
from referral.contract.problems import Problem, invalid_members
from referral.contract.schemas.rules import definition_of
from referral.ids import new_id
from referral.queries import rules
from referral.queries.rules import BUDGET, KeptRule
from referral.rules.periods import period_of
from referral.rules.programme import rule_of
from referral.rules.rewarding import open_limit
from referral.rules.units import check_unit
from referral.rules.work import Work

Objection = tuple[str, str]


def defaults(config: Config) -> dict[str, Any]:
    """What a rule is unless its body says otherwise."""
    return {
        "times": 1,
        "tiers": [],
        "if": None,
        "hold_days": config.rewards.hold_days,
        "approval": "automatic",
        "limits": None,
        "starts_at": None,
        "ends_at": None,
        "enabled": True,
    }


def new_definition(body: dict[str, Any], config: Config, pointer: str = "") -> dict[str, Any]:
    """The whole definition of a rule, by a body of RuleCreationSchema, which lies at `pointer` in the request's. Raises
    `validation-error` and `unit-unknown`."""
    said = {**defaults(config), **definition_of(body)}
    check(said, config, pointer)
    return said


def changed_definition(former: Mapping[str, Any], body: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The whole definition of a rule whose members are changed as the body (RuleChangeSchema) says. Raises
    `validation-error` and `unit-unknown`; what a rule said before is never refused."""
    said = {**former, **definition_of(body)}
    if said != former:
        check(said, config, known=units_of(former))
    return said


async def make_rule(work: Work, body: dict[str, Any], rule_id: str | None = None) -> KeptRule:
    """Make a rule, of this id or a new one. Raises as `new_definition`, and ConstraintViolation `rules_pkey` for an id that
    a rule has."""
    said = new_definition(body, work.request.app[CONFIG])
    rule_id, definition = rule_id or new_id(), orjson.dumps(said).decode()
    await rules.insert_rule(work.conn, rule_id, said["on"], said["to"], work.moment)
    await rules.insert_rule_version(work.conn, rule_id, 1, work.moment, definition)
    await work.record("rule-made", rule_id=rule_id, name=said["name"])
    return KeptRule(rule_id, 1, definition, work.moment, work.moment)


async def change_rule(work: Work, rule_id: str, body: dict[str, Any]) -> KeptRule | None:
    """Change the members that the body (RuleChangeSchema) has; the rules are this transaction's. None without such a rule.
    Raises `validation-error` and `unit-unknown`."""
    found = await rules.find_rule(work.conn, rule_id)
    if found is None:
        return None
    former = orjson.loads(found.definition)
    said = changed_definition(former, body, work.request.app[CONFIG])
    if said == former:
        return found
    version, definition = found.version + 1, orjson.dumps(said).decode()
    await rules.insert_rule_version(work.conn, rule_id, version, work.moment, definition)
    await rules.update_rule(work.conn, rule_id, version, said["on"], said["to"])
    await _count_anew(work, found, KeptRule(rule_id, version, definition, found.created_at, work.moment))
    await work.record("rule-changed", rule_id=rule_id, version=version, members=sorted(_changed(former, said)))
    return KeptRule(rule_id, version, definition, found.created_at, work.moment)


def _changed(former: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    return [name for name, value in said.items() if former.get(name) != value]


async def _count_anew(work: Work, former: KeptRule, latter: KeptRule) -> None:
    """Where a limit has another period or unit, or there is one now, what was given in its period until now is counted."""
    before = rule_of(former.id, former.version, former.definition)
    after = rule_of(latter.id, latter.version, latter.definition)
    for old, new, subject in ((before.budget, after.budget, BUDGET), (before.per_referrer, after.per_referrer, None)):
        if (old and old[1:]) == (new and new[1:]):
            continue
        if subject == BUDGET:
            await rules.delete_budgets(work.conn, latter.id)
        else:
            await rules.delete_referrers_limits(work.conn, latter.id)
        if new is None:
            continue
        # And in the next one, which has begun by the clock of another machine.
        period = period_of(new.period, work.moment)
        for counted in {period, period_of(new.period, min(period[1], work.moment + 32 * DAY))}:
            if subject == BUDGET:
                await open_limit(work, latter.id, new, BUDGET, counted)
            else:
                await rules.open_referrers_limits(work.conn, latter.id, counted, new.most)


def check(said: Mapping[str, Any], config: Config, pointer: str = "", known: frozenset[str] = frozenset()) -> None:
    """What members of a rule must be to each other; units that it had before are `known`. Raises `validation-error` and
    `unit-unknown`."""
    objections = [*_of_give(said), *_of_tiers(said), *_of_limits(said), *_of_times(said)]
    if objections:
        raise invalid_members([(f"{pointer}{place}", detail) for place, detail in objections])
    for unit in sorted(units_of(said) - known):
        check_unit(unit, config)


def units_of(said: Mapping[str, Any]) -> frozenset[str]:
    """The units that a rule names."""
    limits, conditions = said["limits"] or {}, said["if"] or {}
    parts = (said["give"], limits.get("budget"), conditions.get("min_amount"))
    return frozenset(part["unit"] for part in parts if part and part["unit"] is not None)


def _of_give(said: Mapping[str, Any]) -> list[Objection]:
    give = said["give"]
    found = []
    if give["kind"] == "balance" and (give["fixed"] is None) == (give["percent"] is None):
        found.append(("/give", "Must have either fixed or percent."))
    if give["kind"] != "balance" and give["fixed"] is not None and give["percent"] is not None:
        found.append(("/give", "Must have fixed or percent, not both."))
    if give["kind"] != "balance" and give["label"] is None:
        found.append(("/give/label", "A coupon and what is custom have a label."))
    if (give["fixed"] is None) != (give["unit"] is None):
        found.append(("/give/unit", "Goes with fixed, and with that alone: a percentage is of the event's unit."))
    if give["max"] is not None and give["percent"] is None:
        found.append(("/give/max", "Goes with percent alone."))
    return found


def _of_tiers(said: Mapping[str, Any]) -> list[Objection]:
    give, found, last = said["give"], [], 0
    way = "fixed" if give["fixed"] is not None else "percent" if give["percent"] is not None else None
    for index, tier in enumerate(said["tiers"]):
        if way is None:
            found.append((f"/tiers/{index}", "There are no tiers where nothing is counted."))
        elif tier[way] is None or tier["percent" if way == "fixed" else "fixed"] is not None:
            found.append((f"/tiers/{index}", f"Must have {way}, as give has, and nothing else."))
        if tier["from"] <= last:
            found.append((f"/tiers/{index}/from", "Must be more than the tier before."))
        last = tier["from"]
    return found


def _of_limits(said: Mapping[str, Any]) -> list[Objection]:
    give, budget = said["give"], (said["limits"] or {}).get("budget")
    if budget is None:
        return []
    if give["fixed"] is None and give["percent"] is None:
        return [("/limits/budget", "There is no budget for rewards without a value.")]
    if give["unit"] is not None and give["unit"] != budget["unit"]:
        return [("/limits/budget/unit", "Must be the unit of what is given.")]
    one = [give["max"], give["fixed"], *(tier["fixed"] for tier in said["tiers"])]
    largest = max((value for value in one if value is not None), default=0)
    if budget["amount"] < largest:
        return [("/limits/budget/amount", f"Must be at least {largest}, which one reward may be worth.")]
    return []


def _of_times(said: Mapping[str, Any]) -> list[Objection]:
    starts_at, ends_at = said["starts_at"], said["ends_at"]
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        return [("/ends_at", "Must be after starts_at.")]
    return []


def no_such_rule() -> Problem:
    return Problem("not-found", "There is no such rule.")

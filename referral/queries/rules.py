"""Rules of rewards: statements of `sql/rules.sql`."""

from dataclasses import dataclass
from typing import Any

import orjson

from referral.database import Connection

# What a rule's budget is called among the subjects of its limits; the others are referrers.
BUDGET = "budget"
# Why a rule gives nothing for an event. Of several reasons the first in this order is told.
SKIP_REASONS = (
    "not-referred",
    "disabled",
    "not-yet",
    "ended",
    "condition",
    "unit",
    "times",
    "per-referrer",
    "budget",
    "rejected",
    "suspended",
    "nothing",
)


@dataclass(frozen=True, slots=True)
class KeptRule:
    """A rule in one of its versions; times in ms, `definition` as JSON text."""

    id: str
    version: int
    definition: str
    created_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A version of a rule (its time in ms, its definition as JSON text) and who made it: None, and no `detail` of the
    security event, where it is not recorded any more."""

    version: int
    definition: str
    changed_at: int
    actor_id: str | None
    actor_name: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class MetRule:
    """A rule that an event meets: since when it says so (ms), how many rewards it gave for this referral, and the last of
    their ordinals."""

    id: str
    version: int
    definition: str
    changed_at: int
    last_ordinal: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used up of a limit of a rule: of the budget's amount, or of how many a referrer may get."""

    rule_id: str
    subject: str
    used: int


@dataclass(frozen=True, slots=True)
class UsedLimit:
    """Of which limit of a rule something was used."""

    rule_id: str
    subject: str


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of amounts, which may pass 64 bits, in two parts."""

    millions: int
    rest: int

    @property
    def amount(self) -> int:
        return self.millions * 1_000_000 + self.rest


@dataclass(frozen=True, slots=True)
class Spent(Sum):
    """What a rule gave in a unit, None for what has no value, and in how many rewards."""

    unit: str | None
    count: int


async def insert_rule(conn: Connection, rule_id: str, on_type: str, side: str, now: int) -> None:
    await conn.run("insert_rule", id=rule_id, on_type=on_type, side=side, now=now)


async def insert_rule_version(conn: Connection, rule_id: str, version: int, now: int, definition: str) -> None:
    await conn.run("insert_rule_version", rule_id=rule_id, version=version, now=now, definition=definition)


async def update_rule(conn: Connection, rule_id: str, version: int, on_type: str, side: str) -> None:
    await conn.run("update_rule", rule_id=rule_id, version=version, on_type=on_type, side=side)


async def find_rule(conn: Connection, rule_id: str) -> KeptRule | None:
    return await conn.one("find_rule", KeptRule, rule_id=rule_id)


async def list_rules(conn: Connection, before: tuple[int, str], limit: int) -> list[KeptRule]:
    """Rules made before the cursor (time in ms, id), newest first."""
    return await conn.page("list_rules", KeptRule, before_time=before[0], before_id=before[1], page_size=limit)


async def count_rules(conn: Connection) -> int:
    return await conn.value("count_rules", int) or 0


async def list_rule_versions(conn: Connection, rule_id: str, before: int, limit: int) -> list[KeptRule]:
    """The rule's versions before this one, newest first."""
    return await conn.page("list_rule_versions", KeptRule, rule_id=rule_id, before_version=before, page_size=limit)


async def list_rule_changes(conn: Connection, rule_id: str, before: int, limit: int) -> list[RuleChange]:
    """As `list_rule_versions`, with who made them."""
    return await conn.page("list_rule_changes", RuleChange, rule_id=rule_id, before_version=before, page_size=limit)


async def find_budget_used(conn: Connection, rule_id: str, now: int) -> int:
    """What is used up of the rule's budget in the period that a time (ms) lies in."""
    return await conn.value("find_budget_used", int, rule_id=rule_id, now=now) or 0


async def hold_rules_met(conn: Connection, event_type: str, referee_id: str) -> list[MetRule]:
    """The rules of an event's type. Until the end of the transaction nobody changes a rule; this keeps nobody else out."""
    return await conn.all("hold_rules_met", MetRule, type=event_type, referee_id=referee_id)


async def count_given(conn: Connection, rule_id: str, referee_id: str, side: str) -> int:
    """How many rewards that are not void the rule gave for this referral; no further than to 1,001."""
    return await conn.value("count_given", int, rule_id=rule_id, referee_id=referee_id, side=side) or 0


async def find_free_ordinal(conn: Connection, rule_id: str, referee_id: str, side: str) -> int:
    found = await conn.value("find_free_ordinal", int, rule_id=rule_id, referee_id=referee_id, side=side)
    assert found is not None
    return found


async def list_usage(conn: Connection, event_type: str, referrer_id: str, now: int) -> list[Usage]:
    return await conn.page("list_usage", Usage, type=event_type, referrer_id=referrer_id, now=now)


async def use_limits(conn: Connection, uses: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Use an `amount` of each of these limits (`rule_id`, `subject`, `unit`, `most`, which is at least that) in a period
    (`starts_at`, `ends_at`; ms). Returns the rule and subject of those that had room for it."""
    taken = await conn.all("use_limits", UsedLimit, uses=orjson.dumps(uses).decode())
    return {(one.rule_id, one.subject) for one in taken}


async def give_limits_back(conn: Connection, given: list[dict[str, Any]]) -> None:
    """Give back what rewards (`rule_id`, `referrer_id`, `unit`, `value`, `made_at` in ms) used of their rules' limits;
    those of several rewards are this transaction's."""
    await conn.run("give_limits_back", given=orjson.dumps(given).decode())


async def sum_given(conn: Connection, rule_id: str, unit: str, period: tuple[int, int]) -> Sum | None:
    """What the rule gave in a period (from, to before; ms), in rewards that are not void."""
    return await conn.one("sum_given", Sum, rule_id=rule_id, unit=unit, starts_at=period[0], ends_at=period[1])


async def insert_budget(conn: Connection, rule_id: str, period: tuple[int, int], unit: str, used: int, most: int) -> None:
    """Begin to count a period of the budget, if nobody has."""
    await conn.run("insert_budget", rule_id=rule_id, starts_at=period[0], ends_at=period[1], unit=unit, used=used, most=most)


async def open_referrers_limit(conn: Connection, rule_id: str, referrer_id: str, period: tuple[int, int], most: int) -> None:
    """Begin to count what a referrer gets in a period (from, to before; ms), if nobody has."""
    await conn.run(
        "open_referrers_limit",
        rule_id=rule_id,
        referrer_id=referrer_id,
        starts_at=period[0],
        ends_at=period[1],
        most=most,
    )


async def open_referrers_limits(conn: Connection, rule_id: str, period: tuple[int, int], most: int) -> None:
    await conn.run("open_referrers_limits", rule_id=rule_id, starts_at=period[0], ends_at=period[1], most=most)


async def delete_budgets(conn: Connection, rule_id: str) -> None:
    await conn.run("delete_budgets", rule_id=rule_id)


async def delete_referrers_limits(conn: Connection, rule_id: str) -> None:
    await conn.run("delete_referrers_limits", rule_id=rule_id)


async def list_spent(conn: Connection, rule_id: str) -> list[Spent]:
    """What the rule gave in rewards that are not void, the unit of most of them first."""
    return await conn.page("list_spent", Spent, rule_id=rule_id)

"""The form of a rule: what its fields hold of a definition, and the body of POST /rules that they make.

Money and percentages are read as texts and whole numbers, never as floats. The names of the fields are the JSON pointers of
their members, so that what the schemas object to stands beside them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from referral.clock import rfc_3339
from referral.config import Config
from referral.contract.problems import Problem, invalid_members
from referral.contract.schemas.events import MOST_AMOUNT
from referral.contract.schemas.rules import MOST_TIERS, RuleCreationSchema
from referral.rules.rule_changes import changed_definition, new_definition, units_of
from referral.rules.units import exponent_of
from referral.web.admin_rules import unit_of
from referral.web.admin_texts import Texts
from referral.web.bodies import load

# Rows for tiers that a form has at least.
ROWS = 5
# What is not looked at any further: it would be refused anyway.
LONGEST_FIELD = 8_000
FIELDS = (
    *("name", "on", "to", "times", "give/kind", "give/label", "give/unit", "give/percent", "give/fixed", "give/max"),
    *("hold_days", "approval", "if/min_amount/amount", "if/min_amount/unit", "if/within_days", "if/metadata"),
    *("limits/per_referrer/count", "limits/per_referrer/period", "limits/budget/amount", "limits/budget/period"),
    *("starts_at", "ends_at", "enabled"),
    *(f"tiers/{row}/{name}" for row in range(MOST_TIERS) for name in ("from", "share")),
)
# Fields beside which stands what is wrong with a part that has several.
BESIDE = {
    "give": "give/percent",
    "if": "if/min_amount/amount",
    "if/min_amount": "if/min_amount/amount",
    "limits/budget": "limits/budget/amount",
    "limits/budget/unit": "limits/budget/amount",
    "limits/per_referrer": "limits/per_referrer/count",
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", re.ASCII)
_GROUPED = {"en": re.compile(r"\d{1,3}(,\d{3})+(?=\.|$)"), "ru": re.compile(r"\d{1,3}([ \xa0\u202f]\d{3})+(?=[.,]|$)")}
_DECIMAL = re.compile(r"(\d{1,20})(?:\.(\d{1,20}))?", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def fields_of(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of a rule that a form has, without what is around them."""
    return {name: form[name].strip(" \t\r\n")[:LONGEST_FIELD] for name in FIELDS if form.get(name, "").strip(" \t\r\n")}


def filled(said: Mapping[str, Any], _: Texts, config: Config) -> dict[str, str]:
    """What the fields hold of a definition, as `body_of` reads it."""
    give, conditions, limits = said["give"], said["if"] or {}, said["limits"] or {}
    least, budget, each = conditions.get("min_amount"), limits.get("budget"), limits.get("per_referrer")
    unit = unit_of(said) or units_in(said, config)[0]

    def amount(value: int | None, of: str = unit) -> str | None:
        return None if value is None else _plain(value, exponent_of(of, config), _)

    def percent(value: str | None) -> str | None:
        return None if value is None else value.replace(".", _.point)

    given = {
        "name": said["name"],
        "on": said["on"],
        "to": said["to"],
        "times": said["times"],
        "give/kind": give["kind"],
        "give/label": give["label"],
        "give/unit": unit,
        "give/percent": percent(give["percent"]),
        "give/fixed": amount(give["fixed"]),
        "give/max": amount(give["max"]),
        "hold_days": orjson.dumps(said["hold_days"]).decode().removesuffix(".0").replace(".", _.point),
        "approval": said["approval"],
        "if/min_amount/amount": amount(least["amount"], least["unit"]) if least else None,
        "if/min_amount/unit": least["unit"] if least else unit,
        "if/within_days": conditions.get("within_days"),
        "if/metadata": lines_of(conditions.get("metadata") or {}),
        "limits/per_referrer/count": each["count"] if each else None,
        "limits/per_referrer/period": each["period"] if each else "month",
        "limits/budget/amount": amount(budget["amount"], budget["unit"]) if budget else None,
        "limits/budget/period": budget["period"] if budget else "month",
        "starts_at": _local(said["starts_at"]),
        "ends_at": _local(said["ends_at"]),
        "enabled": "yes" if said["enabled"] else "no",
    }
    for row, tier in enumerate(said["tiers"]):
        given[f"tiers/{row}/from"] = tier["from"]
        given[f"tiers/{row}/share"] = amount(tier["fixed"]) if tier["fixed"] is not None else percent(tier["percent"])
    return {name: str(value) for name, value in given.items() if value is not None}


def units_in(said: Mapping[str, Any] | None, config: Config) -> list[str]:
    """The units that a form offers: those of the setting, and what the rule has of others."""
    known = [one.partition(":")[0] for one in config.rewards.units]
    return known + sorted(units_of(said) - set(known) if said else ())


def definition_in(
    form: Mapping[str, str], former: Mapping[str, Any] | None, _: Texts, config: Config
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body (RuleCreationSchema) that the fields make, and the definition that it makes of the former one, None for a new
    rule. Raises a `validation-error` whose pointers are fields, and `unit-unknown`."""
    body, rows, errors = body_of(form, _, config)
    try:
        if errors:
            raise invalid_members([(f"/{name}", sentence) for name, sentence in errors.items()])
        loaded = load(RuleCreationSchema(), body)
        # The members that a form leaves empty are taken away from the former rule, too.
        made = changed_definition(former, loaded, config) if former is not None else new_definition(loaded, config)
    except Problem as problem:
        raise _beside_fields(problem, rows, _) from None
    return loaded, made


def body_of(form: Mapping[str, str], _: Texts, config: Config) -> tuple[dict[str, Any], list[int], dict[str, str]]:
    """The body that the fields make, the rows of the form that its tiers are in, and what cannot be read, by the field."""
    errors: dict[str, str] = {}
    unit = form.get("give/unit", "")

    def read(name: str, how: Any, *more: Any) -> Any:
        if not form.get(name):
            return None
        try:
            return how(form[name], *more, _)
        except ValueError as error:
            errors[name] = str(error)
            return None

    def amount(name: str, of: str) -> int | None:
        found: int | None = read(name, whole_amount, exponent_of(of, config))
        return found

    is_percent = bool(form.get("give/percent"))
    give = {
        "kind": form.get("give/kind", ""),
        "label": form.get("give/label"),
        "percent": read("give/percent", percentage_in),
        "fixed": amount("give/fixed", unit),
        "max": amount("give/max", unit),
    }
    if form.get("give/fixed"):
        give["unit"] = unit
    tiers, rows = [], []
    for row in range(MOST_TIERS):
        since, share = f"tiers/{row}/from", f"tiers/{row}/share"
        if form.get(since) or form.get(share):
            rows.append(row)
            value = read(share, percentage_in) if is_percent else amount(share, unit)
            tiers.append({"from": read(since, count_in), "percent" if is_percent else "fixed": value})
            if not form.get(since) or not form.get(share):
                errors[share if form.get(since) else since] = _("A tier has both: from which referral on, and how much.")
    least_unit = form.get("if/min_amount/unit", "")
    least, per_referrer = amount("if/min_amount/amount", least_unit), read("limits/per_referrer/count", count_in)
    budget, metadata = amount("limits/budget/amount", unit), read("if/metadata", metadata_in)
    if not form.get("hold_days"):
        errors["hold_days"] = _("Say how many days; 0 for none.")
    body = {
        "name": form.get("name", ""),
        "on": form.get("on", ""),
        "to": form.get("to", ""),
        "times": read("times", count_in),
        "give": give,
        "tiers": tiers,
        "if": {
            "min_amount": None if least is None else {"unit": least_unit, "amount": least},
            "within_days": read("if/within_days", count_in),
            "metadata": metadata or None,
        },
        "hold_days": read("hold_days", days_in),
        "approval": form.get("approval", ""),
        "limits": {
            "per_referrer": None
            if per_referrer is None
            else {"count": per_referrer, "period": form.get("limits/per_referrer/period", "")},
            "budget": None
            if budget is None
            else {"unit": unit, "amount": budget, "period": form.get("limits/budget/period", "")},
        },
        "starts_at": read("starts_at", moment_in),
        "ends_at": read("ends_at", moment_in),
        "enabled": form.get("enabled") == "yes",
    }
    return body, rows, errors


# What is read of one field. Each raises ValueError with a sentence for whoever wrote it.


def whole_amount(text: str, exponent: int, _: Texts) -> int:
    """`25.00` as 2500 of the smallest part, where the unit has two digits behind the point. A comma is the point where the
    language writes it so, and groups of three digits are read as it writes them."""
    found = _DECIMAL.fullmatch(_ungrouped(text, _))
    if not found:
        raise ValueError(_("Write an amount such as %(example)s.", example=_plain(2500, exponent, _)))
    behind = (found[2] or "").rstrip("0")
    if len(behind) > exponent:
        raise ValueError(_("The unit has %(count)s digits behind the point.", count=exponent))
    amount = int(found[1] + behind.ljust(exponent, "0"))
    if amount > MOST_AMOUNT:
        raise ValueError(_("This is more than can be counted."))
    return amount


def percentage_in(text: str, _: Texts) -> str:
    """`12.5`, of what people write: a percent sign may be there, and a comma where the language has it."""
    found = _ungrouped(text.removesuffix("%").rstrip(" \xa0\u202f"), _)
    if not _DECIMAL.fullmatch(found):
        raise ValueError(_("Write a percentage such as %(example)s.", example=f"12{_.point}5"))
    return found


def count_in(text: str, _: Texts) -> int:
    """A whole number that is not negative."""
    found = _ungrouped(text, _)
    if not found.isascii() or not found.isdigit() or len(found) > 12:
        raise ValueError(_("Write a whole number."))
    return int(found)


def days_in(text: str, _: Texts) -> float:
    """A number of days, which may be a fraction."""
    found = _DECIMAL.fullmatch(_ungrouped(text, _))
    if not found or len(found[1]) > 6:
        raise ValueError(_("Write a number of days; a fraction is allowed."))
    return float(found[0]) if found[2] else int(found[1])


def moment_in(text: str, _: Texts) -> str:
    """What a browser's field for a day and time holds, in UTC, as RFC 3339."""
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        return rfc_3339(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000)
    except (ValueError, OverflowError):
        raise ValueError(_("Write a day and a time such as 2027-01-31T12:00, in UTC.")) from None


def metadata_in(text: str, _: Texts) -> dict[str, Any]:
    """The members that lines of `name=value` say. true, false and numbers are no texts; a name or value in quotes is the
    text within them, written as in JSON."""
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, re.split(r"\r\n|\r|\n", text))):
        if line.startswith('"'):
            name, end = _quoted(line, _)
            rest = line[end:].lstrip()
            given = rest.removeprefix("=") if rest.startswith("=") else None
        else:
            name, sign, after = line.partition("=")
            name, given = name.strip(), after if sign else None
        if given is None or not name:
            raise ValueError(_("Write a line for each: name=value."))
        if name in found:
            raise ValueError(_("%(name)s stands there twice.", name=name).unescape())
        found[name] = _value(given.strip(), _)
    return found


def _quoted(text: str, _: Texts) -> tuple[str, int]:
    try:
        found, end = json.JSONDecoder().raw_decode(text)
        # Half of a character is none.
        found.encode()
    except ValueError:
        raise ValueError(_("What begins with a quote must end with one, written as in JSON.")) from None
    return found, end


def _value(text: str, _: Texts) -> Any:
    if text.startswith('"'):
        found, end = _quoted(text, _)
        if text[end:].strip():
            raise ValueError(_("What begins with a quote must end with one, written as in JSON."))
        return found
    if text in ("true", "false"):
        return text == "true"
    try:
        return orjson.loads(text) if _NUMBER.fullmatch(text) else text
    except orjson.JSONDecodeError:
        raise ValueError(_("This number is too large.")) from None


def lines_of(metadata: Mapping[str, Any]) -> str:
    """The lines that `metadata_in` makes the same members of."""
    return "\n".join(f"{_line(name, also='=')}={_line(value)}" for name, value in metadata.items())


def _line(value: Any, also: str = "") -> str:
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    is_plain = (
        value != ""
        and value.isprintable()
        and value.strip() == value
        and not value.startswith('"')
        and not (also and also in value)
        and value not in ("true", "false")
        and not _NUMBER.fullmatch(value)
    )
    return value if is_plain else json.dumps(value)


def _ungrouped(text: str, _: Texts) -> str:
    """The number with a point, without the signs between groups of its digits."""
    grouped = _GROUPED[_.language].match(text)
    if grouped:
        text = re.sub(r"[, \xa0\u202f]", "", grouped[0]) + text[grouped.end() :]
    return text.replace(",", ".") if _.point == "," else text


def _plain(amount: int, exponent: int, _: Texts) -> str:
    """The amount with its point, in one group."""
    whole, rest = divmod(amount, 10**exponent)
    return f"{whole}{_.point}{rest:0{exponent}}" if exponent else str(whole)


def _local(moment: int | None) -> str | None:
    """As a browser's field holds it; seconds only where there are some."""
    return None if moment is None else rfc_3339(moment).removesuffix("Z").removesuffix(":00")


def _beside_fields(problem: Problem, rows: list[int], _: Texts) -> Problem:
    """The problem with the names of fields in the place of pointers, and in the reader's language."""
    if "errors" not in problem.members:
        return problem
    found = [(_field(error["pointer"], rows), _told(error["detail"], _)) for error in problem.members["errors"]]
    return invalid_members([(f"/{field}", sentence) for field, sentence in _first_each(found)])


def _first_each(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    kept: dict[str, str] = {}
    for field, sentence in found:
        kept.setdefault(field, sentence)
    return list(kept.items())


def _field(pointer: str, rows: list[int]) -> str:
    name = pointer.removeprefix("/")
    if name.startswith("if/metadata"):
        return "if/metadata"
    parts = name.split("/")
    if parts[0] == "tiers" and len(parts) > 1 and parts[1].isdigit() and int(parts[1]) < len(rows):
        return f"tiers/{rows[int(parts[1])]}/{'from' if parts[-1] == 'from' else 'share'}"
    return BESIDE.get(name, name)


def _told(detail: str, _: Texts) -> str:
    """What the schemas object to, as somebody at a form reads it."""
    known = {
        "Must have either fixed or percent.": _("Give either a percentage or a fixed amount."),
        "Must have fixed or percent, not both.": _("Give a percentage or a fixed amount, not both."),
        "A coupon and what is custom have a label.": _("Say what your product delivers."),
        "Goes with percent alone.": _("This goes with a percentage alone."),
        "There are no tiers where nothing is counted.": _("Tiers go with a percentage or a fixed amount."),
        "Must be more than the tier before.": _("Must be more than in the tier before."),
        "There is no budget for rewards without a value.": _("A budget goes with a percentage or a fixed amount."),
        "Must be after starts_at.": _("It must end after it starts."),
        "A refund earns nothing.": _("A refund earns nothing."),
        "Must be a text of 1 to 100 printable characters.": _("Write 1 to 100 characters, in one line."),
        "Must begin with a-z, and have up to 64 of a-z, 0-9, '.', '_' and '-'.": _(
            "Write the event's type as your product reports it: a-z first, then up to 63 of a-z, 0-9, '.', '_' and '-'."
        ),
        'Must be a text such as "20" or "12.5": above 0, up to 100, with at most four decimals.': _(
            "Must be more than 0 and at most 100, with at most four digits behind the point."
        ),
        "Must be a number of days from 0 to 365.": _("Must be between 0 and 365 days."),
        "Must be between 1 and 1000.": _("Must be between 1 and 1,000."),
        "Must be between 0 and 36500.": _("Must be between 0 and 36,500."),
        "Must be between 1 and 1000000000.": _("Must be between 1 and 1,000,000,000."),
        f"Must be between 1 and {MOST_AMOUNT}.": _("Must be more than 0."),
    }
    if detail.endswith("which one reward may be worth."):
        return _("Must be at least what one reward may be worth.")
    return known.get(detail, detail)

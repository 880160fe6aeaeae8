"""Rules as the back office says them: one plain sentence, their state, their members, and what a change changes.

All of it is made of a definition (RuleSchema, as a dictionary) and the reader's texts; nothing is asked of a database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from referral.config import Config
from referral.contract.schemas.rules import warnings_of
from referral.rules.units import exponent_of
from referral.web.admin_people import theirs
from referral.web.admin_texts import NO_BREAK, Texts

Said = Mapping[str, Any]
# Without a value: of a member that says nothing.
NOTHING = Markup("\u2013")


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a rule, as it is read."""

    label: Markup
    value: Markup


@dataclass(frozen=True, slots=True)
class Difference:
    """A member that a change changed, before and after it."""

    label: Markup
    before: Markup
    after: Markup


def state_of(said: Said, now: int) -> str:
    """`enabled`, `disabled`, `not-yet` or `ended`, at a time (ms)."""
    if not said["enabled"]:
        return "disabled"
    if said["ends_at"] is not None and now >= said["ends_at"]:
        return "ended"
    return "not-yet" if said["starts_at"] is not None and now < said["starts_at"] else "enabled"


def state_told(said: Said, now: int, _: Texts) -> Markup:
    """What the state means, in a sentence."""
    state = state_of(said, now)
    if state == "disabled":
        return _("It gives nothing until somebody enables it.")
    if state == "ended":
        return _("It gives nothing for what happened at %(time)s or later.", time=moment(said["ends_at"]))
    if state == "not-yet":
        return _("It gives nothing for what happens before %(time)s.", time=moment(said["starts_at"]))
    return _("It rewards each event that fits as soon as it is reported.")


def sentence_of(said: Said, _: Texts, config: Config) -> Markup:
    """The whole rule in one sentence, without its name and state."""
    parts = [
        _("%(when)s, %(gets)s, %(release)s", when=_when(said, _), gets=_gets(said, _, config), release=_release(said, _)),
        *_tiers(said, _, config),
    ]
    conditions = _conditions(said, _, config)
    if conditions:
        parts.append(_("it counts only if %(conditions)s", conditions=Markup(" {} ").format(_("and")).join(conditions)))
    parts += _limits(said, _, config)
    if said["starts_at"] is not None:
        parts.append(_("from %(time)s on", time=moment(said["starts_at"])))
    if said["ends_at"] is not None:
        parts.append(_("until %(time)s", time=moment(said["ends_at"])))
    return Markup("; ").join(parts) + "."


def warnings_told(said: Said, _: Texts) -> list[Markup]:
    """What may be amiss with the rule."""
    known = {
        "A sign-up costs nothing: without a hold, whoever makes accounts is rewarded at once.": _(
            "A sign-up costs nothing: without a hold, whoever makes accounts is rewarded at once."
        )
    }
    return [known.get(warning) or Markup.escape(warning) for warning in warnings_of(said)]


def members_of(said: Said, _: Texts, config: Config) -> list[Member]:
    """All members of the rule, in the order of its form."""
    give, limits = said["give"], said["limits"] or {}
    budget, per_referrer = limits.get("budget"), limits.get("per_referrer")
    found = [
        (_("Name of the rule"), theirs(said["name"])),
        (_("Enabled"), _("yes") if said["enabled"] else _("no")),
        (_("Event"), Markup("<code>{}</code>").format(said["on"])),
        (_("Who gets it"), side_word(said["to"], _)),
        (_("How often for one friend"), _("each time") if said["times"] is None else Markup.escape(_.number(said["times"]))),
        (_("What is given"), kind_word(give["kind"], _)),
        (_("What the product delivers"), NOTHING if give["label"] is None else theirs(give["label"])),
        (_("How much"), _share(give, give["unit"], _, config) or NOTHING),
        (_("At most"), NOTHING if give["max"] is None else money(give["max"], unit_of(said), _, config)),
        (_("Tiers"), Markup("; ").join(_tiers(said, _, config)) or NOTHING),
        (_("Conditions"), Markup("; ").join(_conditions(said, _, config)) or NOTHING),
        (_("Hold"), days(said["hold_days"], _)),
        (_("Approval"), _("by hand") if said["approval"] == "manual" else _("automatic")),
        (_("Limit for one referrer"), _per_referrer(per_referrer, _) if per_referrer else NOTHING),
        (_("Budget"), _budget(budget, _, config) if budget else NOTHING),
        (_("Starts"), NOTHING if said["starts_at"] is None else Markup.escape(moment(said["starts_at"]))),
        (_("Ends"), NOTHING if said["ends_at"] is None else Markup.escape(moment(said["ends_at"]))),
    ]
    return [Member(label, value) for label, value in found]


def differences_of(former: Said, latter: Said, _: Texts, config: Config) -> list[Difference]:
    """The members in which two versions of a rule differ."""
    pairs = zip(members_of(former, _, config), members_of(latter, _, config), strict=True)
    return [Difference(one.label, one.value, other.value) for one, other in pairs if one.value != other.value]


def unit_of(said: Said) -> str | None:
    """The unit that rewards are in: of what is fixed, or of the only events that are rewarded by a percentage; None for a
    percentage of events in any unit."""
    if said["give"]["unit"] is not None:
        return str(said["give"]["unit"])
    for part in ((said["limits"] or {}).get("budget"), (said["if"] or {}).get("min_amount")):
        if part:
            return str(part["unit"])
    return None


def money(amount: int, unit: str | None, _: Texts, config: Config) -> Markup:
    """The amount with its point and unit, as a text; without a unit, what it comes to in those that there are."""
    units: dict[str, list[str]] = {}
    for one in [unit] if unit is not None else [known.partition(":")[0] for known in config.rewards.units]:
        units.setdefault(_.decimal(amount, exponent_of(one, config)), []).append(one)
    told = [Markup("{}{}{}").format(number, NO_BREAK, "/".join(alike)) for number, alike in units.items()]
    return Markup(" {} ").format(_("or")).join(told)


def moment(milliseconds: int) -> str:
    """`2027-01-31`, with the time of the day unless it is midnight; in UTC."""
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    day, time = at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S").removesuffix(":00")
    return f"{day}{NO_BREAK}UTC" if time == "00:00" else f"{day} {time}{NO_BREAK}UTC"


def days(number: float, _: Texts) -> Markup:
    """So many days, which may be a fraction."""
    if number == int(number):
        return _.plural("%(count)s day", "%(count)s days", int(number))
    return _("%(days)s days", days=_fraction(number, _))


def percentage(percent: str, _: Texts) -> str:
    """`12.5 %` as the language writes it."""
    return f"{percent.replace('.', _.point)}{NO_BREAK if _.language == 'ru' else ''}%"


def side_word(side: str, _: Texts) -> Markup:
    """Who gets it."""
    return _("the referrer") if side == "referrer" else _("the friend")


def kind_word(kind: str, _: Texts) -> Markup:
    """What sort of reward it is."""
    words = {"balance": _("balance"), "coupon": _("coupon"), "custom": _("something else")}
    return words.get(kind) or Markup.escape(kind)


def _fraction(number: float, _: Texts) -> str:
    return f"{Decimal(repr(number)):f}".replace(".", _.point)


def _when(said: Said, _: Texts) -> Markup:
    """What has to happen."""
    event, times = said["on"], said["times"]
    if event == "signup":
        return _("When a referred friend signs up")
    if event == "email-verified":
        return _("When a referred friend verifies their e-mail address")
    if event == "purchase":
        if times == 1:
            return _("When a referred friend makes their first purchase")
        if times is None:
            return _("Each time a referred friend makes a purchase")
        return _.plural(
            "When a referred friend makes their first %(count)s purchase",
            "When a referred friend makes one of their first %(count)s purchases",
            times,
        )
    named = Markup("<code>{}</code>").format(event)
    if times == 1:
        return _("The first time that %(event)s is reported of a referred friend", event=named)
    if times is None:
        return _("Each time %(event)s is reported of a referred friend", event=named)
    return _.plural(
        "The first %(count)s time that %(event)s is reported of a referred friend",
        "Each of the first %(count)s times that %(event)s is reported of a referred friend",
        times,
        event=named,
    )


def _gets(said: Said, _: Texts, config: Config) -> Markup:
    """Who gets what."""
    give = said["give"]
    worth = _share(give, give["unit"], _, config)
    if worth and give["max"] is not None:
        worth = _("%(share)s, at most %(most)s", share=worth, most=money(give["max"], unit_of(said), _, config))
    what = worth or NOTHING
    if give["kind"] != "balance":
        label = theirs(give["label"] or "")
        what = _("the coupon %(label)s", label=label) if give["kind"] == "coupon" else label
        if worth:
            what = _("%(what)s, worth %(value)s", what=what, value=worth)
    if said["to"] == "referrer":
        return _("the referrer gets %(what)s", what=what)
    return _("the friend gets %(what)s", what=what)


def _share(given: Said, unit: str | None, _: Texts, config: Config) -> Markup | None:
    """How much, None where nothing is counted."""
    if given["percent"] is not None:
        return _("%(percent)s of its value", percent=percentage(given["percent"], _))
    return None if given["fixed"] is None else money(given["fixed"], unit, _, config)


def _release(said: Said, _: Texts) -> Markup:
    """When it can be spent."""
    hold, by_hand = said["hold_days"], said["approval"] == "manual"
    if not hold:
        return _("once somebody has approved it") if by_hand else _("at once")
    after = _after(hold, _)
    return _("%(after)s and once somebody has approved it", after=after) if by_hand else after


def _after(hold: float, _: Texts) -> Markup:
    if hold == int(hold):
        return _.plural("after a hold of %(count)s day", "after a hold of %(count)s days", int(hold))
    return _("after a hold of %(days)s days", days=_fraction(hold, _))


def _tiers(said: Said, _: Texts, config: Config) -> list[Markup]:
    return [
        _(
            "%(share)s from the referrer's %(ordinal)s converted referral on",
            share=_share(tier, said["give"]["unit"], _, config) or NOTHING,
            ordinal=_ordinal(tier["from"], _),
        )
        for tier in said["tiers"]
    ]


def _ordinal(number: int, _: Texts) -> str:
    """`21st`, and in Russian `21-го`."""
    if _.language == "ru":
        return f"{_.number(number)}-го"
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{_.number(number)}{ending}"


def _conditions(said: Said, _: Texts, config: Config) -> list[Markup]:
    conditions, found = said["if"] or {}, []
    least, within = conditions.get("min_amount"), conditions.get("within_days")
    if least is not None:
        found.append(_("it is worth at least %(value)s", value=money(least["amount"], least["unit"], _, config)))
    if within is not None:
        found.append(
            _.plural(
                "it comes within %(count)s day of the referral", "it comes within %(count)s days of the referral", within
            )
        )
    for name, value in (conditions.get("metadata") or {}).items():
        found.append(_("%(name)s is %(value)s", name=theirs(name), value=_literal(value, _)))
    return found


def _literal(value: Any, _: Texts) -> Markup:
    if isinstance(value, bool):
        return Markup("<code>{}</code>").format("true" if value else "false")
    if isinstance(value, str):
        return Markup("\u201c{}\u201d").format(theirs(value))
    return Markup("<code>{}</code>").format(value)


def _limits(said: Said, _: Texts, config: Config) -> list[Markup]:
    limits, found = said["limits"] or {}, []
    if limits.get("per_referrer"):
        found.append(_per_referrer(limits["per_referrer"], _))
    if limits.get("budget"):
        found.append(_budget(limits["budget"], _, config))
    return found


def _per_referrer(limit: Said, _: Texts) -> Markup:
    return _.plural(
        "at most %(count)s reward for one referrer's friends %(period)s",
        "at most %(count)s rewards for one referrer's friends %(period)s",
        limit["count"],
        period=period_word(limit["period"], _),
    )


def _budget(budget: Said, _: Texts, config: Config) -> Markup:
    value = money(budget["amount"], budget["unit"], _, config)
    return _("in all at most %(value)s %(period)s", value=value, period=period_word(budget["period"], _))


def period_word(period: str, _: Texts) -> Markup:
    """How often a limit begins anew."""
    words = {"day": _("a day"), "week": _("a week"), "month": _("a month"), "ever": _("over all time")}
    return words.get(period) or Markup.escape(period)

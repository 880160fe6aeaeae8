"""How times and money are shown at the back office."""

from datetime import UTC, datetime

from markupsafe import Markup

from referral.clock import rfc_3339
from referral.config import Config
from referral.rules.units import exponent_of
from referral.web.admin_texts import Texts


def time_of(milliseconds: int | None) -> Markup:
    """A moment in UTC, which a script shows in the reader's zone; a dash for none."""
    if milliseconds is None:
        return Markup("\u2013")
    shown = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(rfc_3339(milliseconds), shown)


def money_of(amount: int, unit: str, texts: Texts, config: Config) -> Markup:
    """An amount with the point where its unit has it, and the unit."""
    shown = texts.decimal(amount, exponent_of(unit, config))
    return Markup('<span class="money">{}\xa0<span class="unit">{}</span></span>').format(shown, unit)

"""The units that values are counted in: those of the setting `rewards.units`."""

from functools import cache

from referral.config import Config
from referral.contract.problems import Problem

# Of an amount that somebody writes.
MOST_DIGITS = 30


def check_unit(unit: str, config: Config) -> None:
    """Raises `unit-unknown`."""
    known = [one.partition(":")[0] for one in config.rewards.units]
    if unit not in known:
        raise Problem("unit-unknown", f"The unit is none of {', '.join(known)}: the setting rewards.units lists them.")


def exponent_of(unit: str, config: Config) -> int:
    """As `known_exponent_of`, to show an amount by; two for what is in neither list, which was a unit once."""
    found = known_exponent_of(unit, config)
    return 2 if found is None else found


def known_exponent_of(unit: str, config: Config) -> int | None:
    """How many digits of an amount in this unit are behind the point: as `rewards.units` says it, else as ISO 4217 does;
    None for what is in neither."""
    for known in config.rewards.units:
        name, _, digits = known.partition(":")
        if name == unit and digits:
            return int(digits)
    # The list of all takes a tenth of a second to read.
    return 2 if unit in ("USD", "EUR", "GBP") else _exponents().get(unit)


@cache
def _exponents() -> dict[str, int]:
    # Imported where it is needed: it takes a while.
    from iso4217 import Currency

    return {currency.code: currency.exponent or 0 for currency in Currency}


def amount_in(text: str, exponent: int) -> int | None:
    """The amount, in the unit's smallest part, of a number such as people write it: 5, 5.00 or 5,00. None for what is none,
    or is finer than the unit."""
    whole, point, rest = text.strip().replace(",", ".").partition(".")
    digits = whole + rest
    if not whole or not (digits.isascii() and digits.isdigit()) or len(digits) > MOST_DIGITS:
        return None
    if len(rest) > exponent or (point and not rest):
        return None
    return int(whole + rest.ljust(exponent, "0"))

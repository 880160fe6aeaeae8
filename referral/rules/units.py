"""The units that values are counted in: those of the setting `rewards.units`."""

from functools import cache

from referral.config import Config
from referral.contract.problems import Problem


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

"""The units that values are counted in: those of the setting `rewards.units`."""

from functools import cache

from referral.config import Config
from referral.contract.problems import Problem


def check_unit(unit: str, config: Config) -> None:
    """Raises `unit-unknown`."""
    known = [one.partition(":")[0] for one in config.rewards.units]
    if unit not in known:
        raise Problem("unit-unknown", f"The unit is none of {', '.join(known)}: the setting rewards.units lists them.")


@cache
def exponent_of(unit: str, configured: tuple[str, ...]) -> int | None:
    """How many decimals a unit has: as `configured` says of one's own, or ISO 4217 of a currency; None for neither."""
    for one in configured:
        name, has_exponent, exponent = one.partition(":")
        if name == unit and has_exponent:
            return int(exponent)
    # The list of all takes a tenth of a second to read.
    if unit in ("USD", "EUR", "GBP"):
        return 2
    from iso4217 import Currency

    return next((int(currency.exponent or 0) for currency in Currency if currency.code == unit), None)

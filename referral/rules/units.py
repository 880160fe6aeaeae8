"""The units that values are counted in: those of the setting `rewards.units`."""

from referral.config import Config
from referral.contract.problems import Problem


def check_unit(unit: str, config: Config) -> None:
    """Raises `unit-unknown`."""
    known = [one.partition(":")[0] for one in config.rewards.units]
    if unit not in known:
        raise Problem("unit-unknown", f"The unit is none of {', '.join(known)}: the setting rewards.units lists them.")

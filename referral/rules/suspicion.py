"""What makes a referral look suspicious. Pure: it knows no connection and no clock."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Signal:
    """A reason to look at a referral: its kind, what it counts (0 to 1,000), and the evidence, as JSON members. The
    reference tells several of one kind apart."""

    kind: str
    weight: int
    evidence: dict[str, Any]
    reference: str = ""
